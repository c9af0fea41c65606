"""A sealed control message that a hub knows in part, or cannot read.

reference node up0 192.0.2.2 ─── 192.0.2.1 wan0 m13-hub
"""

import contextlib
import os
import struct
import time
from collections.abc import Iterator

import pytest

from bench.tunnel import Keys
from tests.netns.victim import Victim, served
from tests.scapy_m13 import CONTROL, M13, Tlv

KEEPALIVE, PROBE, ACK, UNKNOWN = 0, 2, 3, 200
SILENCE_S = 0.15


@pytest.fixture(scope="module")
def victim(request: pytest.FixtureRequest, keys: Keys, rx: str) -> Iterator[Victim]:
    yield from served(request, keys, "--rx", rx, "--keepalive-ms", "20000")


def tlv(kind: int, value: bytes = b"", length: int | None = None) -> bytes:
    return struct.pack("<BH", kind, len(value) if length is None else length) + value


def new_probe() -> bytes:
    """Its id is no other's; the hub's own probes count from one."""
    return b"\xff" + os.urandom(1)


def answer_to(victim: Victim, probe: bytes, wait_s: float) -> int | None:
    """The length that the hub's answer says the probe's frame had."""
    link = victim.node.link
    until = time.monotonic() + wait_s
    with contextlib.suppress(TimeoutError):
        while (left := until - time.monotonic()) > 0:
            link.socket.settimeout(left)
            found = Tlv(bytes(link.receive_sealed(CONTROL)[M13].payload))
            if found.type == ACK and found.value[:2] == probe:
                return int.from_bytes(found.value[2:], "little")
    return None


@pytest.mark.parametrize(
    "before",
    [
        tlv(UNKNOWN),
        tlv(UNKNOWN, os.urandom(5)),
        tlv(UNKNOWN, bytes(1200)),
        tlv(UNKNOWN, tlv(PROBE, b"\0\0")) + tlv(UNKNOWN + 1, b"\xff"),
        tlv(KEEPALIVE) + tlv(UNKNOWN, b"\0") + tlv(KEEPALIVE),
    ],
    ids=["empty", "short", "long", "two", "among known ones"],
)
def test_what_stands_behind_an_unknown_one_is_done(victim: Victim, before: bytes) -> None:
    dropped, probes = victim.drops("control"), victim.counter("path_probes_received")
    probe = new_probe()
    data = victim.node.link.sealed(CONTROL, before + tlv(PROBE, probe))
    victim.node.link.send(data)
    assert answer_to(victim, probe, 2) == len(data)
    assert victim.is_alive()
    assert victim.drops("control") == dropped
    assert victim.counter("path_probes_received") == probes + 1


@pytest.mark.parametrize(
    "template",
    [
        (tlv(PROBE, b"", 3), b""),
        (tlv(UNKNOWN, b"", 0xFFFF) + tlv(PROBE), b"\0\0"),
        (tlv(UNKNOWN, b"", 6) + tlv(PROBE, b"", 2), b""),
        (b"\x02", b""),
        (tlv(UNKNOWN) + b"\x02\x02", b""),
    ],
    ids=["length", "unknown length", "one too long", "type alone", "half a length"],
)
def test_one_that_is_longer_than_its_frame_changes_nothing(
    victim: Victim, template: tuple[bytes, bytes]
) -> None:
    head, tail = template
    probe = new_probe()
    dropped, before = victim.drops("control"), victim.row
    probes = victim.counter("path_probes_received")
    victim.node.link.send(victim.node.link.sealed(CONTROL, head + probe + tail))
    assert answer_to(victim, probe, SILENCE_S) is None
    assert victim.is_alive()
    assert victim.drops("control") == dropped + 1
    assert victim.counter("path_probes_received") == probes
    after = victim.row
    for name in ("slot", "name", "state", "endpoint", "handshakes", "path_mtu"):
        assert after.get(name) == before.get(name), name
