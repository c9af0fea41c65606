"""Segmentation done slowly: what a kernel without offloads would send, an oracle for ours.

A large packet and its virtio_net_hdr become packets by these rules and no others: each carries
gso_size bytes of payload but the last; IPv4 lengths are each packet's own and identifications count
up from the first (RFC 791; also with DF, where RFC 6864 lets any value stand); TCP sequence numbers
advance by the payload, PSH and FIN stand on the last only (RFC 9293), CWR on the first only
(RFC 3168); UDP lengths are each datagram's own and a checksum that comes out 0 is sent as 0xFFFF
(RFC 768); every other bit is the large packet's.
"""

import struct

HEADER = struct.Struct("<BBHHHH")  # struct virtio_net_hdr
NEEDS_CHECKSUM = 1
NONE, TCP4, UDP_L4, ECN = 0, 1, 5, 0x80
TCP, UDP = 6, 17
FIN, PSH, CWR = 0x01, 0x08, 0x80
CHECKSUM_AT = {TCP: 16, UDP: 6}


def ones_sum(data: bytes) -> int:
    """Of 16-bit words, in 1 to 0xFFFF: a number and its digits of base 65536 agree modulo 65535."""
    number = int.from_bytes(data + b"\0" * (len(data) % 2), "big")
    return number % 0xFFFF or 0xFFFF


def checksum(data: bytes) -> int:
    return 0xFFFF - ones_sum(data)


def put(data: bytes, at: int, form: str, value: int) -> bytes:
    field = struct.pack(form, value)
    return data[:at] + field + data[at + len(field) :]


def ip_bytes(packet: bytes) -> int:
    return (packet[0] & 15) * 4


def pseudo_header(packet: bytes) -> bytes:
    body = len(packet) - ip_bytes(packet)
    return packet[12:20] + struct.pack("!BBH", 0, packet[9], body)


def with_ip_checksum(packet: bytes) -> bytes:
    bare = put(packet, 10, "!H", 0)
    return put(bare, 10, "!H", checksum(bare[: ip_bytes(bare)]))


def with_checksums(packet: bytes) -> bytes:
    """Both of a whole TCP or UDP packet, made anew."""
    packet = with_ip_checksum(packet)
    start = ip_bytes(packet)
    at = start + CHECKSUM_AT[packet[9]]
    bare = put(packet, at, "!H", 0)
    value = checksum(pseudo_header(bare) + bare[start:])
    return put(bare, at, "!H", 0xFFFF if packet[9] == UDP and not value else value)


def headers_bytes(packet: bytes) -> int:
    start = ip_bytes(packet)
    return start + (packet[start + 12] >> 4) * 4 if packet[9] == TCP else start + 8


def cut(header: bytes, packet: bytes) -> list[bytes]:
    """Of one packet as a packet socket or a TUN shows it; `packet` begins with the IPv4 header."""
    flags, kind, _, segment_bytes, start, offset = HEADER.unpack(header)
    if kind != NONE:
        assert {TCP4: TCP, UDP_L4: UDP}[kind & ~ECN] == packet[9]
        return segments(packet, segment_bytes)
    if not flags & NEEDS_CHECKSUM:
        return [packet]
    value = checksum(packet[start:])
    is_udp = packet[9] == UDP
    return [put(packet, start + offset, "!H", 0xFFFF if is_udp and not value else value)]


def segments(packet: bytes, segment_bytes: int) -> list[bytes]:
    start, head = ip_bytes(packet), headers_bytes(packet)
    identification = int.from_bytes(packet[4:6], "big")
    payload = packet[head:]
    offsets = range(0, max(1, len(payload)), segment_bytes)
    made = []
    for index, offset in enumerate(offsets):
        piece = packet[:head] + payload[offset : offset + segment_bytes]
        piece = put(piece, 2, "!H", len(piece))
        piece = put(piece, 4, "!H", (identification + index) & 0xFFFF)
        if packet[9] == UDP:
            piece = put(piece, start + 4, "!H", len(piece) - start)
        else:
            sequence = int.from_bytes(packet[start + 4 : start + 8], "big") + offset
            piece = put(piece, start + 4, "!L", sequence & 0xFFFFFFFF)
            kept = packet[start + 13]
            kept &= 0xFF if offset == offsets[-1] else ~(FIN | PSH)
            kept &= 0xFF if index == 0 else ~CWR
            piece = put(piece, start + 13, "!B", kept & 0xFF)
        made.append(with_checksums(piece))
    return made


def unfinished(packet: bytes) -> bytes:
    """As a kernel leaves it to a device: the checksum field holds the pseudo header's sum."""
    at = ip_bytes(packet) + CHECKSUM_AT[packet[9]]
    return put(packet, at, "!H", ones_sum(pseudo_header(packet)))


def large(packet: bytes, segment_bytes: int, *, ecn: bool = False) -> tuple[bytes, bytes]:
    """(header, packet) of a whole TCP or UDP packet to be cut into pieces of this payload."""
    kind = (TCP4 | (ECN if ecn else 0)) if packet[9] == TCP else UDP_L4
    where = (ip_bytes(packet), CHECKSUM_AT[packet[9]])
    header = HEADER.pack(NEEDS_CHECKSUM, kind, headers_bytes(packet), segment_bytes, *where)
    return header, unfinished(with_ip_checksum(put(packet, 2, "!H", len(packet))))


def single(packet: bytes) -> tuple[bytes, bytes]:
    return bytes(HEADER.size), packet
