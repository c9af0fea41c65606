"""Frames that must change nothing, made for either side, and a sender that is whoever it likes."""

import os
import socket
import struct
from types import TracebackType
from typing import Self

from bench.bed import HUB_ADDRESS
from bench.namespace import Namespace
from bench.tunnel import PORT
from tests.netns.reference import Link
from tests.scapy_m13 import CONTROL, FIN, TUNNEL, fragments, frame, seal

MAC = "02:00:00:00:00:77"


class Spoofer:
    """Sends datagrams from any address and port; the kernel fills in the IPv4 checksum (raw(7))."""

    def __init__(self, namespace: Namespace) -> None:
        with namespace.inside():
            self._socket = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._socket.close()

    def send(
        self, data: bytes, source: tuple[str, int], to: tuple[str, int] = (HUB_ADDRESS, PORT)
    ) -> None:
        # no UDP checksum, which RFC 768 allows
        udp = struct.pack("!HHHH", source[1], to[1], 8 + len(data), 0) + data
        head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(udp), 0, 0, 64, socket.IPPROTO_UDP, 0)
        addresses = socket.inet_aton(source[0]) + socket.inet_aton(to[0])
        self._socket.sendto(head + addresses + udp, (to[0], 0))


# --- what whoever holds `link` makes of `packet`, an inner packet the other end would take --------


def cleartext_tunnel(_link: Link, packet: bytes) -> list[bytes]:
    return [frame(MAC, TUNNEL, packet, length=len(packet))]


def marked_as_decrypted(_link: Link, packet: bytes) -> list[bytes]:
    """The first M13 marked what it had decrypted in the packet itself."""
    return [frame(MAC, TUNNEL, packet, length=len(packet), crypto=2)]


def cleartext_fin(_link: Link, _packet: bytes) -> list[bytes]:
    return [frame(MAC, CONTROL | FIN)] * 3


def cleartext_control(_link: Link, _packet: bytes) -> list[bytes]:
    """REKEY_REQUEST, and a CONFIG that would move the tunnel."""
    config = bytes([10, 13, 0, 9, 24, 10, 13, 0, 1]) + struct.pack("<HHBB", 1400, 1000, 0, 0)
    tlvs = [struct.pack("<BH", 4, 0), struct.pack("<BH", 1, len(config)) + config]
    return [frame(MAC, CONTROL, tlv, length=len(tlv)) for tlv in tlvs]


def replayed(link: Link, packet: bytes) -> list[bytes]:
    """Sent once as it should be, and arrived; then again."""
    return [link.sealed(TUNNEL, packet)] * 3


def tampered(link: Link, packet: bytes) -> list[bytes]:
    data = bytearray(link.sealed(TUNNEL, packet))
    data[-1] ^= 1
    return [bytes(data)]


def other_key(link: Link, packet: bytes) -> list[bytes]:
    clear = frame(MAC, TUNNEL, packet, sequence=1 << 20, length=len(packet))
    return [seal(os.urandom(32), clear, 1 << 20, link.sends)]


def reflected(link: Link, packet: bytes) -> list[bytes]:
    """What the victim itself might have sent."""
    clear = frame(MAC, TUNNEL, packet, sequence=5, length=len(packet))
    return [seal(link.keys[1 - link.sends], clear, 5, 1 - link.sends)]


def length_beyond_frame(link: Link, packet: bytes) -> list[bytes]:
    return [_sealed_as(link, packet, link.counter, 60000)]


def wrong_sequence(link: Link, packet: bytes) -> list[bytes]:
    return [_sealed_as(link, packet, link.counter + 1, len(packet))]


def _sealed_as(link: Link, packet: bytes, sequence: int, length: int) -> bytes:
    clear = frame(MAC, TUNNEL, packet, sequence=sequence, length=length)
    link.counter += 1
    return seal(link.keys[link.sends], clear, link.counter - 1, link.sends)


def junk(_link: Link, _packet: bytes) -> list[bytes]:
    return [os.urandom(size) for size in (62, 100, 1400)]


def short(_link: Link, _packet: bytes) -> list[bytes]:
    return [frame(MAC, 0)[:size] for size in (0, 1, 14, 61)]


def quic_like(_link: Link, _packet: bytes) -> list[bytes]:
    return [b"\xc0\x00\x00\x00\x01" + os.urandom(1195)]


def hello_of_junk(_link: Link, _packet: bytes) -> list[bytes]:
    """A ClientHello without a cookie."""
    return fragments(MAC, b"\x01\x02" + os.urandom(4192), 77)


def largest_datagram(_link: Link, _packet: bytes) -> list[bytes]:
    """What UDP carries at most (RFC 768 in IPv4), as a sealed frame of a stranger. The attacker's
    kernel cuts it into IPv4 fragments."""
    clear = frame(MAC, TUNNEL, bytes(65507 - 62), sequence=3, length=65507 - 62)
    return [seal(os.urandom(32), clear, 3, _link.sends)]
