"""Cutting and joining at the TUN, against scapy and against each other."""

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.packet import Raw

from native import offload
from tests import segmenter

NEEDS_CSUM = 1
NONE, TCPV4, TCPV4_ECN, UDP_L4 = 0, 1, 0x81, 5
HEADER_BYTES = offload.HEADER_BYTES
A, B = "10.13.0.2", "198.51.100.7"


def header(flags=0, kind=NONE, header_bytes=0, segment=0, start=0, offset=0):
    return struct.pack("<BBHHHH", flags, kind, header_bytes, segment, start, offset)


def tcp(payload, seq=1000, ident=7, flags="A", **fields):
    options = fields.pop("options", [])
    ip = {key: fields.pop(key) for key in ("tos", "ttl", "src", "dst") if key in fields}
    layer = IP(**{"src": A, "dst": B, "id": ident, **ip}) / TCP(
        sport=4000, dport=80, seq=seq, ack=5, flags=flags, window=512, options=options, **fields
    )
    return bytes(layer / Raw(payload))


def udp(payload, ident=7, **fields):
    return bytes(IP(src=A, dst=B, id=ident) / UDP(sport=53, dport=5353, **fields) / Raw(payload))


def unfinished(packet):
    """As a kernel hands it over: the checksum field holds the pseudo header's sum."""
    ip = IP(packet)
    transport = len(packet) - 20
    words = packet[12:20] + bytes([0, ip.proto]) + struct.pack(">H", transport)
    total = sum(struct.unpack(">6H", words))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    at = 20 + (16 if ip.proto == 6 else 6)
    return packet[:at] + struct.pack(">H", total) + packet[at + 2 :]


def large(packet, segment, kind, header_bytes):
    offset = 16 if kind in (TCPV4, TCPV4_ECN) else 6
    head = header(NEEDS_CSUM, kind, header_bytes, segment, 20, offset)
    return head + unfinished(packet)


def test_split_cuts_tcp_as_a_kernel_without_offloads_would_send_it():
    payload = bytes(range(256)) * 12
    cut = offload.split(large(tcp(payload, flags="PA"), 1000, TCPV4, 40))
    assert cut == [
        tcp(payload[:1000], 1000, 7, "A"),
        tcp(payload[1000:2000], 2000, 8, "A"),
        tcp(payload[2000:3000], 3000, 9, "A"),
        tcp(payload[3000:], 4000, 10, "PA"),
    ]


def test_split_says_cwr_once_and_fin_last():
    cut = offload.split(large(tcp(bytes(2500), flags="FACP"), 1000, TCPV4_ECN, 40))
    assert [str(IP(packet)[TCP].flags) for packet in cut] == ["AC", "A", "FPA"]


def test_split_keeps_tcp_options():
    stamps = [("NOP", None), ("NOP", None), ("Timestamp", (17, 23))]
    cut = offload.split(large(tcp(bytes(2001), options=stamps), 1000, TCPV4, 52))
    assert cut == [
        tcp(bytes(1000), 1000, 7, options=stamps),
        tcp(bytes(1000), 2000, 8, options=stamps),
        tcp(bytes(1), 3000, 9, options=stamps),
    ]


def test_split_cuts_udp():
    cut = offload.split(large(udp(b"x" * 2500), 1200, UDP_L4, 28))
    assert cut == [udp(b"x" * 1200, 7), udp(b"x" * 1200, 8), udp(b"x" * 100, 9)]


@pytest.mark.parametrize("packet", [tcp(b"odd"), udp(b"even"), tcp(b"")])
def test_split_finishes_a_checksum_left_to_us(packet):
    offset = 16 if IP(packet).proto == 6 else 6
    head = header(NEEDS_CSUM, start=20, offset=offset)
    assert offload.split(head + unfinished(packet)) == [packet]


def test_split_hands_on_unchanged_what_has_nothing_left_to_do():
    ping = bytes(IP(src=A, dst=B) / ICMP() / Raw(b"ping"))
    assert offload.split(header() + ping) == [ping]


CONTRADICTIONS = {
    "nothing": b"",
    "header only": header(),
    "checksum beyond the packet": header(NEEDS_CSUM, start=20, offset=16) + bytes(30),
    "checksum from nowhere": header(NEEDS_CSUM, start=0, offset=16) + tcp(b"x" * 99),
    "no segment size": large(tcp(bytes(3000)), 0, TCPV4, 40),
    "kind and protocol differ": large(udp(bytes(3000)), 1000, TCPV4, 40),
    "unknown kind": large(tcp(bytes(3000)), 1000, 4, 40),
    "not IPv4": large(b"\x65" + tcp(bytes(3000))[1:], 1000, TCPV4, 40),
    "TCP header beyond": large(tcp(b"")[:32] + b"\xf0" + tcp(b"")[33:], 1000, TCPV4, 40),
    "length lies": large(tcp(bytes(3000)) + b"x", 1000, TCPV4, 40),
}


@pytest.mark.parametrize("case", CONTRADICTIONS)
def test_split_refuses_what_contradicts_itself(case):
    assert offload.split(CONTRADICTIONS[case]) is None


