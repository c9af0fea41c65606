"""Any path MTU under the tunnel: found from within, and nothing is lost for its size.

    node  up0 203.0.113.2   ─┐ 203.0.113.1
                             router (the relay, UDP 443) 192.0.2.254 ─── 192.0.2.1 wan0 hub
    node2 up0 203.0.113.130 ─┘

The relay drops what is larger than the path, and says nothing: a black hole each way.
"""

import contextlib
import socket
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass

import pytest

from bench import traffic
from bench.bed import INTERNET_ADDRESS, Bed
from bench.namespace import Namespace
from bench.tunnel import Keys, Program, start_hub, start_node
from hub.prefixes import local_subnet6
from tests.netns.capture import raw_packet, raw_socket
from tests.netns.conftest import assert_all_frames_accounted, laid_out
from tests.netns.impair import Relay
from tests.netns.offload_bed import rules

NODE, HUB = "10.13.0.2", "10.13.0.1"
FULL = 1490  # what a tunnel MTU of 1400 needs of the path
HEADERS = 28  # IPv4 and UDP
NOTICED_S = 25
TCP_BYTES = 3_000_000
IP_MTU_DISCOVER, IP_MTU = 10, 14  # linux/in.h
IP_PMTUDISC_DO = 2
IPV6_MTU_DISCOVER, IPV6_MTU = 23, 24  # linux/in6.h
DONT_FRAGMENT = 0x4000


@dataclass(frozen=True)
class Way:
    """A tunnel through the relay."""

    bed: Bed
    hub: Program
    node: Program
    relay: Relay

    def carries(self, path_bytes: int) -> None:
        for direction in ("up", "down"):
            self.relay.impair(direction, bytes_max=path_bytes - HEADERS)


@pytest.fixture(scope="module")
def way(keys: Keys, rx: str) -> Iterator[Way]:
    for bed in laid_out(Bed(nodes=2)):
        hub = start_hub(bed, keys, "--rx", rx)
        with Relay(bed.router) as relay:
            node = start_node(bed, keys, "--hub", relay.address("node"))
            yield Way(bed, hub, node, relay)
            assert (node.stop(), hub.stop()) == (0, 0), node.log + hub.log
        assert_all_frames_accounted(hub)


def path_mtu(program: Program) -> int:
    peers = program.snapshot()["peers"]
    return int(peers[0]["path_mtu_bytes"]) if peers else 0


def keep_talking(way: Way, path_bytes: int) -> None:
    """Until both ends know the path; a path is asked about while packets flow."""
    until = time.monotonic() + NOTICED_S
    while {path_mtu(way.hub), path_mtu(way.node)} != {path_bytes}:
        traffic.ping(way.bed.node, HUB, 1, wait_s=0.2)
        assert time.monotonic() < until, (path_mtu(way.hub), path_mtu(way.node))
        time.sleep(0.05)


def every_size(way: Way, direction: str) -> None:
    """Packets of 20 to 1400 bytes, each as it was sent, and none missing. They may be fragmented:
    of others the sender's own kernel keeps the large ones back once it was told of the path."""
    ends = (way.bed.node, way.bed.hub, NODE, HUB)
    source, target, own, other = ends if direction == "up" else (*ends[1::-1], HUB, NODE)
    noise = bytes(range(256)) * 6
    packets = [
        raw_packet(own, other, size, noise[size % 199 :][: size - 20], 0)
        for size in range(20, 1401)
    ]
    received: list[bytes] = []
    with closing(raw_socket(source)) as sender, closing(raw_socket(target)) as receiver:
        for begin in range(0, len(packets), 100):
            burst = packets[begin : begin + 100]
            for packet in burst:
                sender.sendto(packet, (other, 0))
            received += [receiver.recv(65536) for _ in burst]
    assert sorted(received) == sorted(packets)


def carries_everything(way: Way, path_bytes: int) -> None:
    """A path that shrinks so far is noticed, and then nothing is lost for its size."""
    way.carries(path_bytes)
    keep_talking(way, path_bytes)
    way.node.wait_log(f"path to the hub carries {path_bytes} bytes")
    way.hub.wait_log(rf"path to node \({NODE}\) carries {path_bytes} bytes")
    before = way.hub.snapshot()["counters"]
    every_size(way, "up")
    every_size(way, "down")
    counters = way.hub.snapshot()["counters"]
    for name in ("fragments_sent", "packets_reassembled"):
        assert counters[name] - before[name] >= 1400 - (path_bytes - 90)
    assert way.hub.snapshot()["drops"]["fragment"] == 0
    bed = way.bed
    for ends in ((bed.node, bed.internet, INTERNET_ADDRESS), (bed.internet, bed.node, NODE)):
        assert traffic.tcp(*ends, TCP_BYTES).is_intact
        assert traffic.udp(*ends, 1000, path_bytes - 90 - 28).is_intact


def test_a_path_of_1280_bytes(way: Way) -> None:
    carries_everything(way, 1280)


