"""AF_XDP and the steering program on a real link.

    namespace hub                           namespace peer
    [AF_XDP, m13_steer]  m13x0 10.77.0.1 ── m13x1 10.77.0.2  [plain UDP sockets, kernel]

Every test runs in a child process of its own, in namespaces of its own.
"""

import ctypes
import errno
import json
import multiprocessing
import os
import signal
import socket
import struct
import subprocess
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection

import pytest

from hub.steering import OBJECT, Steering
from m13.errors import HostError
from native.steer import Steer
from native.umem import Umem
from native.xdp import Socket

pytestmark = [
    pytest.mark.netns,
    pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root"),
    pytest.mark.skipif(not OBJECT.exists(), reason="hub/steer.bpf.o is not built (clang)"),
]

HUB, PEER = ("10.77.0.1", 4443), ("10.77.0.2", 5000)
HEADERS = 42
HEADROOM = 256
FRAMES = 2048
FRAME_BYTES = 4096
FORK = multiprocessing.get_context("fork")


def ip(*arguments: str) -> str:
    done = subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)
    return done.stdout


class Bed:
    def __init__(self) -> None:
        self.hub, self.peer = (f"m13-xdp-{side}-{os.getpid()}" for side in ("hub", "peer"))

    def build(self) -> None:
        for name in (self.hub, self.peer):
            ip("netns", "add", name)
            ip("-n", name, "link", "set", "lo", "up")
        pair = ["type", "veth", "peer", "name", "m13x1", "netns", self.peer]
        ip("-n", self.hub, "link", "add", "m13x0", *pair)
        for name, interface, address in ((self.hub, "m13x0", HUB), (self.peer, "m13x1", PEER)):
            ip("-n", name, "address", "add", f"{address[0]}/24", "dev", interface)
            ip("-n", name, "link", "set", interface, "up")
        for name, interface, other in ((self.hub, "m13x0", PEER), (self.peer, "m13x1", HUB)):
            self.neighbour(name, interface, other[0])

    def neighbour(self, name: str, interface: str, address: str) -> None:
        mac = self.link(self.peer if name == self.hub else self.hub)["address"]
        ip("-n", name, "neigh", "replace", address, "lladdr", mac, "dev", interface)

    def remove(self) -> None:
        for name in (self.hub, self.peer):
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)

    def link(self, name: str) -> dict:
        interface = "m13x0" if name == self.hub else "m13x1"
        return json.loads(ip("-n", name, "-j", "link", "show", "dev", interface))[0]

    def enter(self, name: str) -> None:
        with open(f"/run/netns/{name}") as namespace:
            assert ctypes.CDLL(None).setns(namespace.fileno(), 0x40000000) == 0

    def start(self, body: Callable, *arguments: object) -> tuple:
        """Runs body(bed, pipe, ...) in a child process that stands in the hub's namespace."""
        ours, theirs = FORK.Pipe()

        def child() -> None:
            try:
                self.enter(self.hub)
                theirs.send((True, body(self, theirs, *arguments)))
            except BaseException:
                theirs.send((False, traceback.format_exc()))

        process = FORK.Process(target=child)
        process.start()
        theirs.close()
        return process, ours

    def run(self, body: Callable, *arguments: object) -> object:
        process, pipe = self.start(body, *arguments)
        try:
            assert pipe.poll(60), "the child process did not finish"
            passed, answer = pipe.recv()
        finally:
            process.kill()
            process.join()
        if not passed:
            pytest.fail(str(answer), pytrace=False)
        return answer


@pytest.fixture
def bed() -> Iterator[Bed]:
    bed = Bed()
    try:
        bed.build()
        yield bed
    finally:
        bed.remove()