def stream(sizes, start=1000, ident=7, **fields):
    packets = []
    for number, size in enumerate(sizes):
        packets.append(tcp(bytes([number]) * size, start, ident + number, **fields))
        start += size
    return packets


def undone(packets):
    """What the kernel would see, in order, with the flow of writes kept."""
    return [cut for data, _ in offload.merge(packets) for cut in offload.split(data)]


def test_merge_joins_a_run_into_one_write_that_cuts_back_to_the_same_packets():
    run = stream([1000, 1000, 1000, 500])
    writes = offload.merge(run)
    assert [origins for _, origins in writes] == [[0, 1, 2, 3]]
    assert undone(run) == run


def test_merge_joins_udp_of_equal_sizes():
    run = [udp(bytes([i]) * 700, 7 + i) for i in range(5)] + [udp(b"z" * 20, 12)]
    assert [origins for _, origins in offload.merge(run)] == [[0, 1, 2, 3, 4, 5]]
    assert undone(run) == run


def changed(packet, at, value):
    return packet[:at] + bytes([value]) + packet[at + 1 :]


FIRST, SECOND = stream([1000, 1000])


STRANGERS = {
    "gap in sequence": tcp(b"\1" * 1000, 2001, 8),
    "other acknowledgement": tcp(b"\1" * 1000, 2000, 8)[:28] + bytes(4) + SECOND[32:],
    "longer than the first": tcp(b"\1" * 1001, 2000, 8),
    "pure acknowledgement": tcp(b"", 2000, 8),
    "SYN": tcp(b"\1" * 1000, 2000, 8, "SA"),
    "FIN": tcp(b"\1" * 1000, 2000, 8, "FA"),
    "URG": tcp(b"\1" * 1000, 2000, 8, "UA"),
    "CWR": tcp(b"\1" * 1000, 2000, 8, "CA"),
    "other DSCP": tcp(b"\1" * 1000, 2000, 8, tos=8),
    "congestion experienced": tcp(b"\1" * 1000, 2000, 8, tos=3),
    "other TTL": tcp(b"\1" * 1000, 2000, 8, ttl=9),
    "gap in identification": tcp(b"\1" * 1000, 2000, 9),
    "options appear": tcp(b"\1" * 996, 2000, 8, options=[("Timestamp", (1, 2))]),
    "wrong TCP checksum": changed(SECOND, 600, 77),
    "wrong IP checksum": changed(SECOND, 10, SECOND[10] ^ 1),
    "IP options": bytes(IP(src=A, dst=B, id=8, options=b"\1\1\1\1") / TCP() / Raw(b"x")),
    "fragment": bytes(IP(src=A, dst=B, id=8, frag=5, proto=6) / Raw(bytes(1000))),
}


@pytest.mark.parametrize("case", STRANGERS)
def test_merge_leaves_alone_and_in_order(case):
    second = STRANGERS[case]
    writes = offload.merge([FIRST, second])
    assert writes == [(header() + FIRST, [0]), (header() + second, [1])]


def test_merge_leaves_udp_without_checksum_alone():
    run = [udp(b"a" * 99, 7, chksum=0), udp(b"b" * 99, 8, chksum=0)]
    assert [origins for _, origins in offload.merge(run)] == [[0], [1]]


def test_merge_leaves_udp_alone_for_kernels_that_take_no_large_one():
    run = [udp(bytes([i]) * 700, 7 + i) for i in range(3)]
    writes = offload.merge([*run, *stream([1000, 1000])], udp_stays_alone=True)
    assert sorted(origins for _, origins in writes) == [[0], [1], [2], [3, 4]]


@pytest.mark.parametrize("last", [stream([9])[0], tcp(b"p" * 1000, 3000, 9, "PA")])
def test_merge_ends_with_a_short_or_pushed_segment(last):
    run = [*stream([1000, 1000]), tcp(IP(last)[TCP].payload.load, 3000, 9, IP(last)[TCP].flags)]
    after = tcp(b"n" * len(IP(last)[TCP].payload), 3000 + len(IP(last)[TCP].payload), 10)
    assert [origins for _, origins in offload.merge([*run, after])] == [[0, 1, 2], [3]]
    assert undone([*run, after]) == [*run, after]


def test_merge_joins_flows_side_by_side():
    one, two = stream([100] * 4), stream([100] * 4, src="10.13.0.9")
    mixed = [packet for pair in zip(one, two, strict=True) for packet in pair]
    assert sorted(origins for _, origins in offload.merge(mixed)) == [[0, 2, 4, 6], [1, 3, 5, 7]]


def test_merge_never_exceeds_an_ipv4_packet():
    run = stream([1400] * 60)
    assert all(len(data) - offload.HEADER_BYTES <= 65535 for data, _ in offload.merge(run))
    assert undone(run) == run


flows = st.sampled_from([f"10.13.0.{i}" for i in range(2, 14)])
bursts = st.lists(
    st.tuples(flows, st.lists(st.integers(0, 1360), min_size=1, max_size=9), st.booleans()),
    max_size=12,
)


