"""`--relay`: packets from node to node do not pass the hub's kernel.

node  203.0.113.2   ─┐
                     router 192.0.2.254 ─── 192.0.2.1 hub --relay ─── 198.51.100.2 internet
node2 203.0.113.130 ─┘                      its TUN is watched
"""

import contextlib
import os
import socket
from collections.abc import Iterator

import pytest

from bench import traffic
from bench.bed import INTERNET_ADDRESS, Bed
from bench.namespace import Namespace
from bench.tunnel import Keys, tunnel_address
from tests.netns.capture import Capture, raw_packet, raw_socket
from tests.netns.conftest import assert_all_frames_accounted, laid_out
from tests.netns.packet_order import forwarded
from tests.netns.test_inner import TUN, Site, start_site

NODE, NODE2, HUB = tunnel_address("node"), tunnel_address("node2"), "10.13.0.1"
BYTES = 10_000_000
QUIET_S = 0.2


@pytest.fixture(scope="module")
def site(keys: Keys, rx: str) -> Iterator[Site]:
    for bed in laid_out(Bed(nodes=2)):
        found, programs = start_site(bed, keys, "--rx", rx, "--relay")
        yield found
        assert [program.stop() for program in programs] == [0, 0, 0]
        assert_all_frames_accounted(found.hub)


def ends(address: str) -> bytes:
    return socket.inet_pton(traffic.family_of(address), address)


@contextlib.contextmanager
def unseen_by_the_kernel(site: Site, *addresses: str) -> Iterator[None]:
    """No packet with any of these addresses passes the hub's TUN meanwhile, while others do."""
    before = site.hub.snapshot()["counters"]["relayed_packets"]
    with Capture(site.bed.hub, TUN, outgoing=True) as seen:
        assert traffic.ping(site.bed.internet, NODE, 3)
        yield
        seen.settle()
    assert any(ends(INTERNET_ADDRESS) in packet[:40] for packet in seen.frames)
    both = [packet for packet in seen.frames if all(ends(a) in packet[:40] for a in addresses)]
    assert both == []
    assert site.hub.snapshot()["counters"]["relayed_packets"] > before


def test_streams_and_datagrams_pass_both_ways(site: Site) -> None:
    bed = site.bed
    with unseen_by_the_kernel(site, NODE, NODE2):
        assert traffic.tcp(bed.node, bed.node2, NODE2, BYTES).is_intact
        assert traffic.tcp(bed.node2, bed.node, NODE, BYTES).is_intact
        assert traffic.udp(bed.node, bed.node2, NODE2, 3000).is_intact


def test_ipv6_passes_both_ways(site: Site) -> None:
    bed = site.bed
    with unseen_by_the_kernel(site, site.node6, site.node2_6):
        assert traffic.tcp(bed.node, bed.node2, site.node2_6, BYTES).is_intact
        assert traffic.udp(bed.node2, bed.node, site.node6, 3000).is_intact


def test_the_rest_takes_the_kernels_way(site: Site) -> None:
    bed = site.bed
    assert traffic.tcp(bed.node, bed.internet, INTERNET_ADDRESS, BYTES).is_intact
    assert traffic.tcp(bed.internet, bed.node2, NODE2, BYTES).is_intact
    assert len(traffic.ping(bed.node, HUB, 5)) == 5


@pytest.mark.parametrize("size", [0, 1, 500, 1380])
def test_a_packet_arrives_byte_exact_with_one_hop_less(site: Site, size: int) -> None:
    packet = raw_packet(NODE, NODE2, 77, os.urandom(size))
    with unseen_by_the_kernel(site, NODE, NODE2):
        assert sent(site.bed.node, site.bed.node2, packet) == forwarded(packet)


def sent(source: Namespace, target: Namespace, packet: bytes) -> bytes:
    """As it arrives."""
    destination = socket.inet_ntoa(packet[16:20])
    with (
        contextlib.closing(raw_socket(source)) as sender,
        contextlib.closing(raw_socket(target)) as receiver,
    ):
        sender.sendto(packet, (destination, 0))
        return receiver.recv(65536)


def test_a_packet_without_a_hop_left_is_told_of_by_the_kernel(site: Site) -> None:
    with site.bed.node.inside():
        listener = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
        sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with listener, sender:
        listener.settimeout(2)
        sender.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 1)
        sender.sendto(b"?", (NODE2, 9))
        answer, source = listener.recvfrom(4096)
    assert source[0] == HUB
    assert answer[20] == 11  # time exceeded, RFC 792
