"""Packets to measure with: IPv4 in the shapes a TUN with a virtio-net header takes."""

import struct
from typing import NamedTuple

from m13.bench.figure import LARGE_BYTES, SMALL_BYTES
from native.checksum import checksum

# Benchmarking addresses (RFC 2544) for what is dropped, documentation ones (RFC 5737) for the TUN.
TUN_ADDRESS, SOURCE, SINK = "192.0.2.1", "192.0.2.2", "198.18.0.1"
SINK_NETWORK = "198.18.0.0/15"
VIRTIO_HEADER = struct.Struct("<BBHHHH")  # include/uapi/linux/virtio_net.h
NEEDS_CHECKSUM, GSO_NONE, GSO_TCPV4, GSO_UDP_L4 = 1, 0, 1, 5
IP_BYTES, TCP_BYTES, UDP_BYTES = 20, 20, 8
TCP, UDP = 6, 17
SEGMENTS = 46  # of 1400 bytes: with their common headers just below 65535
CHECKSUM_OFFSET = {TCP: 16, UDP: 6}


class Shape(NamedTuple):
    """One write or read of the TUN that stands for `packets` packets of `packet_bytes`."""

    key: str
    label: str
    packets: int
    packet_bytes: int
    message: bytes


def shapes(takes_large_udp: bool) -> list[Shape]:
    large = [_large("large", "large TCP", TCP, GSO_TCPV4)]
    if takes_large_udp:
        large.append(_large("large_udp", "large UDP", UDP, GSO_UDP_L4))
    return large + [
        Shape(str(size), f"single {size} B", 1, size, _message(UDP, size, GSO_NONE, 0))
        for size in (LARGE_BYTES, SMALL_BYTES)
    ]


def _large(key: str, name: str, protocol: int, gso: int) -> Shape:
    headers = IP_BYTES + (TCP_BYTES if protocol == TCP else UDP_BYTES)
    segment = LARGE_BYTES - headers
    message = _message(protocol, headers + SEGMENTS * segment, gso, segment)
    return Shape(key, f"{name}, {SEGMENTS} in one", SEGMENTS, LARGE_BYTES, message)


def _message(protocol: int, total_bytes: int, gso: int, segment: int) -> bytes:
    transport_bytes = TCP_BYTES if protocol == TCP else UDP_BYTES
    headers = IP_BYTES + transport_bytes
    flags = NEEDS_CHECKSUM if gso else 0
    virtio = VIRTIO_HEADER.pack(
        flags,
        gso,
        headers if gso else 0,
        segment,
        IP_BYTES if gso else 0,
        CHECKSUM_OFFSET[protocol] if gso else 0,
    )
    if protocol == TCP:
        transport = struct.pack("!HHIIBBHHH", 9, 9, 1, 1, TCP_BYTES // 4 << 4, 0x10, 512, 0, 0)
    else:
        transport = struct.pack("!HHHH", 9, 9, total_bytes - IP_BYTES, 0)
    payload = bytes(total_bytes - headers)
    return virtio + _ip_header(protocol, total_bytes) + transport + payload


def _ip_header(protocol: int, total_bytes: int) -> bytes:
    source, target = (bytes(map(int, address.split("."))) for address in (SOURCE, SINK))
    header = struct.pack("!BBHHHBBH", 0x45, 0, total_bytes, 1, 0x4000, 64, protocol, 0)
    header += source + target
    return header[:10] + checksum(header) + header[12:]
