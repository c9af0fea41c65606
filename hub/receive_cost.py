"""What a frame costs by AF_XDP and by a UDP socket, measured for a tenth of a second on veth pairs
that behave like the NIC in question.

    far                                       near, the hub's side
    source0 ── a UDP socket's trains ──────── target0   UDP socket, UDP_GRO
    source1 ── the same ───────────────────── target1   steering program, AF_XDP
    source2 ── the same, heard by nobody ──── target2   what the sender alone costs
    target3 ── nobody hears ───────────────── source3   UDP_SEGMENT, and AF_XDP

A veth works in the thread that sends: the time from the first byte handed over to the last packet
taken is the cost of both ends, and the sender's is known from the third pair.
"""

import itertools
import socket
import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass

from hub.steering import OBJECT
from m13 import endpoint
from m13.host import udp_socket
from m13.host.unnamed_network import Lane, UnnamedNetwork, run
from native import burst
from native.steer import Steer
from native.umem import Umem
from native.wire import FRAME_BYTES, OUTER_BYTES, OVERHEAD_BYTES
from native.xdp import Socket

UDP_SEGMENT = 103  # linux/udp.h, Linux 4.18
TRAIN_FRAMES_MAX = 64  # what one UDP_SEGMENT send may hold in every kernel that has it
TRAIN_BYTES_MAX = 65507  # the largest UDP payload over IPv4
SMALL_INNER_BYTES = 92  # a 64 byte datagram in the tunnel
MEASURE_S = 0.03
ROUNDS_MIN = 5
LOSS_S = 0.02  # what takes longer is lost
PORT = 4413
XDP_FRAMES, XDP_FRAME_BYTES = 256, 4096

TO_SOCKET, TO_XDP = Lane(0, "far"), Lane(1, "far")
TO_NOBODY, OUTWARD = Lane(2, "far"), Lane(3, "near")


@dataclass(frozen=True)
class Likeness:
    """What the pairs take over from a NIC: which XDP it would have, and by ethtool's names what is
    on at its end and at the end of those who send to it."""

    xdp: str  # "native" or "generic"
    near_features: dict[str, bool]
    far_features: dict[str, bool]


