"""Echo requests (ICMP): one at a time for the round trip, many under way for the throughput."""

import contextlib
import os
import select
import socket
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass

from m13.errors import HostError
from native import selfbench
from native.checksum import checksum

PAYLOAD_BYTES = 56
HEADERS_BYTES = 28  # IPv4 and ICMP
INTERVAL_S = 0.002
PINGS_MAX = 1000
PATIENCE_S = 1.0
UNANSWERED_MAX = 3  # at the start; then nobody answers there
SO_TIMESTAMPNS = 35
TIMESTAMP = struct.Struct("@qq")
SOL_RAW, ICMP_FILTER, ECHO_REPLY = 255, 1, 0
WINDOW_FIRST, GROWTH_LEAST = 8, 1.1
LOSS_MAX = 0.01
SLICE_S = 0.1
QUEUED_S = 0.01
SO_RCVBUFFORCE = 33
RECEIVE_BUFFER_BYTES = 16 << 20  # the largest window, as the kernel counts it


@dataclass(frozen=True)
class RoundTrips:
    """Of echoes one after the other."""

    sent: int
    received: int
    mean_us: float
    p50_us: float
    p99_us: float


@dataclass(frozen=True)
class Throughput:
    """Of echoes, many under way: what arrived there and came back, each way."""

    packet_bytes: int
    window: int
    sent: int
    received: int
    seconds: float
    packets_per_second: float
    gbit_per_second: float

    @property
    def lost(self) -> float:
        return 1 - self.received / self.sent if self.sent else 1.0


class EchoSocket:
    """Connected to one address. Raw for root; else the kernel's ping socket, where it is allowed
    (net.ipv4.ping_group_range)."""

    def __init__(self, address: str) -> None:
        self.is_raw = True
        try:
            self.socket = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
        except PermissionError:
            self.is_raw = False
            self.socket = _ping_socket()
        try:
            if self.is_raw:
                wanted = struct.pack("I", ~(1 << ECHO_REPLY) & 0xFFFFFFFF)
                self.socket.setsockopt(SOL_RAW, ICMP_FILTER, wanted)
            self.socket.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
            with contextlib.suppress(PermissionError):
                self.socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BUFFER_BYTES)
            self.socket.connect((address, 0))
            self.socket.setblocking(False)
        except OSError as error:
            self.socket.close()
            raise HostError(f"cannot ping {address}: {error.strerror}") from error

    def request(self, sequence: int, payload_bytes: int) -> bytes:
        rest = struct.pack("!HH", os.getpid() & 0xFFFF, sequence & 0xFFFF) + bytes(payload_bytes)
        return b"\x08\0" + checksum(b"\x08\0\0\0" + rest) + rest

    def answer(self, sequence: int, wait_s: float) -> int | None:
        """When the reply with this number came, by the kernel's clock; None: not in time."""
        until = time.monotonic() + wait_s
        while (left := until - time.monotonic()) > 0:
            if not select.select([self.socket], [], [], left)[0]:
                return None
            try:
                packet, ancillary, _, _ = self.socket.recvmsg(2048, 64)
            except BlockingIOError:  # what woke us was damaged
                continue
            head = packet[(packet[0] & 15) * 4 :] if self.is_raw else packet
            identifier, number = struct.unpack_from("!HH", head, 4)
            is_ours = not self.is_raw or identifier == os.getpid() & 0xFFFF
            if is_ours and head[0] == ECHO_REPLY and number == sequence & 0xFFFF:
                seconds, nanoseconds = TIMESTAMP.unpack(ancillary[0][2])
                return int(seconds * 1_000_000_000 + nanoseconds)
        return None


def _ping_socket() -> socket.socket:
    try:
        return socket.socket(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP)
    except PermissionError as error:
        raise HostError("only root may ping here (net.ipv4.ping_group_range)") from error


@contextlib.contextmanager
def open_echo(address: str) -> Iterator[EchoSocket]:
    """HostError where nothing may be sent."""
    echo = EchoSocket(address)
    try:
        yield echo
    finally:
        echo.socket.close()


def round_trips(address: str, seconds: float) -> RoundTrips | None:
    """None when nobody answers there."""
    times_us: list[float] = []
    sent = 0
    until = time.monotonic() + seconds
    with open_echo(address) as echo:
        while sent < PINGS_MAX and (time.monotonic() < until or not times_us):
            begun_ns = time.time_ns()
            echo.socket.send(echo.request(sent, PAYLOAD_BYTES))
            came_ns = echo.answer(sent, min(PATIENCE_S, max(seconds, 0.2)))
            sent += 1
            if came_ns is not None:
                times_us.append((came_ns - begun_ns) / 1000)
            elif not times_us and sent >= UNANSWERED_MAX:
                return None
            time.sleep(INTERVAL_S)
    ordered = sorted(times_us)
    return RoundTrips(
        sent,
        len(ordered),
        sum(ordered) / len(ordered),
        ordered[len(ordered) // 2],
        ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)],
    )


def throughput(address: str, packet_bytes: int, round_trip_s: float, seconds: float) -> Throughput:
    """The best of windows that double until it brings nothing, something gets lost by it, or they
    queue for longer than QUEUED_S: a slow line never holds much more than what it can take."""
    found: list[Throughput] = []
    window = WINDOW_FIRST
    until = time.monotonic() + seconds
    slice_s = min(seconds, max(SLICE_S, 3 * round_trip_s))
    with open_echo(address) as echo:
        request = echo.request(0, packet_bytes - HEADERS_BYTES)
        while not found or (window <= selfbench.WINDOW_MAX and _may_grow(found, round_trip_s)):
            if found and time.monotonic() + slice_s > until:
                break
            found.append(_one_window(echo, request, window, round_trip_s, slice_s))
            window *= 2
    whole = [each for each in found if each.lost <= found[0].lost + LOSS_MAX]
    return max(whole, key=lambda each: each.packets_per_second)


def _may_grow(found: list[Throughput], round_trip_s: float) -> bool:
    last = found[-1]
    if not last.received or last.lost > found[0].lost + LOSS_MAX:
        return False
    before = max((each.packets_per_second for each in found[:-1]), default=0.0)
    is_queueing = last.window / last.packets_per_second > 2 * round_trip_s + QUEUED_S
    return not is_queueing or last.packets_per_second > GROWTH_LEAST * before


def _one_window(
    echo: EchoSocket, request: bytes, window: int, round_trip_s: float, seconds: float
) -> Throughput:
    sent, received = selfbench.echo(
        echo.socket.fileno(),
        request,
        has_ip_header=echo.is_raw,
        window=window,
        duration_ns=int(seconds * 1e9),
        patience_ns=int(max(0.05, 4 * round_trip_s) * 1e9),
    )
    elapsed_s = max(received.ns, 1) / 1e9
    packet_bytes = len(request) + HEADERS_BYTES - 8
    rate = received.calls / elapsed_s
    return Throughput(
        packet_bytes,
        window,
        sent.calls,
        received.calls,
        elapsed_s,
        rate,
        rate * packet_bytes * 8 / 1e9,
    )
