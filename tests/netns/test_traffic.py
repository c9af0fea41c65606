"""What goes in comes out, unchanged, both ways.

node 10.13.0.2 ═══ tunnel ═══ 10.13.0.1 hub net0 198.51.100.1 ─── 198.51.100.2 internet
"""

import os
import threading
import time
from contextlib import closing

import pytest

from bench import traffic
from bench.bed import INTERNET_ADDRESS
from bench.namespace import Namespace
from native.reactor import ARRIVALS, READS
from tests.netns.capture import raw_packet, raw_socket
from tests.netns.conftest import Tunnel
from tests.sanitized import normal_build_only

NODE, HUB = "10.13.0.2", "10.13.0.1"
TCP_BYTES = 50_000_000
DATAGRAMS = 20_000
PACKETS = 10_000
IN_FLIGHT = 256
MANY_PACKETS = 1_000_000
QUIET_S = 2


@pytest.mark.parametrize("payload", [0, 56, 1372])
def test_ping_both_ways(tunnel: Tunnel, payload: int) -> None:
    bed = tunnel.bed
    for source, address in ((bed.node, HUB), (bed.node, INTERNET_ADDRESS), (bed.internet, NODE)):
        assert len(traffic.ping(source, address, 20, payload)) == 20


def test_tcp_arrives_intact_both_ways(tunnel: Tunnel) -> None:
    bed = tunnel.bed
    assert traffic.tcp(bed.node, bed.internet, INTERNET_ADDRESS, TCP_BYTES).is_intact
    assert traffic.tcp(bed.internet, bed.node, NODE, TCP_BYTES).is_intact


@pytest.mark.parametrize("payload", [16, 64, 1200, 1372])
def test_udp_arrives_intact_both_ways(tunnel: Tunnel, payload: int) -> None:
    bed = tunnel.bed
    assert traffic.udp(bed.node, bed.internet, INTERNET_ADDRESS, DATAGRAMS, payload).is_intact
    assert traffic.udp(bed.internet, bed.node, NODE, DATAGRAMS, payload).is_intact


def test_http_comes_through_nat(tunnel: Tunnel) -> None:
    bed = tunnel.bed
    download = traffic.http_download(bed.node, bed.internet, INTERNET_ADDRESS, 5_000_000)
    assert download.is_intact
    assert download.seen_from == "198.51.100.1"


@pytest.mark.parametrize("direction", ["up", "down"])
def test_packets_of_every_size_are_byte_exact(tunnel: Tunnel, direction: str) -> None:
    bed = tunnel.bed
    if direction == "up":
        sent, received = exchange(bed.node, bed.hub, NODE, HUB)
    else:
        sent, received = exchange(bed.hub, bed.node, HUB, NODE)
    assert len(sent) == PACKETS
    assert {len(packet) for packet in sent} == set(range(20, 1401))
    assert sorted(received) == sorted(sent)


def exchange(
    source: Namespace,
    target: Namespace,
    own: str,
    other: str,
    count: int = PACKETS,
    largest: int = 1400,
) -> tuple[list[bytes], list[bytes]]:
    noise = os.urandom(4096)
    packets = [
        raw_packet(own, other, index + 1, noise[index % 2048 :][: index % (largest - 19)])
        for index in range(count)
    ]
    received: list[bytes] = []
    window = threading.Semaphore(IN_FLIGHT)
    with closing(raw_socket(source)) as sender, closing(raw_socket(target)) as receiver:

        def take() -> None:
            try:
                while len(received) < count:
                    received.append(receiver.recv(65536))
                    window.release()
            except TimeoutError:
                pass

        thread = threading.Thread(target=take)
        thread.start()
        for packet in packets:
            window.acquire(timeout=1)
            sender.sendto(packet, (other, 0))
        thread.join()
    return packets, received


@normal_build_only
def test_a_million_packets_lose_no_frame(tunnel: Tunnel) -> None:
    bed = tunnel.bed

    def passed() -> int:
        counters = tunnel.hub.snapshot()["counters"]
        return int(counters["tun_written_packets"] + counters["tun_read_packets"])

    begin = passed()
    for _ in range(20):
        assert traffic.tcp(bed.node, bed.internet, INTERNET_ADDRESS, 4 * TCP_BYTES).is_intact
        assert traffic.tcp(bed.internet, bed.node, NODE, 4 * TCP_BYTES).is_intact
        if passed() - begin >= MANY_PACKETS:
            break
    assert passed() - begin >= MANY_PACKETS
    assert_nothing_is_lost(tunnel)


def assert_nothing_is_lost(tunnel: Tunnel) -> None:
    """On AF_XDP one slab is shared out, and the shares add up at any moment. A socket's pools are
    all at home once it is quiet; control frames still come and go."""
    gauges = tunnel.hub.snapshot()["gauges"]
    if tunnel.rx == "xdp":
        owners = ("slab_free", "fill_outstanding", "transmit_outstanding", "tun_outstanding")
        queues = ("scheduler_critical", "scheduler_bulk")
        assert sum(gauges[name] for name in owners + queues) == gauges["slab_count"]
        return
    home = {"fill_outstanding": ARRIVALS, "tun_outstanding": READS, "transmit_outstanding": 0}
    home["slab_free"] = gauges["slab_count"]
    until = time.monotonic() + QUIET_S
    while (found := {name: gauges[name] for name in home}) != home and time.monotonic() < until:
        time.sleep(0.05)
        gauges = tunnel.hub.snapshot()["gauges"]
    assert found == home
