"""The tunnel over IPv6: everything a session does, as over IPv4.

    node up0 2001:db8:1::2 ─── 2001:db8:1::1 wan0 hub net0 198.51.100.1 ─── 198.51.100.2 internet

The same veth has 192.0.2.2 ─── 192.0.2.1, for a hub that serves both at once.
"""

import contextlib
import socket
from collections.abc import Iterator

import pytest

from bench import traffic
from bench.bed import HUB_ADDRESS6, INTERNET_ADDRESS, NODE_ADDRESS6, Bed
from bench.tunnel import PORT, Keys, start_hub, start_node
from m13.host import firewall
from tests.netns.conftest import Tunnel, assert_all_frames_accounted, laid_out, nics, wait_endpoint
from tests.netns.test_traffic import HUB, NODE, exchange

TO_HUB = ("--hub", f"[{HUB_ADDRESS6}]:{PORT}")
MTU = 1500 - 40 - 8 - 62


@pytest.fixture(scope="module")
def tunnel6(request: pytest.FixtureRequest, keys: Keys, rx: str) -> Iterator[Tunnel]:
    """A full tunnel to a hub that is behind the node's default route of IPv6."""
    for bed in laid_out(Bed(**nics(request.config))):
        hub = start_hub(bed, keys, "--rx", rx)
        node = start_node(bed, keys, *TO_HUB)
        yield Tunnel(bed, hub, node, rx)
        assert (node.stop(), hub.stop()) == (0, 0), node.log + hub.log
        assert_all_frames_accounted(hub)


def test_hub_and_node_say_where_the_other_is(tunnel6: Tunnel) -> None:
    wait_endpoint(tunnel6.node, f"[{HUB_ADDRESS6}]:{PORT}")
    wait_endpoint(tunnel6.hub, f"[{NODE_ADDRESS6}]:")
    assert f"connecting to [{HUB_ADDRESS6}]:{PORT}" in tunnel6.node.log
    tunnel6.hub.wait_log(rf"from \[{NODE_ADDRESS6}\]:")


def test_tunnel_is_smaller_by_the_larger_header(tunnel6: Tunnel) -> None:
    assert f"MTU {MTU}" in tunnel6.node.log
    largest = MTU - 20 - 8
    assert len(traffic.ping(tunnel6.bed.node, HUB, 5, largest)) == 5


def test_traffic_arrives_intact_both_ways(tunnel6: Tunnel) -> None:
    bed = tunnel6.bed
    assert traffic.tcp(bed.node, bed.internet, INTERNET_ADDRESS, 20_000_000).is_intact
    assert traffic.tcp(bed.internet, bed.node, NODE, 20_000_000).is_intact
    assert traffic.udp(bed.node, bed.internet, INTERNET_ADDRESS, 5_000, 1200).is_intact
    assert traffic.udp(bed.internet, bed.node, NODE, 5_000, 1200).is_intact


def test_packets_are_byte_exact_both_ways(tunnel6: Tunnel) -> None:
    bed = tunnel6.bed
    for source, target, own, other in (
        (bed.node, bed.hub, NODE, HUB),
        (bed.hub, bed.node, HUB, NODE),
    ):
        sent, received = exchange(source, target, own, other, count=2000, largest=MTU)
        assert sorted(received) == sorted(sent)


def test_guard_of_a_full_tunnel_lets_only_the_tunnel_itself_out(tunnel6: Tunnel) -> None:
    """What is on the link goes beside the tunnel, and is refused at once: the hub's other ports."""
    bed = tunnel6.bed
    with bed.node.inside():
        assert f"ip6 daddr {HUB_ADDRESS6} udp dport {PORT} accept" in firewall.run("list ruleset")
        for address in (HUB_ADDRESS6,):
            with contextlib.closing(socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)) as sock:
                sock.settimeout(1)
                sock.connect((address, 9))
                with pytest.raises(OSError, match=r"not permitted|Permission denied"):
                    sock.send(b"outside")
    assert traffic.ping(bed.node, HUB)
