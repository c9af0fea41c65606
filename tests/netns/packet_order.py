"""Whether packets passed as they had to: none changed, none of a flow out of turn.

What is required of packets that went through the tunnel, from one TUN to the other: every byte as
it was sent, flow by flow in order. One thing may differ: the identification, with its checksum, of
packets that are atomic (DF set, no fragment), because RFC 6864 4.1 gives it no meaning there and
cutting a joined packet counts it up. Packets that went through the hub's kernel as well have a TTL
that is one lower and, from the node to the internet, the hub's source address.
"""

import socket
from collections import defaultdict

from tests.segmenter import TCP, UDP, ip_bytes, put, with_checksums, with_ip_checksum

DONT_FRAGMENT, MORE_FRAGMENTS, OFFSET = 0x4000, 0x2000, 0x1FFF

Flow = tuple[bytes, bytes]


def fragment_field(packet: bytes) -> int:
    return int.from_bytes(packet[6:8], "big")


def is_fragment(packet: bytes) -> bool:
    return bool(fragment_field(packet) & (MORE_FRAGMENTS | OFFSET))


def flows(packets: list[bytes]) -> dict[Flow, list[bytes]]:
    """By protocol, addresses and ports; a fragment is of the flow its first piece names."""
    found: dict[Flow, list[bytes]] = defaultdict(list)
    ports_of: dict[bytes, bytes] = {}
    for packet in packets:
        ends = packet[9:10] + packet[12:20]
        ports = b""
        if fragment_field(packet) & OFFSET:
            ports = ports_of.get(ends + packet[4:6], b"")
        elif packet[9] in (TCP, UDP):
            ports = packet[ip_bytes(packet) :][:4]
            ports_of[ends + packet[4:6]] = ports
        found[ends, ports].append(packet)
    return dict(found)


def essence(packet: bytes) -> bytes:
    """Without what may differ."""
    if fragment_field(packet) & DONT_FRAGMENT and not is_fragment(packet):
        return with_ip_checksum(put(packet, 4, "!H", 0))
    return packet


def assert_unchanged(sent: list[bytes], received: list[bytes]) -> None:
    """Everything arrived."""
    before, after = flows(sent), flows(received)
    assert before.keys() == after.keys()
    for flow, packets in before.items():
        assert_equal(packets, after[flow])


def assert_all_there(sent: list[bytes], received: list[bytes]) -> None:
    """Everything arrived, in whatever order: a veth queues on the core that sends, so a flow whose
    sender changes cores may be reordered between two kernels."""
    before, after = flows(sent), flows(received)
    assert before.keys() == after.keys()
    for flow, packets in before.items():
        assert_equal(sorted(packets, key=essence), sorted(after[flow], key=essence))


def assert_equal(packets: list[bytes], others: list[bytes]) -> None:
    for index, (one, other) in enumerate(zip(packets, others, strict=False)):
        assert essence(one) == essence(other), (
            f"packet {index}: {one[:80].hex()} {other[:80].hex()}"
        )
    assert len(packets) == len(others)


def assert_part_unchanged(sent: list[bytes], received: list[bytes]) -> int:
    """Nothing arrived that was not sent, and it arrived in order; how many did not arrive."""
    before, after = flows(sent), flows(received)
    assert after.keys() <= before.keys()
    for flow, packets in after.items():
        rest = map(essence, before[flow])
        for packet in packets:
            assert essence(packet) in rest, f"not sent, or out of turn: {packet[:80].hex()}"
    return len(sent) - len(received)


def forwarded(packet: bytes, source: str = "") -> bytes:
    """As the hub's kernel hands it on."""
    packet = put(packet, 8, "!B", packet[8] - 1)
    if source:
        packet = packet[:12] + socket.inet_aton(source) + packet[16:]
    has_sum = packet[9] == TCP or packet[ip_bytes(packet) + 6 :][:2] != b"\0\0"
    if packet[9] in (TCP, UDP) and not is_fragment(packet) and has_sum:
        return with_checksums(packet)
    return with_ip_checksum(packet)
