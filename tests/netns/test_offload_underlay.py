"""Large and small MTUs, and network cards that can do nothing, under the tunnel and in it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

import pytest

from bench.bed import Bed
from bench.tunnel import Keys
from tests.netns.conftest import Tunnel
from tests.netns.large_packets import assert_checksums_right, switch
from tests.netns.offload_bed import HUB_RX, hub_rx_name, mtu_of, running, watched
from tests.netns.offload_flows import Datagrams, Stream, datagrams, stream, streams
from tests.netns.packet_order import assert_unchanged

MTU = 1400


@dataclass(frozen=True)
class Underlay:
    """The tunnel's and the network's MTU, and what cards are told to leave off or to do."""

    mtu: int = MTU
    network_mtu: int = 1500
    off: dict[str, tuple[str, ...]] = field(default_factory=dict)
    on: dict[str, tuple[str, ...]] = field(default_factory=dict)


EVERYTHING = ("gro", "gso", "tso", "tx")
UNDERLAYS = {
    "smallest MTU, node's card plain": Underlay(576, off={"node": EVERYTHING}),
    "odd MTU, hub's card plain": Underlay(1333, off={"hub": EVERYTHING}),
    "largest MTU": Underlay(3400, 3498, off={"node": ("gso", "tso")}),
    "cards join": Underlay(on={"node": ("gro",), "hub": ("gro",)}),
}
CASES = [
    pytest.param((name, options), id=f"{name}-{hub_rx_name(options)}")
    for name in UNDERLAYS
    for options in HUB_RX
]


@contextmanager
def laid(underlay: Underlay, bed: Bed) -> Iterator[None]:
    ends = {"node": (bed.node, bed.node_interface), "hub": (bed.hub, bed.hub_interface)}
    for changes, on in ((underlay.off, False), (underlay.on, True)):
        for end, names in changes.items():
            switch(*ends[end], *names, on=on)
    if underlay.network_mtu == 1500:
        yield
        return
    outside = (bed.hub, "net0"), (bed.internet, "eth0")
    with mtu_of(underlay.network_mtu, *ends.values(), *outside):
        yield


@pytest.fixture
def tunnel(request: pytest.FixtureRequest, keys: Keys) -> Iterator[Tunnel]:
    name, options = request.param
    underlay = UNDERLAYS[name]
    own = ("--mtu", str(underlay.mtu), *options)
    yield from running(request, keys, *own, around=partial(laid, underlay))


@pytest.mark.parametrize("tunnel", CASES, indirect=True)
def test_both_ways_unchanged(tunnel: Tunnel, request: pytest.FixtureRequest) -> None:
    mtu = UNDERLAYS[request.node.callspec.params["tunnel"][0]].mtu
    payload = mtu - 28
    plans = [Datagrams((9 * payload + 1,) * 9, payload), Datagrams((payload,) * 50)]
    plans += [Datagrams((64,) * 9, 1), Datagrams((10_000,) * 9, 333, dont_fragment=False)]
    with watched(tunnel, "up") as passage:
        # a train that the kernel cannot cut is lost, tells the node so, and TCP sends it anew
        stream(passage.ends, Stream(100_000))
    for direction in ("up", "down"):
        with watched(tunnel, direction) as passage:
            streams([(passage.ends, Stream(300_001)), (passage.ends, Stream(9999, mss=333))])
            datagrams(passage.ends, plans)
        assert_unchanged(passage.sent, passage.received)
        assert_checksums_right(passage.received)
        assert passage.cut > 0
        assert passage.joined > 0
        assert max(map(len, passage.received)) == mtu