@pytest.mark.parametrize("fragment", [0, DONT_FRAGMENT])
def test_only_who_says_do_not_fragment_is_told(way: Way, fragment: int) -> None:
    """A rule keeps what is told from the sender's kernel, which would send no more of them."""
    way.carries(1280)
    keep_talking(way, 1280)
    way.node.wait_log("path to the hub carries 1280 bytes")
    node, before = way.bed.node, way.node.snapshot()["counters"]["too_big_told"]
    deaf = rules(node, "input", "icmp type destination-unreachable drop")
    with deaf, closing(raw_socket(node)) as sender, closing(raw_socket(way.bed.hub)) as receiver:
        for number in range(30):
            sender.sendto(raw_packet(NODE, HUB, number + 1, bytes(1300), fragment), (HUB, 0))
        assert [len(receiver.recv(65536)) for _ in range(30)] == [1320] * 30
    time.sleep(0.3)  # until telemetry shows it
    told = way.node.snapshot()["counters"]["too_big_told"] - before
    # a burst of ten, then one each 10 ms: thirty at once are not all answered
    assert told == 0 if not fragment else 1 <= told < 30


def test_senders_over_ipv6_are_told_no_less_than_1280(way: Way, keys: Keys) -> None:
    """1280 is the least MTU there is; over this path such packets too go in pieces."""
    way.carries(1280)
    keep_talking(way, 1280)
    network = local_subnet6(keys.fingerprints["hub"])
    hub, node = str(network[1]), str(network[2])
    ends = (way.bed.node, node), (way.bed.hub, hub)
    for (source, own), (target, address) in (ends, reversed(ends)):
        with (
            closing(udp_socket(target, socket.AF_INET6)) as receiver,
            closing(udp_socket(source, socket.AF_INET6)) as sender,
        ):
            receiver.bind((address, 0))
            sender.bind((own, 0))
            sender.setsockopt(socket.IPPROTO_IPV6, IPV6_MTU_DISCOVER, IP_PMTUDISC_DO)
            sender.connect((address, receiver.getsockname()[1]))
            until = time.monotonic() + 10
            while sender.getsockopt(socket.IPPROTO_IPV6, IPV6_MTU) != 1280:
                assert time.monotonic() < until, sender.getsockopt(socket.IPPROTO_IPV6, IPV6_MTU)
                with contextlib.suppress(OSError):  # once it is told, the first one is refused
                    sender.send(bytes(1400 - 48))
                    assert len(receiver.recv(65536)) == 1400 - 48
                time.sleep(0.05)
            sender.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)  # the last of what it was told
            sender.send(bytes(1280 - 48))
            assert len(receiver.recv(65536)) == 1280 - 48


def test_senders_are_told_what_fits(way: Way) -> None:
    """The kernel keeps what it is told with the route: its own packets fit from then on."""
    way.carries(1280)
    keep_talking(way, 1280)
    bed, fitting = way.bed, 1280 - 90
    for source, target, own, address in (
        (bed.node, bed.hub, NODE, HUB),
        (bed.internet, bed.node, "198.51.100.2", NODE),
    ):
        with closing(udp_socket(target)) as receiver, closing(udp_socket(source)) as sender:
            receiver.bind((address, 0))
            sender.bind((own, 0))
            sender.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DO)
            sender.connect((address, receiver.getsockname()[1]))
            until = time.monotonic() + 10
            while sender.getsockopt(socket.IPPROTO_IP, IP_MTU) != fitting:
                assert time.monotonic() < until, sender.getsockopt(socket.IPPROTO_IP, IP_MTU)
                with contextlib.suppress(OSError):  # once it is told, the first one is refused
                    sender.send(bytes(1400 - 28))
                    assert len(receiver.recv(65536)) == 1400 - 28  # it went through all the same
                time.sleep(0.05)


def udp_socket(namespace: Namespace, family: int = socket.AF_INET) -> socket.socket:
    with namespace.inside():
        sock = socket.socket(family, socket.SOCK_DGRAM)
    sock.settimeout(2)
    return sock


def test_a_path_of_576_bytes(way: Way) -> None:
    carries_everything(way, 576)


def test_loss_and_reordering_confuse_no_pieces(way: Way) -> None:
    """What arrives is what was sent, though pieces come late, twice or not at all."""
    way.carries(576)
    keep_talking(way, 576)
    small = {"bytes_max": 576 - HEADERS}
    way.relay.impair("both", loss=0.05, reorder=0.1, duplicate=0.1, **small)
    packets = [
        raw_packet(NODE, HUB, number + 1, bytes([number % 251]) * 1380, 0) for number in range(400)
    ]
    received: list[bytes] = []
    with closing(raw_socket(way.bed.node)) as sender, closing(raw_socket(way.bed.hub)) as receiver:
        receiver.settimeout(0.5)
        for packet in packets:
            sender.sendto(packet, (HUB, 0))
            time.sleep(0.0005)
        with contextlib.suppress(TimeoutError):
            while True:
                received.append(receiver.recv(65536))
    assert len(received) == len(set(received))
    assert set(received) <= set(packets)
    # all three pieces of six in seven arrive, in whatever order
    assert len(received) > len(packets) * 0.7


@pytest.mark.soak
def test_a_path_that_grows_again_is_noticed(way: Way) -> None:
    way.carries(1000)
    keep_talking(way, 1000)
    way.carries(65535)
    keep_talking(way, FULL)
