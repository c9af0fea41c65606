"""UDP cut by its sender's kernel, by us, and joined: each datagram whole, alone and in its turn."""

from collections.abc import Iterator

import pytest

from bench.tunnel import Keys
from tests.netns.conftest import Tunnel
from tests.netns.large_packets import assert_checksums_right
from tests.netns.offload_bed import HUB_RX, hub_rx_name, running, watched
from tests.netns.offload_flows import Datagrams, datagrams
from tests.netns.packet_order import assert_unchanged, is_fragment

DIRECTIONS = pytest.mark.parametrize("direction", ["up", "down"])
# A kernel that forwards fragments writes into them, and so into what a packet socket saw of them.
TO_AN_END = pytest.mark.parametrize("direction", ["to the hub", "down"])
PAYLOAD_MAX = 1372  # of a datagram in a tunnel MTU of 1400
SEGMENTS_MAX = 64  # UDP_MAX_SEGMENTS of the oldest kernel
SEND_BYTES_MAX = 65507
SENDS = 12
NOPS = b"\x01" * 4

# name: (bytes of a segment, datagrams a send, how much shorter the last one is)
SEGMENTS = {
    "a byte each": (1, SEGMENTS_MAX, 0),
    "two, last of one": (2, SEGMENTS_MAX, 1),
    "odd": (33, SEGMENTS_MAX, 0),
    "odd, shorter last": (333, SEGMENTS_MAX, 100),
    "two to a send": (999, 2, 1),
    "large, last of a byte": (1371, 47, 1370),
    "as large as fits": (PAYLOAD_MAX, 47, 0),
}


@pytest.fixture(scope="module", params=HUB_RX, ids=hub_rx_name)
def tunnel(request: pytest.FixtureRequest, keys: Keys) -> Iterator[Tunnel]:
    yield from running(request, keys, *request.param)


def sends_of(case: str, count: int = SENDS) -> tuple[tuple[int, ...], int]:
    segment, datagram_count, shorter = SEGMENTS[case]
    size = segment * datagram_count - shorter
    assert size <= SEND_BYTES_MAX
    return (size,) * count, segment


def assert_passed(tunnel: Tunnel, direction: str, plans: list[Datagrams], **how: bool) -> None:
    with watched(tunnel, direction, answers=False) as passage:
        datagrams(passage.ends, plans, **how)
    assert_unchanged(passage.sent, passage.received)
    assert_checksums_right(passage.received)
    if any(plan.segment for plan in plans):
        assert passage.cut > 0
        assert passage.joined > 0


@DIRECTIONS
@pytest.mark.parametrize("dont_fragment", [True, False], ids=["DF", "no DF"])
@pytest.mark.parametrize("case", SEGMENTS)
def test_sends_in_segments(tunnel: Tunnel, case: str, dont_fragment: bool, direction: str) -> None:
    plan = Datagrams(*sends_of(case), dont_fragment=dont_fragment)
    assert_passed(tunnel, direction, [plan])


@DIRECTIONS
def test_unconnected_senders(tunnel: Tunnel, direction: str) -> None:
    """Their identifications are all 0 when DF is set."""
    plans = [Datagrams((500,) * 200), Datagrams(*sends_of("odd"))]
    assert_passed(tunnel, direction, plans, connected=False)


@DIRECTIONS
@pytest.mark.parametrize("dont_fragment", [True, False], ids=["DF", "no DF"])
@pytest.mark.parametrize("checksum", [True, False], ids=["checksum", "no checksum"])
def test_single_datagrams_of_every_size(
    tunnel: Tunnel, checksum: bool, dont_fragment: bool, direction: str
) -> None:
    same = Datagrams((700,) * 200, checksum=checksum, dont_fragment=dont_fragment)
    sizes = (*range(0, PAYLOAD_MAX + 1, 7), PAYLOAD_MAX, 1, 0, PAYLOAD_MAX)
    every = Datagrams(sizes, checksum=checksum, dont_fragment=dont_fragment)
    assert_passed(tunnel, direction, [same, every])


@TO_AN_END
@pytest.mark.parametrize("checksum", [True, False], ids=["checksum", "no checksum"])
def test_datagrams_in_fragments(tunnel: Tunnel, checksum: bool, direction: str) -> None:
    """Larger than the MTU, beside a flow of the same addresses that is not."""
    sizes = (PAYLOAD_MAX + 1, 9000, 1480, 2801, 33333, 1400) * 4
    plans = [
        Datagrams(sizes, checksum=checksum, dont_fragment=False),
        Datagrams((700,) * 60, dont_fragment=False),
    ]
    with watched(tunnel, direction, answers=False) as passage:
        datagrams(passage.ends, plans)
    assert_unchanged(passage.sent, passage.received)
    assert sum(map(is_fragment, passage.received)) > 100


@TO_AN_END
def test_flows_in_turn(tunnel: Tunnel, direction: str) -> None:
    """More than are joined side by side, of all kinds, with marks of their own."""
    plans = [Datagrams(*sends_of(case), tos=tos) for tos, case in enumerate(SEGMENTS)]
    plans += [Datagrams((size,) * 30, tos=4) for size in (0, 1, 77, 700, 1371)]
    plans += [
        Datagrams((300,) * 30, checksum=False),
        Datagrams((3000, 11) * 8, dont_fragment=False),
    ]
    assert_passed(tunnel, direction, plans)


@DIRECTIONS
def test_segments_with_ip_options_pass(tunnel: Tunnel, direction: str) -> None:
    """The kernel leaves them to us as it does others."""
    plan = Datagrams(*sends_of("odd"), ip_options=NOPS)
    with watched(tunnel, direction, answers=False) as passage:
        datagrams(passage.ends, [plan])
    assert_unchanged(passage.sent, passage.received)
    assert passage.cut > 0


@DIRECTIONS
def test_packets_with_ip_options_keep_their_turn(tunnel: Tunnel, direction: str) -> None:
    plans = [Datagrams((90,) * 100, ip_options=options) for options in (b"", NOPS, b"")]
    assert_passed(tunnel, direction, plans)
