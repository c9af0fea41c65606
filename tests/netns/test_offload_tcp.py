"""TCP cut and joined on its way through the tunnel: streams intact, packets as they were sent."""

from collections.abc import Iterator

import pytest

from bench.tunnel import Keys
from tests.netns.conftest import Tunnel
from tests.netns.large_packets import assert_checksums_right, without_offloads
from tests.netns.offload_bed import (
    HUB_RX,
    Passage,
    hub_rx_name,
    rules,
    running,
    settings,
    watched,
)
from tests.netns.offload_flows import Stream, stream, streams
from tests.netns.packet_order import assert_part_unchanged, assert_unchanged
from tests.segmenter import TCP, ip_bytes

DIRECTIONS = pytest.mark.parametrize("direction", ["up", "down"])
BYTES = 400_000
MSS_SMALLEST = 88  # TCP_MIN_MSS of Linux
CE, ECT0 = 3, 2
FIN, PSH, URG, ECE, CWR = 0x01, 0x08, 0x20, 0x40, 0x80
KIND_END, KIND_NOP, KIND_SACK = 0, 1, 5


@pytest.fixture(scope="module", params=HUB_RX, ids=hub_rx_name)
def tunnel(request: pytest.FixtureRequest, keys: Keys) -> Iterator[Tunnel]:
    yield from running(request, keys, *request.param)


def tcp_flags(packets: list[bytes]) -> set[int]:
    return {packet[ip_bytes(packet) + 13] for packet in packets if packet[9] == TCP}


def option_kinds(packet: bytes) -> set[int]:
    start = ip_bytes(packet)
    options = packet[start + 20 : start + (packet[start + 12] >> 4) * 4]
    found, at = set(), 0
    while at < len(options) and options[at] != KIND_END:
        found.add(options[at])
        at += 1 if options[at] == KIND_NOP else options[at + 1]
    return found


def assert_whole_and_large(passage: Passage) -> None:
    """Nothing was lost or changed either way, and what was tested did take place."""
    assert_unchanged(passage.sent, passage.received)
    assert_unchanged(passage.answers_sent, passage.answers_received)
    assert_checksums_right(passage.received + passage.answers_received)
    assert passage.cut > 0
    assert passage.joined > 0


@DIRECTIONS
@pytest.mark.parametrize("mss", [MSS_SMALLEST, 333, 1001, 1347, 0])
@pytest.mark.parametrize("timestamps", [0, 1])
def test_bulk_of_any_segment_size(
    tunnel: Tunnel, timestamps: int, mss: int, direction: str
) -> None:
    bed = tunnel.bed
    with (
        settings([bed.node, bed.internet], tcp_timestamps=timestamps),
        watched(tunnel, direction) as passage,
    ):
        stream(passage.ends, Stream(BYTES, mss))
    assert_whole_and_large(passage)
    # 8: the timestamp option
    assert any(8 in option_kinds(packet) for packet in passage.received) == bool(timestamps)


@DIRECTIONS
def test_streams_of_many_sizes_at_once(tunnel: Tunnel, direction: str) -> None:
    sizes = ((700_001, 0), (1, 0), (90_000, 333), (300_000, 1001), (50_000, 89), (1461, 0))
    plans = [Stream(size, mss) for size, mss in sizes for _ in range(2)]
    with watched(tunnel, direction) as passage:
        streams([(passage.ends, plan) for plan in plans])
    assert_whole_and_large(passage)


def test_streams_up_and_down_at_once(tunnel: Tunnel) -> None:
    with watched(tunnel, "up") as up, watched(tunnel, "down") as down:
        ends = [passage.ends for passage in (up, down) for _ in range(3)]
        streams([(each, Stream(300_000 + 7 * i)) for i, each in enumerate(ends)])
    assert_whole_and_large(up)
    assert_whole_and_large(down)


@DIRECTIONS
@pytest.mark.parametrize("piece", [1, 77, 4001])
def test_pushed_pieces_keep_their_borders(tunnel: Tunnel, piece: int, direction: str) -> None:
    plan = Stream(min(300 * piece, BYTES), piece_bytes=piece, no_delay=True)
    with watched(tunnel, direction) as passage:
        stream(passage.ends, plan)
    assert_unchanged(passage.sent, passage.received)
    assert_unchanged(passage.answers_sent, passage.answers_received)
    assert {flag for flag in (FIN, PSH) if any(flag & f for f in tcp_flags(passage.received))} == {
        FIN,
        PSH,
    }


@DIRECTIONS
def test_urgent_data(tunnel: Tunnel, direction: str) -> None:
    with watched(tunnel, direction) as passage:
        stream(passage.ends, Stream(BYTES, piece_bytes=9973, urgent_every=3))
    assert_unchanged(passage.sent, passage.received)
    assert any(flags & URG for flags in tcp_flags(passage.received))


@DIRECTIONS
def test_lost_packets_are_told_and_sent_again(tunnel: Tunnel, direction: str) -> None:
    """Up, the internet loses them; down, the network under the tunnel."""
    bed = tunnel.bed
    if direction == "up":
        where = bed.internet, "prerouting", "tcp dport 1-65535 numgen inc mod 11 5 drop"
    else:
        where = bed.node, "input", "udp sport 443 numgen inc mod 11 5 drop"
    with without_offloads(bed.hub, "net0"), rules(*where), watched(tunnel, direction) as passage:
        stream(passage.ends, Stream(600_000))
    lost = assert_part_unchanged(passage.sent, passage.received)
    assert bool(lost) == (direction == "down")
    assert_unchanged(passage.answers_sent, passage.answers_received)
    assert any(KIND_SACK in option_kinds(packet) for packet in passage.answers_received)


@DIRECTIONS
def test_congestion_marks_survive(tunnel: Tunnel, direction: str) -> None:
    """Marked before the tunnel, so that ECT and CE pass it one way, ECE the other, then CWR."""
    bed = tunnel.bed
    place = (bed.node, "output") if direction == "up" else (bed.hub, "forward")
    rule = "ip ecn ect0 tcp dport 1-65535 numgen inc mod 5 3 ip ecn set ce"
    with (
        settings([bed.node, bed.internet], tcp_ecn=1),
        rules(*place, rule),
        watched(tunnel, direction) as passage,
    ):
        stream(passage.ends, Stream(1_000_000))
    assert_whole_and_large(passage)
    assert {packet[1] & 3 for packet in passage.received} >= {CE, ECT0}
    assert any(flags & ECE for flags in tcp_flags(passage.answers_received))
    assert any(flags & CWR for flags in tcp_flags(passage.received))


@DIRECTIONS
def test_packets_with_ip_options_pass(tunnel: Tunnel, direction: str) -> None:
    """The kernel joins them into large packets as it does others."""
    plan = Stream(BYTES // 2, ip_options=b"\x01" * 4)
    with watched(tunnel, direction) as passage:
        stream(passage.ends, plan)
    assert_unchanged(passage.sent, passage.received)
    assert passage.cut > 0
