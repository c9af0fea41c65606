"""Flows of real sockets, checked at the far end: TCP streams, and UDP cut by the kernel."""

import hashlib
import random
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass

from bench.capture import SO_RCVBUFFORCE
from bench.namespace import Namespace

UDP_SEGMENT = 103  # include/uapi/linux/udp.h
SO_NO_CHECK = 11
IP_MTU_DISCOVER, PMTUDISC_DONT, PMTUDISC_DO = 10, 0, 2
WINDOW_BYTES = 96 << 10  # in flight; less than any queue on the way holds
WAIT_S = 10
IN_FLIGHT = 128  # packets of all flows together
PACKET_BYTES = 1372
SILENCE_S = 2


@dataclass(frozen=True)
class Ends:
    """Where a flow begins and ends."""

    source: Namespace
    target: Namespace
    address: str


@dataclass(frozen=True)
class Stream:
    """A TCP connection to be made: `pieces` are single writes."""

    byte_count: int
    mss: int = 0
    piece_bytes: int = 1 << 16
    no_delay: bool = False
    urgent_every: int = 0
    ip_options: bytes = b""


def stream(ends: Ends, plan: Stream, seed: int = 13) -> None:
    """Sends the bytes, all of them and in order, or fails."""
    noise = random.Random(seed).randbytes(plan.byte_count)
    with ends.target.inside():
        listener = socket.create_server(("0.0.0.0", 0))
    with ends.source.inside():
        sender = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    with closing(listener), closing(sender), ThreadPoolExecutor(1) as pool:
        for sock in (listener, sender):
            sock.settimeout(WAIT_S)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, WINDOW_BYTES)
            if plan.mss:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, plan.mss)
        if plan.ip_options:
            sender.setsockopt(socket.IPPROTO_IP, socket.IP_OPTIONS, plan.ip_options)
        sender.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, plan.no_delay)
        digest = pool.submit(receive, listener)
        sender.connect((ends.address, listener.getsockname()[1]))
        for number, start in enumerate(range(0, plan.byte_count, plan.piece_bytes), 1):
            piece = noise[start : start + plan.piece_bytes]
            is_urgent = plan.urgent_every and number % plan.urgent_every == 0
            if is_urgent:
                sender.send(piece, socket.MSG_OOB)
            else:
                sender.sendall(piece)
        sender.shutdown(socket.SHUT_WR)
        assert digest.result() == hashlib.sha256(noise).hexdigest()


def receive(listener: socket.socket) -> str:
    """SHA-256 of all that comes; urgent bytes stay where they were in the stream."""
    connection = listener.accept()[0]
    digest = hashlib.sha256()
    with connection:
        connection.settimeout(WAIT_S)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)
        while data := connection.recv(1 << 18):
            digest.update(data)
    return digest.hexdigest()


def streams(plans: list[tuple[Ends, Stream]]) -> None:
    """All at once."""
    with ThreadPoolExecutor(len(plans)) as pool:
        running = [pool.submit(stream, *plan, seed) for seed, plan in enumerate(plans)]
        for each in running:
            each.result()


@dataclass(frozen=True)
class Datagrams:
    """A UDP flow: `sends` are the sizes of single sends, each cut by the kernel into `segment`."""

    sends: tuple[int, ...]
    segment: int = 0
    checksum: bool = True
    dont_fragment: bool = True
    tos: int = 0
    ip_options: bytes = b""

    def expected(self, noise: bytes) -> Iterator[list[bytes]]:
        """The datagrams of each send."""
        at = 0
        for size in self.sends:
            step = self.segment or size or 1
            data = noise[at : at + size]
            yield [data[start : start + step] for start in range(0, max(1, size), step)]
            at += size

    def configure(self, sock: socket.socket) -> None:
        discover = PMTUDISC_DO if self.dont_fragment else PMTUDISC_DONT
        sock.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, discover)
        sock.setsockopt(socket.SOL_SOCKET, SO_NO_CHECK, not self.checksum)
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, self.tos)
        if self.segment:
            sock.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, self.segment)
        if self.ip_options:
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_OPTIONS, self.ip_options)


def datagrams(ends: Ends, plans: list[Datagrams], *, connected: bool = True) -> None:
    """The flows with their sends taken in turn; every datagram comes alone, whole and in order."""
    with ExitStack() as stack:
        window = Window()
        flows = [stack.enter_context(udp_flow(ends, plan, connected, window)) for plan in plans]
        for turn in range(max(len(plan.sends) for plan in plans)):
            for flow in flows:
                flow.send(turn)
        for flow in flows:
            flow.assert_whole()


class Window:
    """What may be on its way at once, so that no queue overflows, however late its reader is."""

    def __init__(self) -> None:
        self._free = IN_FLIGHT
        self._changed = threading.Condition()

    def take(self, data: list[bytes]) -> None:
        need = packets_of(data)
        with self._changed:
            assert self._changed.wait_for(lambda: self._free >= need, SILENCE_S), "packets lost"
            self._free -= need

    def give(self, datagram: bytes) -> None:
        with self._changed:
            self._free += packets_of([datagram])
            self._changed.notify()


def packets_of(data: list[bytes]) -> int:
    return sum(1 + len(datagram) // PACKET_BYTES for datagram in data)


class UdpFlow:
    def __init__(
        self,
        receiver: socket.socket,
        send: Callable[[bytes], object],
        plan: Datagrams,
        window: Window,
    ) -> None:
        noise = random.Random(len(plan.sends)).randbytes(sum(plan.sends))
        self._sends = list(plan.expected(noise))
        self._send = send
        self.expected = [datagram for group in self._sends for datagram in group]
        self._received: list[bytes] = []
        self._window = window
        self._receiver = receiver
        self._thread = threading.Thread(target=self._take, daemon=True)
        self._thread.start()

    def send(self, turn: int) -> None:
        if turn < len(self._sends):
            self._window.take(self._sends[turn])
            self._send(b"".join(self._sends[turn]))

    def finish(self) -> None:
        self._thread.join()

    def assert_whole(self) -> None:
        self.finish()
        wrong = [i for i, got in enumerate(self._received) if got != self.expected[i]]
        place = f"{len(self._received)} of {len(self.expected)}, wrong from {wrong[:1]} on"
        assert self._received == self.expected, place

    def _take(self) -> None:
        try:
            while len(self._received) < len(self.expected):
                datagram = self._receiver.recv(1 << 16)
                self._received.append(datagram)
                self._window.give(datagram)
        except TimeoutError:
            return


@contextmanager
def udp_flow(ends: Ends, plan: Datagrams, connected: bool, window: Window) -> Iterator[UdpFlow]:
    with ends.target.inside():
        receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with ends.source.inside():
        sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with closing(sender), closing(receiver):
        receiver.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 64 << 20)
        receiver.bind(("0.0.0.0", 0))
        receiver.settimeout(SILENCE_S)
        plan.configure(sender)
        target = (ends.address, receiver.getsockname()[1])
        if connected:
            sender.connect(target)
        send = sender.send if connected else (lambda data: sender.sendto(data, target))
        flow = UdpFlow(receiver, send, plan, window)
        yield flow
        flow.finish()
