"""The service units: what systemd makes of them, and that what they leave the programs is enough.

node up0 ─── wan0 hub ─── internet
"""

import os
import re
import shutil
import socket
import subprocess
from pathlib import Path

import pytest

from bench import traffic
from bench.bed import INTERNET_ADDRESS, Bed
from bench.namespace import Namespace
from bench.tunnel import SCRIPTS, Keys, Program, start_hub, start_node

DEPLOY = Path(__file__).parents[2] / "deploy"
UNITS = ["m13-hub@.service", "m13-node@.service"]


def setting(unit: str, name: str) -> str:
    (found,) = re.findall(rf"^{name}=(.*)$", (DEPLOY / unit).read_text(), re.MULTILINE)
    return found


@pytest.mark.parametrize("unit", UNITS)
def test_systemd_finds_nothing_wrong_with_a_unit(tmp_path: Path, unit: str) -> None:
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd-analyze is not installed: apt-get install systemd")
    text = (DEPLOY / unit).read_text().replace("/usr/local/bin", str(SCRIPTS))
    instance = tmp_path / unit.replace("@", "@eth1")
    instance.write_text(text)
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(instance)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    mine = [line for line in done.stderr.splitlines() if unit.partition("@")[0] in line]
    assert mine == []


@pytest.mark.parametrize("unit", UNITS)
def test_a_unit_starts_a_command_that_takes_its_words(unit: str) -> None:
    program, *words = setting(unit, "ExecStart").split()
    options = [word for word in words if word.startswith("--")]
    done = subprocess.run(
        [str(SCRIPTS / Path(program).name), "--help"], capture_output=True, text=True, check=True
    )
    assert all(option in done.stdout for option in options)


class Bounded(Bed):
    """A bed whose hub and node get no more capabilities than their units give them."""

    def bind(self) -> None:
        for word, unit in zip(("hub", "node"), UNITS, strict=True):
            names = setting(unit, "CapabilityBoundingSet").lower().replace("cap_", "+").split()
            bound(self.namespaces[word], ",".join(["-all", *names]))


def bound(namespace: Namespace, capabilities: str) -> None:
    spawn = namespace.spawn

    def spawn_bounded(argv: list[str], **options: object) -> object:
        return spawn(["setpriv", "--bounding-set", capabilities, *argv], **options)

    namespace.spawn = spawn_bounded  # type: ignore[method-assign,assignment]


def test_hub_and_node_run_with_the_capabilities_of_their_units(keys: Keys, rx: str) -> None:
    if not shutil.which("setpriv"):
        pytest.skip("setpriv is not installed: apt-get install util-linux")
    with Bounded() as bed:
        bed.bind()
        hub = start_hub(bed, keys, "--rx", rx)
        node = start_node(bed, keys)
        assert len(traffic.ping(bed.node, INTERNET_ADDRESS, 3)) == 3
        for program, unit in zip((hub, node), UNITS, strict=True):
            assert capabilities(program) <= set(
                setting(unit, "CapabilityBoundingSet").lower().split()
            )
        assert (node.stop(), hub.stop()) == (0, 0), node.log + hub.log
        assert bed.changes() == []


def capabilities(program: Program) -> set[str]:
    """The bounding set it really runs with."""
    text = Path(f"/proc/{program.process.pid}/status").read_text()
    (mask,) = re.findall(r"^CapBnd:\s*(\w+)$", text, re.MULTILINE)
    done = subprocess.run(["capsh", f"--decode={mask}"], capture_output=True, text=True, check=True)
    return set(done.stdout.strip().partition("=")[2].split(","))


def test_a_service_manager_hears_of_start_reload_and_end(bed: Bed, keys: Keys) -> None:
    address = bed.directory / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(address))
        manager.settimeout(5)
        os.environ["NOTIFY_SOCKET"] = str(address)
        try:
            hub = start_hub(bed, keys)
        finally:
            del os.environ["NOTIFY_SOCKET"]
        assert manager.recv(100) == b"READY=1"
        hub.process.send_signal(1)
        assert re.fullmatch(rb"RELOADING=1\nMONOTONIC_USEC=\d+", manager.recv(100))
        assert manager.recv(100) == b"READY=1"
        assert hub.stop() == 0
        assert manager.recv(100) == b"STOPPING=1"
