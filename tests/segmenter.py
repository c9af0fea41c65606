"""Segmentation done slowly: what a kernel without offloads would send, an oracle for ours.

A large packet and its virtio_net_hdr become packets by these rules and no others: each carries
gso_size bytes of payload but the last; IPv4 lengths are each packet's own and identifications count
up from the first (RFC 791; also with DF, where RFC 6864 lets any value stand); IPv6 has a payload
length alone, and its extension headers are copied (RFC 8200); TCP sequence numbers
advance by the payload, PSH and FIN stand on the last only (RFC 9293), CWR on the first only
(RFC 3168); UDP lengths are each datagram's own and a checksum that comes out 0 is sent as 0xFFFF
(RFC 768); every other bit is the large packet's.
"""

import struct

HEADER = struct.Struct("<BBHHHH")  # struct virtio_net_hdr
NEEDS_CHECKSUM = 1
NONE, TCP4, TCP6, UDP_L4, ECN = 0, 1, 4, 5, 0x80
TCP, UDP = 6, 17
HOP_BY_HOP, DESTINATION_OPTIONS = 0, 60
IPV6_BYTES = 40
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


def is_ipv6(packet: bytes) -> bool:
    return packet[0] >> 4 == 6


def headers(packet: bytes) -> tuple[int, int]:
    """Length of the IP header with what extends it, and the protocol behind it."""
    if not is_ipv6(packet):
        return (packet[0] & 15) * 4, packet[9]
    size, protocol = IPV6_BYTES, packet[6]
    while protocol in (HOP_BY_HOP, DESTINATION_OPTIONS):
        size, protocol = size + 8 * (packet[size + 1] + 1), packet[size]
    return size, protocol


def ip_bytes(packet: bytes) -> int:
    return headers(packet)[0]


def transport(packet: bytes) -> int:
    return headers(packet)[1]


def pseudo_header(packet: bytes) -> bytes:
    size, protocol = headers(packet)
    body = len(packet) - size
    if is_ipv6(packet):
        return packet[8:40] + struct.pack("!LL", body, protocol)
    return packet[12:20] + struct.pack("!BBH", 0, protocol, body)


def with_length(packet: bytes) -> bytes:
    if is_ipv6(packet):
        return put(packet, 4, "!H", len(packet) - IPV6_BYTES)
    return put(packet, 2, "!H", len(packet))


def with_ip_checksum(packet: bytes) -> bytes:
    if is_ipv6(packet):
        return packet
    bare = put(packet, 10, "!H", 0)
    return put(bare, 10, "!H", checksum(bare[: ip_bytes(bare)]))


def with_checksums(packet: bytes) -> bytes:
    """Both of a whole TCP or UDP packet, made anew."""
    packet = with_ip_checksum(packet)
    start = ip_bytes(packet)
    at = start + CHECKSUM_AT[transport(packet)]
    bare = put(packet, at, "!H", 0)
    value = checksum(pseudo_header(bare) + bare[start:])
    return put(bare, at, "!H", 0xFFFF if transport(packet) == UDP and not value else value)


def headers_bytes(packet: bytes) -> int:
    start = ip_bytes(packet)
    is_tcp = transport(packet) == TCP
    return start + (packet[start + 12] >> 4) * 4 if is_tcp else start + 8


def cut(header: bytes, packet: bytes) -> list[bytes]:
    """Of one packet as a packet socket or a TUN shows it; `packet` begins with the IP header."""
    flags, kind, _, segment_bytes, start, offset = HEADER.unpack(header)
    if kind != NONE:
        assert {TCP4: TCP, TCP6: TCP, UDP_L4: UDP}[kind & ~ECN] == transport(packet)
        return segments(packet, segment_bytes)
    if not flags & NEEDS_CHECKSUM:
        return [packet]
    value = checksum(packet[start:])
    is_udp = transport(packet) == UDP
    return [put(packet, start + offset, "!H", 0xFFFF if is_udp and not value else value)]


def segments(packet: bytes, segment_bytes: int) -> list[bytes]:
    start, head = ip_bytes(packet), headers_bytes(packet)
    identification = int.from_bytes(packet[4:6], "big")
    payload = packet[head:]
    offsets = range(0, max(1, len(payload)), segment_bytes)
    made = []
    for index, offset in enumerate(offsets):
        piece = packet[:head] + payload[offset : offset + segment_bytes]
        piece = with_length(piece)
        if not is_ipv6(packet):
            piece = put(piece, 4, "!H", (identification + index) & 0xFFFF)
        if transport(packet) == UDP:
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
    at = ip_bytes(packet) + CHECKSUM_AT[transport(packet)]
    return put(packet, at, "!H", ones_sum(pseudo_header(packet)))


def large(packet: bytes, segment_bytes: int, *, ecn: bool = False) -> tuple[bytes, bytes]:
    """(header, packet) of a whole TCP or UDP packet to be cut into pieces of this payload."""
    start, protocol = headers(packet)
    tcp = TCP6 if is_ipv6(packet) else TCP4
    kind = tcp | (ECN if ecn else 0) if protocol == TCP else UDP_L4
    where = (start, CHECKSUM_AT[protocol])
    header = HEADER.pack(NEEDS_CHECKSUM, kind, headers_bytes(packet), segment_bytes, *where)
    return header, unfinished(with_ip_checksum(with_length(packet)))


def single(packet: bytes) -> tuple[bytes, bytes]:
    return bytes(HEADER.size), packet
