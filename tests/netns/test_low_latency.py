"""A tunnel with --low-latency, and what the kernel is asked while packets flow.

node ── hub ── internet          the wish is the machine's: it has no namespace
"""

import struct
import time
from pathlib import Path

import pytest

from bench import traffic
from bench.bed import INTERNET_ADDRESS, Bed
from bench.tunnel import Keys, start_hub, start_node
from m13.host import wakefulness

PATIENCE_S = 5


def asked_us() -> int:
    return int(struct.unpack("i", Path(wakefulness.DEVICE).read_bytes())[0])


@pytest.mark.parametrize("end", ["hub", "node"])
def test_cores_are_kept_awake_by_traffic_and_let_go_at_the_end(
    bed: Bed, keys: Keys, end: str
) -> None:
    before = asked_us()
    hub = start_hub(bed, keys, *(["--low-latency"] if end == "hub" else []))
    node = start_node(bed, keys, *(["--low-latency"] if end == "node" else []))
    until = time.monotonic() + PATIENCE_S
    while asked_us() != wakefulness.LATENCY_US and time.monotonic() < until:
        assert traffic.ping(bed.node, INTERNET_ADDRESS)
    assert asked_us() == wakefulness.LATENCY_US
    assert (node.stop(), hub.stop()) == (0, 0)
    assert asked_us() == before
