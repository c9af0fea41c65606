"""Packets together with what the kernel left undone about them: seen, sent, and switched off.

A packet socket with PACKET_VNET_HDR (packet(7)) shows large packets as they pass an interface,
uncut, and sends such packets. What is seen is cut by the oracle of `tests.segmenter` at once.
"""

import contextlib
import ctypes
import fcntl
import os
import signal
import socket
import struct
import time
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Self

from scapy.utils import checksum as scapy_checksum

from bench.capture import ETH_P_ALL, PACKET_OUTGOING, SO_RCVBUFFORCE, SOL_PACKET
from bench.namespace import Namespace
from bench.tunnel import Program
from tests.segmenter import (
    CHECKSUM_AT,
    HEADER,
    UDP,
    cut,
    ip_bytes,
    is_ipv6,
    pseudo_header,
    transport,
)

ETH_P_IP, ETH_P_IPV6 = 0x0800, 0x86DD
PACKET_STATISTICS, PACKET_VNET_HDR = 6, 15
ETHERNET_BYTES = 14
READ_BYTES = HEADER.size + ETHERNET_BYTES + 65535
WAIT_S = 5
ICMPV6 = 58
# include/uapi/linux/ethtool.h
SIOCETHTOOL = 0x8946
SWITCHES = {"tx": 0x17, "sg": 0x19, "tso": 0x1F, "gso": 0x24, "gro": 0x2C}


class LargeCapture:
    """With `with`: IPv4 packets that came in by an interface and that went out by it, in order.
    With `ipv6` instead IPv6 ones, but for what a kernel says to its neighbours by itself.

    `arrived` and `left` are cut; `arrived_large` and `left_large` count what had to be.
    """

    def __init__(
        self,
        namespace: Namespace,
        interface: str,
        *,
        ethernet: bool = False,
        ipv6: bool = False,
    ) -> None:
        self._wanted = ETH_P_IPV6 if ipv6 else ETH_P_IP
        with namespace.inside():
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        self._socket.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
        self._socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 256 << 20)
        self._interface = interface
        self._link_bytes = ETHERNET_BYTES if ethernet else 0
        self.arrived: list[bytes] = []
        self.left: list[bytes] = []
        self.arrived_large = self.left_large = 0

    def __enter__(self) -> Self:
        self._socket.bind((self._interface, ETH_P_ALL))
        self._socket.settimeout(0.02)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._socket:
            self.drain()
            counted = self._socket.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8)
        if not error:
            assert struct.unpack("II", counted)[1] == 0, "the capture lost packets"

    def drain(self) -> None:
        """Everything that is there now."""
        self._socket.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                self._take(*self._socket.recvfrom(READ_BYTES))
        self._socket.settimeout(0.02)

    def wait_arrived(self, count: int, timeout_s: float = WAIT_S) -> None:
        """Until that many came in, or nothing more can be expected."""
        until = time.monotonic() + timeout_s
        while len(self.arrived) < count and time.monotonic() < until:
            with contextlib.suppress(TimeoutError):
                self._take(*self._socket.recvfrom(READ_BYTES))

    def _take(self, data: bytes, sender: tuple[str, int, int, int, bytes]) -> None:
        if sender[1] != self._wanted:
            return
        flags, kind, length, size, start, offset = HEADER.unpack_from(data)
        start -= self._link_bytes if start else 0
        header = HEADER.pack(flags, kind, length, size, start, offset)
        packets = cut(header, data[HEADER.size + self._link_bytes :])
        if self._wanted == ETH_P_IPV6 and transport(packets[0]) == ICMPV6:
            return
        if sender[2] == PACKET_OUTGOING:
            self.left += packets
            self.left_large += len(packets) > 1
        else:
            self.arrived += packets
            self.arrived_large += len(packets) > 1


class Injector:
    """With `with`: sends (virtio_net_hdr, IP packet) out of an interface as they are."""

    def __init__(self, namespace: Namespace, interface: str, ethernet: bytes = b"") -> None:
        with namespace.inside():
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        self._socket.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
        self._interface = interface
        self._ethernet = ethernet

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def send(self, header: bytes, packet: bytes) -> None:
        flags, kind, length, size, start, offset = HEADER.unpack(header)
        if start:
            start += len(self._ethernet)
        length += len(self._ethernet) if kind else 0
        header = HEADER.pack(flags, kind, length, size, start, offset)
        protocol = ETH_P_IPV6 if is_ipv6(packet) else ETH_P_IP
        self._socket.sendto(header + self._ethernet + packet, (self._interface, protocol))


@contextlib.contextmanager
def held(program: Program) -> Iterator[None]:
    """The program stands still, so that what is sent meanwhile reaches it all at once."""
    program.process.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, program.process.pid, os.WSTOPPED)
    try:
        yield
    finally:
        program.process.send_signal(signal.SIGCONT)


def switch(namespace: Namespace, interface: str, *names: str, on: bool) -> None:
    """`ethtool -K`, by its ioctl."""
    with namespace.inside(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for name in names:
            value = ctypes.create_string_buffer(struct.pack("II", SWITCHES[name], on))
            request = struct.pack("16sP16x", interface.encode(), ctypes.addressof(value))
            fcntl.ioctl(sock, SIOCETHTOOL, request)


@contextlib.contextmanager
def switched(namespace: Namespace, interface: str, *names: str) -> Iterator[None]:
    """These off meanwhile."""
    switch(namespace, interface, *names, on=False)
    try:
        yield
    finally:
        switch(namespace, interface, *reversed(names), on=True)


def without_offloads(
    namespace: Namespace, interface: str
) -> contextlib.AbstractContextManager[None]:
    """The interface takes only packets that are cut and have their checksums."""
    return switched(namespace, interface, "gso", "tso", "tx")


def assert_checksums_right(packets: Iterable[bytes]) -> None:
    """Scapy's sums: over a right header or segment together with its checksum they come to 0."""
    for packet in packets:
        start = ip_bytes(packet)
        if not is_ipv6(packet):
            assert scapy_checksum(packet[:start]) == 0, packet.hex()
            if int.from_bytes(packet[6:8], "big") & 0x3FFF:
                continue
        protocol = transport(packet)
        if protocol not in CHECKSUM_AT:
            continue
        if protocol == UDP and not is_ipv6(packet) and packet[start + 6 : start + 8] == b"\0\0":
            continue  # none was sent
        assert scapy_checksum(pseudo_header(packet) + packet[start:]) == 0, packet.hex()