@settings(max_examples=60, deadline=None)
@given(bursts)
def test_cutting_undoes_joining_and_keeps_every_flow_in_order(plan):
    packets, nexts = [], {}
    for source, sizes, equal in plan:
        for size in sizes:
            seq, ident = nexts.get(source, (1, 1))
            size = sizes[0] if equal else size
            packets.append(tcp(b"d" * size, seq, ident, src=source))
            nexts[source] = seq + size, ident + 1
    after = undone(packets)
    assert sorted(after) == sorted(packets)
    for source in nexts:
        mine = [p for p in packets if IP(p).src == source]
        assert [p for p in after if IP(p).src == source] == mine


@st.composite
def whole_packets(draw):
    """A TCP or UDP packet of any fields, and a segment size that cuts it."""
    payload = draw(st.binary(min_size=1, max_size=300)) * draw(st.integers(1, 40))
    fields = {
        "tos": draw(st.integers(0, 255)),
        "ttl": draw(st.integers(1, 255)),
        "flags": draw(st.sampled_from(["", "DF"])),
        "id": draw(st.integers(0, 65535)),
        "options": draw(st.sampled_from([b"", b"\1\1\1\1", bytes([7, 7, 4, 0, 0, 0, 0, 1])])),
    }
    if draw(st.booleans()):
        layer = UDP(sport=draw(st.integers(0, 65535)), dport=draw(st.integers(0, 65535)))
    else:
        layer = TCP(
            sport=draw(st.integers(0, 65535)),
            dport=9,
            seq=draw(st.integers(0, 2**32 - 1)),
            ack=draw(st.integers(0, 2**32 - 1)),
            flags=draw(st.integers(0, 511)) & ~0x06,  # neither SYN nor RST with payload
            window=draw(st.integers(0, 65535)),
            urgptr=draw(st.integers(0, 65535)),
            options=draw(st.sampled_from([[], [("NOP", None)] * 2 + [("Timestamp", (5, 6))]])),
        )
    packet = bytes(IP(src=A, dst=B, **fields) / layer / Raw(payload))
    return packet, draw(st.integers(max(1, len(payload) // 60), len(payload)))


@settings(max_examples=100, deadline=None)
@given(whole_packets())
def test_split_cuts_like_its_slow_twin(drawn):
    head, packet = segmenter.large(*drawn)
    assert offload.split(head + packet) == segmenter.cut(head, packet)


@st.composite
def strands(draw):
    """Packets of a few flows between two addresses, in turn: (the flow's name, packet)."""
    states = {}
    mixed = []
    for _ in range(draw(st.integers(1, 40))):
        kind, port = draw(st.sampled_from("tu")), draw(st.integers(1, 3))
        size = draw(st.sampled_from([0, 1, 9, 100, 100, 100]))
        seq, ident = states.get((kind, port), (2**32 - 500, 65530))
        states[kind, port] = (seq + size) % 2**32, (ident + 1) % 65536
        form = draw(st.sampled_from(["plain"] * 9 + ["options", "piece", "marked"]))
        fields = {"id": ident, "options": b"\1" * 4 if form == "options" else b""}
        fields |= {"tos": 3 if form == "marked" else 2}
        fields |= {"flags": draw(st.sampled_from(["", "DF"])) if kind == "u" else ""}
        if form == "piece":
            fields |= {"flags": "MF", "frag": draw(st.integers(0, 3))}
        layer = (
            TCP(sport=port, dport=9, seq=seq, ack=5, flags=draw(st.sampled_from(["A", "A", "PA"])))
            if kind == "t"
            else UDP(sport=port, dport=9)
        )
        payload = bytes([len(mixed)]) * size
        mixed.append(((kind, port), bytes(IP(src=A, dst=B, **fields) / layer / Raw(payload))))
    return mixed


def atomic_aside(packet):
    """RFC 6864: the identification of a packet with DF that is no fragment means nothing."""
    flags = int.from_bytes(packet[6:8], "big")
    if flags & 0x7FFF != 0x4000:
        return packet
    bare = packet[:4] + bytes(2) + packet[6:]
    return segmenter.with_checksums(bare) if bare[9] in (6, 17) else bare


@settings(max_examples=150, deadline=None)
@given(strands())
def test_no_packet_overtakes_another_of_its_flow(drawn):
    """Cut by the twin. A fragment, or a packet with IPv4 options, is of the flow it was made for,
    which the joining does not see."""
    name_of = {}
    for flow, packet in drawn:
        name_of.setdefault(atomic_aside(packet), flow)
    writes = [data for data, _ in offload.merge([packet for _, packet in drawn])]
    after = [
        atomic_aside(packet)
        for data in writes
        for packet in segmenter.cut(data[:HEADER_BYTES], data[HEADER_BYTES:])
    ]
    before = [atomic_aside(packet) for _, packet in drawn]
    assert sorted(after) == sorted(before)
    for flow in set(name_of.values()):
        assert [p for p in after if name_of[p] == flow] == [p for p in before if name_of[p] == flow]