class Queue:
    """A socket with the bookkeeping a hub would do: who owns each frame."""

    def __init__(self, umem: Umem, generic: bool = False, slots: int = 512) -> None:
        self.socket = Socket(umem, "m13x0", slots=slots, generic=generic)
        self.ours = set(range(FRAMES))
        self.filled: set[int] = set()
        self.sending: set[int] = set()
        self.refill()

    def refill(self) -> None:
        while self.ours:
            numbers = sorted(self.ours)[:256]
            taken = set(numbers[: self.socket.refill(numbers)])
            self.ours -= taken
            self.filled |= taken
            if not taken:
                return

    def receive(self) -> list[bytes]:
        received = self.socket.receive()
        for address, _ in received:
            assert address % FRAME_BYTES == HEADROOM
            self.filled.remove(address // FRAME_BYTES)
            self.ours.add(address // FRAME_BYTES)
        return [packet for _, packet in received]

    def send(self, packets: list[bytes]) -> int:
        numbers = sorted(self.ours)[: len(packets)]
        pairs = [(n * FRAME_BYTES + 64, p) for n, p in zip(numbers, packets, strict=False)]
        taken = self.socket.transmit(pairs)
        self.ours -= set(numbers[:taken])
        self.sending |= set(numbers[:taken])
        self.socket.kick()
        self.reclaim()
        return taken

    def reclaim(self) -> None:
        for number in self.socket.reclaim():
            self.sending.remove(number)
            self.ours.add(number)

    def receive_until(self, count: int, seconds: float = 5) -> list[bytes]:
        packets: list[bytes] = []
        deadline = time.monotonic() + seconds
        while len(packets) < count and time.monotonic() < deadline:
            packets += self.receive()
            self.refill()
        return packets


@contextmanager
def steered(mode: str) -> Iterator[tuple[Steering, Queue]]:
    with Steering("m13x0", HUB[1], mode) as steering, Umem(FRAMES * FRAME_BYTES) as umem:
        queue = Queue(umem, generic=steering.mode == "generic")
        steering.register(0, queue.socket.fileno())
        yield steering, queue


def peer_socket(bed: Bed, kind: int = socket.SOCK_DGRAM, address: tuple = PEER) -> socket.socket:
    bed.enter(bed.peer)
    try:
        made = socket.socket(socket.AF_INET, kind)
        made.settimeout(5)
        made.bind(address)
    finally:
        bed.enter(bed.hub)
    return made


def outer(bed: Bed, payload: bytes) -> bytes:
    """Ethernet, IPv4 and UDP (no checksum) from the hub to the peer, written out by hand."""
    macs = bytes.fromhex(
        "".join(bed.link(n)["address"] for n in (bed.peer, bed.hub)).replace(":", "")
    )
    addresses = socket.inet_aton(HUB[0]) + socket.inet_aton(PEER[0])
    ip_fields = [0x45, 0, 28 + len(payload), 0, 0x4000, 64, 17]
    words = struct.unpack("!10H", struct.pack("!BBHHHBBH", *ip_fields, 0) + addresses)
    total = sum(words)
    total = (total & 0xFFFF) + (total >> 16)
    header = struct.pack("!BBHHHBBH", *ip_fields, ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF)
    udp = struct.pack("!4H", HUB[1], PEER[1], 8 + len(payload), 0)
    return macs + b"\x08\x00" + header + addresses + udp + payload


def both_ways(bed: Bed, _: Connection, mode: str) -> None:
    with steered(mode) as (steering, queue), peer_socket(bed) as peer:
        assert steering.mode == mode
        assert "xdp" in bed.link(bed.hub)
        for size in (1, 62, 1024, 1472):
            peer.sendto(os.urandom(size), HUB)
            sent = os.urandom(size)
            peer.sendto(sent, HUB)
            received = queue.receive_until(2)
            assert received[1][HEADERS:] == sent
            assert queue.send([outer(bed, sent)]) == 1
            assert peer.recvfrom(2048) == (sent, HUB)
        assert steering.counters()["redirect_udp"] == 8


def other_traffic(bed: Bed, _: Connection, mode: str) -> None:
    with steered(mode) as (steering, queue), socket.socket() as listener:
        listener.bind((HUB[0], HUB[1]))
        listener.listen()
        with peer_socket(bed, socket.SOCK_STREAM, (PEER[0], 0)) as client:
            client.connect(HUB)
            server, _address = listener.accept()
            with server:
                message = os.urandom(100_000)
                client.sendall(message)
                client.shutdown(socket.SHUT_WR)
                server.settimeout(5)
                with server.makefile("rb") as stream:
                    assert stream.read() == message
        with socket.socket(type=socket.SOCK_DGRAM) as plain, peer_socket(bed) as peer:
            plain.bind((HUB[0], 53))
            plain.settimeout(5)
            peer.sendto(b"not M13", (HUB[0], 53))
            assert plain.recvfrom(64) == (b"not M13", PEER)
        assert queue.receive() == []
        counters = steering.counters()
        assert counters["pass_port"] == 1
        assert counters["pass_other"] > 2
        assert counters["redirect_udp"] == 0


def ethernet_frame(bed: Bed, _: Connection) -> None:
    bed.enter(bed.peer)
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as raw:
        raw.bind(("m13x1", 0x88B5))
        bed.enter(bed.hub)
        with steered("native") as (steering, queue):
            raw.send(b"\xff" * 6 + b"\x02" * 6 + b"\x88\xb5" + bytes(48))
            assert queue.receive_until(1)[0][12:14] == b"\x88\xb5"
            assert steering.counters()["redirect_l2"] == 1


def account_receive(bed: Bed, _: Connection, total: int) -> None:
    """The peer may outrun us: what is not received is counted as dropped, and no frame is lost."""
    sender = os.fork()
    if sender == 0:
        with peer_socket(bed) as peer:
            for number in range(total):
                peer.sendto(number.to_bytes(4, "big") * 16, HUB)
        os._exit(0)
    with steered("native") as (steering, queue):
        packets: list[bytes] = []
        while os.waitpid(sender, os.WNOHANG) == (0, 0):
            packets += queue.receive()
            queue.refill()
        packets += queue.receive_until(total, seconds=0.5)
        numbers = [int.from_bytes(packet[HEADERS : HEADERS + 4], "big") for packet in packets]
        assert numbers == sorted(set(numbers))
        assert len(queue.ours) + len(queue.filled) == FRAMES
        statistics = queue.socket.statistics()
        lost = sum(statistics[key] for key in ("receive_dropped", "receive_ring_full"))
        assert len(numbers) + lost == steering.counters()["redirect_udp"]
        assert len(numbers) > total // 10


def account_transmit(bed: Bed, _: Connection, total: int) -> None:
    frame = outer(bed, bytes(64))
    with steered("native") as (_steering, queue):
        sent, deadline = 0, time.monotonic() + 30
        while (sent < total or queue.sending) and time.monotonic() < deadline:
            sent += queue.send([frame] * min(200, total - sent))
        assert sent == total
        assert queue.sending == set()
        assert queue.socket.transmit_pending == 0
        assert len(queue.ours) + len(queue.filled) == FRAMES
        assert queue.socket.statistics()["transmit_invalid"] == 0


def link_flap(bed: Bed, _: Connection) -> None:
    frame = outer(bed, b"after the flap")
    with steered("native") as (_steering, queue), peer_socket(bed) as peer:
        ip("link", "set", "m13x0", "down")
        with pytest.raises(OSError, match="AF_XDP send") as refused:
            queue.send([frame])
        assert refused.value.errno == errno.ENETDOWN
        assert queue.socket.transmit_pending == 1
        ip("link", "set", "m13x0", "up")
        bed.neighbour(bed.hub, "m13x0", PEER[0])
        queue.socket.kick()
        assert peer.recv(64) == b"after the flap"
        peer.sendto(b"x" * 40, HUB)
        assert queue.receive_until(1)[0][HEADERS:] == b"x" * 40


def occupied(bed: Bed, _: Connection, mode: str) -> None:
    index = socket.if_nametoindex("m13x0")
    with Steer(str(OBJECT), 1) as first:
        first.attach(index, mode)
        for wanted in ("auto", "native", "generic"):
            with pytest.raises(HostError, match="another XDP program is attached"):
                Steering("m13x0", HUB[1], wanted).__enter__()
        assert "xdp" in bed.link(bed.hub)
    assert "xdp" not in bed.link(bed.hub)


def follow(bed: Bed, _: Connection) -> None:
    with steered("native") as (steering, queue), peer_socket(bed) as peer:
        ip("address", "add", "10.77.0.9/24", "dev", "m13x0")
        assert steering.follow_addresses() == {HUB[0], "10.77.0.9"}
        bed.neighbour(bed.peer, "m13x1", "10.77.0.9")
        peer.sendto(b"to the new one", ("10.77.0.9", HUB[1]))
        assert queue.receive_until(1)[0][HEADERS:] == b"to the new one"
        ip("address", "del", "10.77.0.9/24", "dev", "m13x0")
        assert steering.follow_addresses() == {HUB[0]}


def hold(_: Bed, pipe: Connection, mode: str) -> None:
    with steered(mode):
        pipe.send("attached")
        time.sleep(60)


@pytest.mark.parametrize("mode", ["native", "generic"])
def test_datagrams_cross_both_ways_with_the_right_bytes(bed, mode):
    bed.run(both_ways, mode)
    assert "xdp" not in bed.link(bed.hub)


@pytest.mark.parametrize("mode", ["native", "generic"])
def test_other_traffic_reaches_the_kernel(bed, mode):
    bed.run(other_traffic, mode)


def test_raw_ethernet_frame_reaches_the_socket(bed):
    bed.run(ethernet_frame)


def test_receiving_100_000_packets_loses_no_frame(bed):
    bed.run(account_receive, 100_000)


def test_sending_100_000_packets_loses_no_frame(bed):
    bed.run(account_transmit, 100_000)


def test_link_down_and_up_loses_nothing(bed):
    bed.run(link_flap)


@pytest.mark.parametrize("mode", ["native", "generic"])
def test_occupied_interface_is_refused_and_left_alone(bed, mode):
    bed.run(occupied, mode)


def test_addresses_are_followed(bed):
    bed.run(follow)


@pytest.mark.parametrize("mode", ["native", "generic"])
def test_killed_process_leaves_no_program_and_a_free_queue(bed, mode):
    process, pipe = bed.start(hold, mode)
    assert pipe.poll(10)
    assert pipe.recv() == "attached"
    assert "xdp" in bed.link(bed.hub)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert "xdp" not in bed.link(bed.hub)
    bed.run(both_ways, mode)


@pytest.mark.parametrize("change", [{"slots": 500}, {"slots": 0}, {"frame_bytes": 1024}])
def test_bad_ring_shapes_are_refused(change):
    with Umem(1 << 21) as umem, pytest.raises(OSError, match="AF_XDP socket on lo") as refused:
        Socket(umem, "lo", **change)
    assert refused.value.errno == errno.EINVAL


def test_packet_that_crosses_its_frame_is_refused():
    with Umem(1 << 21) as umem, Socket(umem, "lo", slots=64) as queue:
        for address, packet in ((4000, bytes(97)), (0, b""), (1 << 21, b"x")):
            with pytest.raises(ValueError, match="packet"):
                queue.transmit([(address, packet)])
