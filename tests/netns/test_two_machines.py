"""One tunnel between two machines: run the suite on both at the same time.

    machine A: pytest tests/netns --role hub  --hub-iface  IFACE --peer-host B
    machine B: pytest tests/netns --role node --node-iface IFACE --peer-host A

    A: internet ─── hub IFACE 192.0.2.1 ═══ cable ═══ 192.0.2.2 IFACE node :B

IFACE moves into a namespace and back. Keys and results go over the hosts' own network, TCP port
4413 on A; on loopback both may be one machine.
"""

import json
import socket
import time
from collections.abc import Iterator
from typing import Any, TextIO

import pytest

from bench import traffic
from bench.bed import INTERNET_ADDRESS, Bed
from bench.tunnel import Keys, start_hub, start_node
from tests.netns.conftest import assert_all_frames_accounted, laid_out

CONTROL_PORT = 4413
MEET_S = 60
HTTP_BYTES = 8_000_000
HUB, NODE = "10.13.0.1", "10.13.0.2"


class Companion:
    """A line of JSON each way at a time."""

    def __init__(self, sock: socket.socket) -> None:
        sock.settimeout(MEET_S)
        with sock:  # the file holds it from here on
            self._file: TextIO = sock.makefile("rw")

    def close(self) -> None:
        self._file.close()

    def tell(self, message: Any) -> None:
        self._file.write(json.dumps(message) + "\n")
        self._file.flush()

    def hear(self) -> Any:
        return json.loads(self._file.readline())


@pytest.fixture
def role(request: pytest.FixtureRequest) -> str:
    return str(request.config.getoption("--role"))


@pytest.fixture
def companion(request: pytest.FixtureRequest, role: str) -> Iterator[Companion]:
    host = request.config.getoption("--peer-host")
    assert host, "--role needs --peer-host"
    if role == "hub":
        with socket.create_server(("", CONTROL_PORT)) as listener:
            listener.settimeout(MEET_S)
            sock = listener.accept()[0]
    else:
        sock = connect_patiently(host)
    companion = Companion(sock)
    yield companion
    companion.close()


def connect_patiently(host: str) -> socket.socket:
    until = time.monotonic() + MEET_S
    while True:
        try:
            return socket.create_connection((host, CONTROL_PORT), 2)
        except OSError:
            assert time.monotonic() < until, f"nobody answers on {host}:{CONTROL_PORT}"
            time.sleep(0.2)


@pytest.fixture
def side(request: pytest.FixtureRequest, role: str) -> Iterator[Bed]:
    nic = request.config.getoption(f"--{role}-iface")
    assert nic, f"--role {role} needs --{role}-iface"
    yield from laid_out(Bed(role=role, **{f"{role}_nic": nic}))


def test_a_tunnel_between_two_machines(
    role: str, companion: Companion, side: Bed, keys: Keys
) -> None:
    if role == "hub":
        serve(companion, side, keys)
    else:
        join(companion, side, keys)


def serve(companion: Companion, bed: Bed, keys: Keys) -> None:
    keys.roster.write_text(f'[[node]]\nname = "node"\nkey = "{companion.hear()}"\n')
    hub = start_hub(bed, keys)
    companion.tell(keys.fingerprints["hub"])
    assert companion.hear() == "up"
    assert len(traffic.ping(bed.internet, NODE, 100)) == 100
    with traffic.serve_http(bed.internet, HTTP_BYTES) as (port, digest):
        companion.tell([port, digest])
        assert companion.hear() == "done"
    assert hub.stop() == 0
    assert_all_frames_accounted(hub)


def join(companion: Companion, bed: Bed, keys: Keys) -> None:
    companion.tell(keys.fingerprints["node"])
    node = start_node(bed, keys, "--hub-key", companion.hear())
    companion.tell("up")
    port, digest = companion.hear()
    assert len(traffic.ping(bed.node, HUB, 100)) == 100
    received, seen_from = traffic.fetch_http(bed.node, INTERNET_ADDRESS, port)
    assert (received, seen_from) == (digest, "198.51.100.1")
    companion.tell("done")
    assert node.stop() == 0
