"""From a socket to the other end's network card, with kernels that offload and kernels that do not.

What reaches the internet is compared with what the node's kernel gave to its TUN. With offloads
off at the node's TUN and at net0 both are the kernels' own cutting, and no oracle takes part.
"""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from bench.bed import INTERNET_ADDRESS
from bench.tunnel import Keys
from tests.netns.conftest import Tunnel
from tests.netns.large_packets import (
    LargeCapture,
    assert_checksums_right,
    switch,
    without_offloads,
)
from tests.netns.offload_bed import (
    HUB_RX,
    NODE,
    TUN,
    Passage,
    hub_rx_name,
    mtu_of,
    running,
    watched,
)
from tests.netns.offload_flows import Datagrams, Stream, datagrams, streams
from tests.netns.packet_order import (
    assert_all_there,
    assert_unchanged,
    forwarded,
    is_fragment,
)
from tests.segmenter import TCP, UDP, ip_bytes

HUB_OUTSIDE = "198.51.100.1"
SYN = 0x02
STREAMS = [
    Stream(300_001),
    Stream(100_003, mss=333),
    Stream(50_000, piece_bytes=777, no_delay=True),
]
DATAGRAMS = [Datagrams((17_777,) * 9, 1372), Datagrams((64,) * 9, 1), Datagrams((701,) * 40)]
DATAGRAMS += [Datagrams((10_000,) * 9, 999, dont_fragment=False)]
DIRECTIONS = pytest.mark.parametrize("direction", ["up", "down"])


@pytest.fixture(scope="module", params=HUB_RX, ids=hub_rx_name)
def tunnel(request: pytest.FixtureRequest, keys: Keys) -> Iterator[Tunnel]:
    yield from running(request, keys, *request.param)


def send_all(passage: Passage) -> None:
    streams([(passage.ends, plan) for plan in STREAMS])
    datagrams(passage.ends, DATAGRAMS)


def of_flows(packets: list[bytes], source: str = "") -> list[bytes]:
    """TCP and UDP but SYN, whose segment size the hub lowers; from this address only. What an
    earlier connection still had to say is not of these."""
    begun = {ends_of(packet) for packet in packets if is_syn(packet)}
    assert len(begun) == len(STREAMS)
    return [
        packet
        for packet in packets
        if (packet[9] == UDP or ends_of(packet) in begun)
        and not is_syn(packet)
        and source in ("", ".".join(map(str, packet[12:16])))
    ]


def is_syn(packet: bytes) -> bool:
    return packet[9] == TCP and bool(packet[ip_bytes(packet) + 13] & SYN)


def ends_of(packet: bytes) -> bytes:
    """Protocol, addresses and ports."""
    return packet[9:10] + packet[12:20] + packet[ip_bytes(packet) :][:4]


@pytest.mark.parametrize("node_cuts", [True, False], ids=["TUN offloads", "TUN plain"])
@pytest.mark.parametrize("hub_cuts", [True, False], ids=["net0 offloads", "net0 plain"])
def test_the_internet_gets_what_the_kernel_sent(
    tunnel: Tunnel, hub_cuts: bool, node_cuts: bool
) -> None:
    bed = tunnel.bed
    with ExitStack() as stack:
        if not node_cuts:
            stack.enter_context(without_offloads(bed.node, TUN))
        if not hub_cuts:
            stack.enter_context(without_offloads(bed.hub, "net0"))
        outside = stack.enter_context(LargeCapture(bed.internet, "eth0", ethernet=True))
        passage = stack.enter_context(watched(tunnel, "up"))
        send_all(passage)
    assert bool(passage.cut) == node_cuts
    assert bool(outside.arrived_large) == hub_cuts
    assert passage.joined > 0
    expected = [forwarded(packet, HUB_OUTSIDE) for packet in of_flows(passage.sent, NODE)]
    assert_unchanged(passage.sent, passage.received)
    assert_all_there(expected, of_flows(outside.arrived))
    assert_checksums_right(outside.arrived)


@pytest.mark.parametrize("how", ["large", "plain", "joined by the hub's card"])
def test_the_node_gets_what_the_internet_sent(tunnel: Tunnel, how: str) -> None:
    bed = tunnel.bed
    with ExitStack() as stack:
        if how != "large":
            stack.enter_context(without_offloads(bed.internet, "eth0"))
        if how == "joined by the hub's card":
            switch(bed.hub, "net0", "gro", on=True)
            stack.callback(switch, bed.hub, "net0", "gro", on=False)
        outside = stack.enter_context(LargeCapture(bed.internet, "eth0", ethernet=True))
        passage = stack.enter_context(watched(tunnel, "down"))
        send_all(passage)
    assert bool(outside.left_large) == (how == "large")
    assert bool(passage.cut) == (how != "plain")
    expected = [forwarded(packet) for packet in of_flows(outside.left, INTERNET_ADDRESS)]
    assert_unchanged(passage.sent, passage.received)
    assert_all_there(expected, of_flows(passage.received))
    assert_checksums_right(passage.received)


@DIRECTIONS
@pytest.mark.parametrize("end", ["node", "hub"])
def test_without_offloads_of_the_tun(tunnel: Tunnel, end: str, direction: str) -> None:
    with without_offloads(tunnel.bed.namespaces[end], TUN), watched(tunnel, direction) as passage:
        send_all(passage)
    assert_unchanged(passage.sent, passage.received)
    assert_checksums_right(passage.received)
    assert bool(passage.cut) == ((end, direction) not in (("node", "up"), ("hub", "down")))


@DIRECTIONS
def test_a_smaller_mtu_beyond_the_hub(tunnel: Tunnel, direction: str) -> None:
    """The hub's kernel has to cut anew, or fragment, what was joined."""
    bed = tunnel.bed
    with (
        mtu_of(1000, (bed.hub, "net0"), (bed.internet, "eth0")),
        LargeCapture(bed.internet, "eth0", ethernet=True) as outside,
        watched(tunnel, direction) as passage,
    ):
        streams([(passage.ends, Stream(200_000)), (passage.ends, Stream(50_000, mss=333))])
        datagrams(passage.ends, [Datagrams((1300,) * 30, dont_fragment=False)])
    seen = outside.arrived if direction == "up" else outside.left
    assert max(map(len, seen)) <= 1000
    assert any(map(is_fragment, seen))
    if direction == "down":
        assert_unchanged(passage.sent, passage.received)
