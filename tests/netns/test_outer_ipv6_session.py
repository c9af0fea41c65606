"""Sessions over IPv6 go on as over IPv4: another address, new keys, restarts of either end.

    node up0 2001:db8:1::2 ─── 2001:db8:1::1 wan0 hub net0 198.51.100.1 ─── 198.51.100.2 internet

The same veth has 192.0.2.2 ─── 192.0.2.1, for a hub that serves both at once.
"""

import signal
import time

from bench import traffic
from bench.bed import INTERNET_ADDRESS, NODE_ADDRESS6, Bed
from bench.tunnel import Keys, start_hub, start_node
from tests.netns.conftest import assert_all_frames_accounted, wait_endpoint
from tests.netns.test_outer_ipv6 import TO_HUB
from tests.netns.test_session import QUICK, end, wait_ping
from tests.netns.test_traffic import HUB

OTHER_ADDRESS6 = "2001:db8:1::77"


def test_peer_roams_to_another_address(bed: Bed, keys: Keys, rx: str) -> None:
    """The kernel sends from another address as soon as the first is gone, and the hub's asks for
    its MAC: the guard of a full tunnel leaves neighbour discovery alone."""
    hub = start_hub(bed, keys, "--rx", rx, *QUICK)
    node = start_node(bed, keys, *TO_HUB)
    bed.node.address("up0", f"{OTHER_ADDRESS6}/64")
    with bed.node.netlink() as netlink:
        index = bed.node.interface_index("up0")
        netlink.addr("del", index=index, address=NODE_ADDRESS6, prefixlen=64)
    moved = hub.wait_log(r"node \(10\.13\.0\.2\) moved to (\S+)")
    assert moved[1].startswith(f"[{OTHER_ADDRESS6}]:")
    assert len(traffic.ping(bed.node, HUB, 5)) == 5
    assert "E_PEER_TIMEOUT" not in node.log + hub.log
    with bed.node.netlink() as netlink:
        netlink.addr("del", index=index, address=OTHER_ADDRESS6, prefixlen=64)
    bed.node.address("up0", f"{NODE_ADDRESS6}/64")
    assert (node.stop(), hub.stop()) == (0, 0)


def test_rekeying_and_restarts(bed: Bed, keys: Keys, rx: str) -> None:
    hub = start_hub(bed, keys, "--rx", rx, *QUICK)
    end(start_node(bed, keys, *TO_HUB), signal.SIGKILL)
    node = start_node(bed, keys, *TO_HUB, "--rekey-seconds", "5")
    until = time.monotonic() + 6
    while time.monotonic() < until:
        assert len(traffic.ping(bed.node, INTERNET_ADDRESS, 50)) == 50
    assert "session renewed" in node.log
    end(hub, signal.SIGKILL)
    hub = start_hub(bed, keys, "--rx", rx, *QUICK)
    wait_ping(bed)
    assert (node.stop(), hub.stop()) == (0, 0)
    assert_all_frames_accounted(hub)


def test_hub_serves_both_families_at_once(bed: Bed, keys: Keys, rx: str) -> None:
    """A node that comes by the other moves its session there; the tunnel's MTU follows."""
    hub = start_hub(bed, keys, "--rx", rx)
    for options, endpoint, mtu in (
        ((), "192.0.2.2:", 1400),
        (TO_HUB, f"[{NODE_ADDRESS6}]:", 1390),
        ((), "192.0.2.2:", 1400),
    ):
        node = start_node(bed, keys, *options)
        wait_endpoint(hub, endpoint)
        assert f"MTU {mtu}" in node.log
        assert len(traffic.ping(bed.node, HUB, 3)) == 3
        assert node.stop() == 0
    assert hub.stop() == 0