@dataclass(frozen=True)
class Train:
    """Frames of one size, as many as one send takes."""

    frame_bytes: int

    @property
    def frames(self) -> int:
        return min(TRAIN_FRAMES_MAX, TRAIN_BYTES_MAX // self.frame_bytes)

    @property
    def bytes(self) -> int:
        return self.frames * self.frame_bytes


@dataclass(frozen=True)
class Cost:
    """Nanoseconds a frame."""

    receive_ns: float
    send_ns: float

    @property
    def mean_ns(self) -> float:
        return (self.receive_ns + self.send_ns) / 2


@dataclass(frozen=True)
class Costs:
    """By size of frame, in the order of `trains`."""

    xdp: tuple[Cost, ...]
    udp: tuple[Cost, ...]

    @property
    def xdp_ns(self) -> float:
        return statistics.mean(cost.mean_ns for cost in self.xdp)

    @property
    def udp_ns(self) -> float:
        return statistics.mean(cost.mean_ns for cost in self.udp)


def trains(tunnel_mtu: int) -> tuple[Train, ...]:
    return Train(tunnel_mtu + FRAME_BYTES), Train(SMALL_INNER_BYTES + FRAME_BYTES)


def measure(likeness: Likeness, tunnel_mtu: int) -> Costs:
    """Raises OSError when the machine does not let us."""
    mtu = tunnel_mtu + OVERHEAD_BYTES
    return run(lambda network, stack: _Bench(network, stack, likeness, mtu).costs(tunnel_mtu))


class _Bench:
    def __init__(
        self, network: UnnamedNetwork, stack: ExitStack, likeness: Likeness, mtu: int
    ) -> None:
        self._stack = stack
        self._network = network
        for lane in (TO_SOCKET, TO_XDP, TO_NOBODY, OUTWARD):
            source, target = likeness.far_features, likeness.near_features
            if lane.source_side == "near":
                source, target = target, source
            network.lay(lane, mtu, source, target, is_heard=lane in (TO_SOCKET, TO_XDP))
        network.enter("near")
        self._buffer = bytearray(TRAIN_BYTES_MAX)
        self._receiver = self._udp_receiver()
        self._xdp_receiver = self._steered(likeness.xdp)
        self._xdp_sender = self._xdp_socket(OUTWARD.source, likeness.xdp)

    def costs(self, tunnel_mtu: int) -> Costs:
        """Everything in turn, so that what disturbs the machine disturbs all of it."""
        sizes = trains(tunnel_mtu)
        steps = [self._steps(train) for train in sizes]
        samples: list[list[list[int]]] = [[[] for _ in row] for row in steps]
        until = time.monotonic() + MEASURE_S
        for done in itertools.count():
            if done >= ROUNDS_MIN and time.monotonic() > until:
                break
            for row, taken in zip(steps, samples, strict=True):
                for step, times in zip(row, taken, strict=True):
                    begin = time.perf_counter_ns()
                    step()
                    times.append(time.perf_counter_ns() - begin)
        xdp, udp = [], []
        for train, taken in zip(sizes, samples, strict=True):
            alone, to_socket, to_xdp, by_socket, by_xdp = (
                statistics.median(times) / train.frames for times in taken
            )
            udp.append(Cost(max(to_socket - alone, 0), by_socket))
            xdp.append(Cost(max(to_xdp - alone, 0), by_xdp))
        return Costs(tuple(xdp), tuple(udp))

    def _steps(self, train: Train) -> list[Callable[[], None]]:
        payload = bytes(train.bytes)
        to_nobody, to_socket, to_xdp, outward = (
            self._sender(lane, train) for lane in (TO_NOBODY, TO_SOCKET, TO_XDP, OUTWARD)
        )
        packet_bytes = self._write_packets(train)

        def call_nobody() -> None:
            to_nobody.send(payload)

        def hear_socket() -> None:
            to_socket.send(payload)
            self._await(lambda: burst.drain(self._receiver.fileno(), self._buffer), train.bytes)

        def hear_xdp() -> None:
            to_xdp.send(payload)
            self._await(lambda: burst.receive(self._xdp_receiver), train.frames)

        def send_socket() -> None:
            outward.send(payload)

        def send_xdp() -> None:
            burst.send(self._xdp_sender, train.frames, packet_bytes)
            self._await(lambda: burst.sent(self._xdp_sender), train.frames)

        return [call_nobody, hear_socket, hear_xdp, send_socket, send_xdp]

    def _await(self, take: Callable[[], int], wanted: int) -> None:
        """Normally everything is there: it was delivered within the send."""
        until = 0.0
        while wanted > 0:
            wanted -= take()
            if wanted > 0:
                until = until or time.monotonic() + LOSS_S
                if time.monotonic() > until:
                    raise OSError("packets were lost on the way")

    # --- sockets --------------------------------------------------------------------------------

    def _sender(self, lane: Lane, train: Train) -> socket.socket:
        self._network.enter(lane.source_side)
        udp = self._stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        udp_socket.prepare(udp)
        udp.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, train.frame_bytes)
        udp.connect((lane.target_address, PORT))
        return udp

    def _udp_receiver(self) -> socket.socket:
        udp = self._stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        udp_socket.prepare(udp)
        udp.bind((TO_SOCKET.target_address, PORT))
        return udp

    def _steered(self, mode: str) -> Socket:
        steer = self._stack.enter_context(Steer(str(OBJECT), PORT))
        steer.add_address(endpoint.pack(TO_XDP.target_address))
        steer.attach(socket.if_nametoindex(TO_XDP.target), mode)
        xdp = self._xdp_socket(TO_XDP.target, mode)
        steer.set_socket(0, xdp.fileno())
        xdp.refill(list(range(XDP_FRAMES)))
        return xdp

    def _xdp_socket(self, interface: str, mode: str) -> Socket:
        umem = self._stack.enter_context(Umem(XDP_FRAMES * XDP_FRAME_BYTES))
        xdp = Socket(umem, interface, slots=XDP_FRAMES, zero_copy=False, generic=mode == "generic")
        return self._stack.enter_context(xdp)

    def _write_packets(self, train: Train) -> int:
        """Into the frames that are sent from then on; answers the length of each."""
        ethernet = OUTWARD.mac(3) + OUTWARD.mac(1) + b"\x08\0"
        packet = ethernet + bytes(OUTER_BYTES - len(ethernet) + train.frame_bytes)
        frames = range(TRAIN_FRAMES_MAX)
        self._xdp_sender.transmit([(number * XDP_FRAME_BYTES, packet) for number in frames])
        self._await(lambda: burst.sent(self._xdp_sender), len(frames))
        return len(packet)
