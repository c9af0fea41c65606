"""Admission by a registry: enrolled and admitted nodes come in, inert ones are told why not, and
revoked ones are cut off, all while one hub runs.

node up0 192.0.2.2 ─── 192.0.2.1 wan0 hub
"""

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.bed import HUB_ADDRESS, Bed
from bench.tunnel import PORT, SCRIPTS, Keys, Program, start_hub
from hub.steering import OBJECT
from tests.hub.registry.postgresql import Server, binaries
from tests.netns.conftest import assert_all_frames_accounted

HUB_TUNNEL_ADDRESS = "10.13.0.1"
CUT_S = 1.0


class Desk:
    """The registry of one test, by the command line as an operator has it."""

    def __init__(self, keys: Keys, folder: Path, location: str) -> None:
        self.keys, self.folder, self.location = keys, folder, location
        self.environment = {
            **os.environ,
            "M13_REGISTRY": self.location,
            "M13_STORE": str(folder / "artifacts"),
            "M13_OPERATOR_KEY": str(folder / "operator"),
        }
        self.m13("keygen", str(folder / "operator"))
        public = f"ann={folder / 'operator.pub'}"
        self.m13("registry", "init", "--operator", public, "--identity", str(keys.identity("hub")))
        self.m13("registry", "gate", "open", "all")

    def m13(self, *words: str, status: int = 0) -> str:
        command = [str(SCRIPTS / "m13"), *words]
        done = subprocess.run(
            command, capture_output=True, text=True, env=self.environment, timeout=30
        )
        assert done.returncode == status, done.stderr
        return done.stdout

    def enroll(self, name: str) -> str:
        request = self.folder / f"{name}.request"
        self.m13(
            "enroll", str(request), "--identity", str(self.keys.identity(name)), "--name", name
        )
        return str(request)


@pytest.fixture
def desk(keys: Keys, tmp_path: Path) -> Desk:
    return Desk(keys, tmp_path, str(tmp_path / "registry.db"))


@pytest.fixture
def desk_of_many(keys: Keys, tmp_path: Path) -> Iterator[Desk]:
    """A registry on PostgreSQL, as several hubs share one."""
    if binaries() is None:
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    with Server() as server:
        yield Desk(keys, tmp_path, server.url(server.create()))


def connect(bed: Bed, keys: Keys, name: str) -> Program:
    trust = ["--identity", str(keys.identity(name)), "--hub-key", keys.fingerprints["hub"]]
    node = Program(bed, bed.node, "node", ["--hub", f"{HUB_ADDRESS}:{PORT}", "--tunnel", *trust])
    node.wait_log(r"\btunnel [0-9.]+/\d+, MTU")
    return node


def ping(bed: Bed, count: int = 1) -> int:
    """Answers of the hub's tunnel address."""
    command = ["ping", "-c", str(count), "-i", "0.05", "-W", "1", HUB_TUNNEL_ADDRESS]
    with bed.node.inside():
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.count("bytes from")


def test_a_node_admitted_on_a_running_hub_connects_and_is_cut_when_revoked(
    bed: Bed, keys: Keys, desk: Desk
) -> None:
    admitted_and_revoked(bed, keys, desk, "xdp")


def test_the_same_with_a_registry_of_several_hubs(bed: Bed, keys: Keys, desk_of_many: Desk) -> None:
    admitted_and_revoked(bed, keys, desk_of_many, "udp")


def admitted_and_revoked(bed: Bed, keys: Keys, desk: Desk, rx: str) -> None:
    hub = start_hub(bed, keys, "--registry", desk.location, "--rx", rx)
    assert "0 nodes admitted" in hub.log
    request = desk.enroll("node")
    desk.m13("admit", request)
    hub.wait_log(r"roster changed: 1 nodes admitted", 2)
    node = connect(bed, keys, "node")
    assert ping(bed, 3) == 3
    hub.process.send_signal(signal.SIGHUP)
    hub.wait_log("the registry is followed anyway", 2)
    fingerprint = keys.fingerprints["node"]
    active = desk.m13("registry", "list", "--status", "active", "--json")
    assert [row["identity"] for row in json.loads(active)] == [fingerprint]

    told = time.monotonic()
    desk.m13("registry", "revoke", fingerprint)
    returned = time.monotonic()
    hub.wait_log(r"E_PEER_EXPELLED node ", CUT_S)
    took = time.monotonic() - returned
    assert took < CUT_S, (took, returned - told)
    assert ping(bed) == 0
    hub.wait_log(rf"refused: .*{_escaped(fingerprint)} \(REVOKED: ", 15)
    assert hub.snapshot()["gauges"]["peers_established"] == 0
    assert (node.stop(), hub.stop()) == (0, 0), node.log + hub.log
    assert_all_frames_accounted(hub)


def _escaped(fingerprint: str) -> str:
    return fingerprint.replace("+", r"\+")


def test_an_inert_node_is_refused_with_a_code_to_look_up(bed: Bed, keys: Keys, desk: Desk) -> None:
    hub = start_hub(bed, keys, "--registry", desk.location)
    desk.m13("admit", desk.enroll("node"), "--inert")
    trust = ["--identity", str(keys.identity("node")), "--hub-key", keys.fingerprints["hub"]]
    argv = ["--hub", f"{HUB_ADDRESS}:{PORT}", "--tunnel", *trust]
    node = Program(bed, bed.node, "node", argv)
    line = hub.wait_log(r"refused: .*\((\w+): 'm13 registry explain (\w+)'\)", 10)
    assert (line[1], line[2]) == ("REGISTERED_INERT", "REGISTERED_INERT")
    assert "not active" in desk.m13("registry", "explain", line[1])
    # and what the text says to do lets the same node in, without a restart of anything
    desk.m13("registry", "activate", "node")
    node.wait_log(r"\btunnel [0-9.]+/\d+, MTU", 15)
    assert ping(bed) == 1
    # shut out for now, and let in again
    desk.m13("registry", "deactivate", "node")
    hub.wait_log(r"E_PEER_EXPELLED node ", CUT_S)
    assert ping(bed) == 0
    desk.m13("registry", "activate", "node")
    until = time.monotonic() + 30
    while ping(bed) == 0:
        assert time.monotonic() < until, hub.log + node.log
    assert (node.stop(), hub.stop()) == (0, 0), node.log + hub.log
    assert_all_frames_accounted(hub)
    desk.m13("registry", "audit", "verify")
    # the hub signed checkpoints by itself
    assert json.loads(desk.m13("registry", "audit", "verify", "--json"))["checkpoints"] >= 1


def test_a_hub_or_object_the_registry_does_not_know_does_not_serve(
    bed: Bed, keys: Keys, desk: Desk
) -> None:
    other = desk.folder / "another.o"
    other.write_bytes(OBJECT.read_bytes() + b"\0")
    desk.m13("admit", str(other))
    hub = start_hub(bed, keys, "--registry", desk.location, wait=False)
    assert hub.process.wait(10) == 5
    assert "XDP_OBJECT_NOT_ACTIVE" in hub.log
    desk.m13("admit", str(OBJECT))
    hub = start_hub(bed, keys, "--registry", desk.location)
    assert hub.stop() == 0
