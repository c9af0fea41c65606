"""What passes an interface, seen from a packet socket of our own."""

import socket
import struct
import time
from typing import Any

from bench.capture import PACKET_OUTGOING, SO_RCVBUFFORCE, PacketCapture
from bench.namespace import Namespace

PACKET_IGNORE_OUTGOING = 23
SETTLE_S = 1


class Capture(PacketCapture):
    """With `with`: frames that arrive at an interface, and with `outgoing` those that leave too."""

    def __init__(self, namespace: Namespace, interface: str, *, outgoing: bool = False) -> None:
        super().__init__(namespace, interface, *([] if outgoing else [PACKET_IGNORE_OUTGOING]))
        self.arrived: list[bytes] = []
        self.left: list[bytes] = []

    @property
    def frames(self) -> list[bytes]:
        return self.arrived + self.left

    def settle(self) -> None:
        """Until nothing came for a moment; keepalives never cease, so not for long."""
        count = -1
        until = time.monotonic() + SETTLE_S
        while count != len(self.frames) and time.monotonic() < until:
            count = len(self.frames)
            time.sleep(0.1)

    def take(self, data: bytes, sender: Any) -> None:
        (self.left if sender[2] == PACKET_OUTGOING else self.arrived).append(data)


def raw_packet(
    source: str, destination: str, identifier: int, payload: bytes, fragment: int = 0x4000
) -> bytes:
    """An IPv4 packet of protocol 253 (RFC 3692), its checksum made here. fragment: that field,
    DF unless told."""
    addresses = socket.inet_aton(source) + socket.inet_aton(destination)
    total = 20 + len(payload)
    head = struct.pack("!BBHHHBBH", 0x45, 0, total, identifier, fragment, 64, 253, 0) + addresses
    value = sum(struct.unpack("!10H", head))
    value = (value & 0xFFFF) + (value >> 16)
    value = (value & 0xFFFF) + (value >> 16)
    return head[:10] + struct.pack("!H", ~value & 0xFFFF) + head[12:] + payload


def raw_socket(namespace: Namespace) -> socket.socket:
    """Sends and receives whole packets of protocol 253."""
    with namespace.inside():
        sock = socket.socket(socket.AF_INET, socket.SOCK_RAW, 253)
    sock.setsockopt(socket.IPPROTO_IP, socket.IP_HDRINCL, 1)
    sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 64 << 20)
    sock.settimeout(2)
    return sock
