"""Cutting and joining IPv6 at the TUN, against scapy and against the slow twin."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers.inet import TCP, UDP
from scapy.layers.inet6 import (
    ICMPv6EchoRequest,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrRouting,
)
from scapy.packet import Raw

from native import offload
from tests import segmenter
from tests.core.test_offload import NEEDS_CSUM, TCPV4, changed, header, tcp

A6, B6 = "fd13::2", "2001:db8::7"


def tcp6(payload, seq=1000, flags="A", extensions=(), **fields):
    options = fields.pop("options", [])
    packet = IPv6(src=A6, dst=B6, **fields)
    for extension in extensions:
        packet /= extension
    tcp_header = TCP(sport=4000, dport=80, seq=seq, ack=5, flags=flags, window=512, options=options)
    return bytes(packet / tcp_header / Raw(payload))


def udp6(payload, port=53, **fields):
    return bytes(IPv6(src=A6, dst=B6, **fields) / UDP(sport=port, dport=9) / Raw(payload))


def test_split_cuts_tcp_over_ipv6():
    payload = bytes(range(256)) * 12
    head, packet = segmenter.large(tcp6(payload, flags="PA", fl=77, tc=2), 1000)
    assert offload.split(head + packet) == [
        tcp6(payload[:1000], 1000, "A", fl=77, tc=2),
        tcp6(payload[1000:2000], 2000, "A", fl=77, tc=2),
        tcp6(payload[2000:3000], 3000, "A", fl=77, tc=2),
        tcp6(payload[3000:], 4000, "PA", fl=77, tc=2),
    ]


def test_split_cuts_udp_over_ipv6():
    head, packet = segmenter.large(udp6(b"x" * 2500), 1200)
    assert offload.split(head + packet) == [udp6(b"x" * size) for size in (1200, 1200, 100)]


CONTRADICTIONS6 = {
    "IPv4 kind": (tcp6(bytes(3000)), TCPV4),
    "IPv6 kind for IPv4": (tcp(bytes(3000)), 4),
    "routing header": (tcp6(bytes(3000), extensions=[IPv6ExtHdrRouting()]), 4),
    "fragment": (tcp6(bytes(3000), extensions=[IPv6ExtHdrFragment(offset=4)]), 4),
    "extension beyond": (tcp6(b"")[:6] + b"\x3c" + tcp6(b"")[7:40] + b"\x06\xff" + bytes(40), 4),
    "length lies": (tcp6(bytes(3000)) + b"x", 4),
}


@pytest.mark.parametrize("case", CONTRADICTIONS6)
def test_split_refuses_what_contradicts_itself_in_ipv6(case):
    packet, kind = CONTRADICTIONS6[case]
    assert offload.split(header(NEEDS_CSUM, kind, 60, 1000, 40, 16) + packet) is None


def stream6(sizes, start=1000, **fields):
    packets = []
    for number, size in enumerate(sizes):
        packets.append(tcp6(bytes([number]) * size, start, **fields))
        start += size
    return packets


@pytest.mark.parametrize(
    "run", [stream6([1000, 1000, 1000, 500], fl=5), [udp6(b"u" * 700)] * 4 + [udp6(b"v")]]
)
def test_merge_joins_ipv6_into_one_write_that_cuts_back_to_the_same_packets(run):
    writes = offload.merge(run)
    assert [origins for _, origins in writes] == [list(range(len(run)))]
    assert [p for data, _ in writes for p in segmenter.cut(data[:10], data[10:])] == run


FIRST6, SECOND6 = stream6([1000, 1000])
STRANGERS6 = {
    "gap in sequence": tcp6(b"\1" * 1000, 2001),
    "other flow label": tcp6(b"\1" * 1000, 2000, fl=1),
    "other class": tcp6(b"\1" * 1000, 2000, tc=3),
    "other hop limit": tcp6(b"\1" * 1000, 2000, hlim=9),
    "wrong checksum": changed(SECOND6, 600, 77),
    "extension header": tcp6(b"\1" * 1000, 2000, extensions=[IPv6ExtHdrDestOpt()]),
    "fragment": tcp6(b"\1" * 1000, 2000, extensions=[IPv6ExtHdrFragment(offset=4)]),
    "FIN": tcp6(b"\1" * 1000, 2000, "FA"),
}


@pytest.mark.parametrize("case", STRANGERS6)
def test_merge_leaves_alone_and_in_order_in_ipv6(case):
    second = STRANGERS6[case]
    writes = offload.merge([FIRST6, second])
    assert writes == [(header() + FIRST6, [0]), (header() + second, [1])]


def test_merge_lets_pings_and_the_other_family_pass_by_a_flow():
    ping = bytes(IPv6(src=A6, dst=B6) / ICMPv6EchoRequest(data=b"?"))
    one, two = stream6([100] * 2)
    four = tcp(b"4" * 100, 1000, 7)
    writes = offload.merge([one, ping, four, two])
    assert sorted(origins for _, origins in writes) == [[0, 3], [1], [2]]


@st.composite
def whole_packets6(draw):
    payload = draw(st.binary(min_size=1, max_size=300)) * draw(st.integers(1, 40))
    fields = {
        "tc": draw(st.integers(0, 255)),
        "fl": draw(st.integers(0, 2**20 - 1)),
        "hlim": draw(st.integers(1, 255)),
    }
    if draw(st.booleans()):
        packet = udp6(payload, draw(st.integers(0, 65535)), **fields)
    else:
        flags = draw(st.integers(0, 511)) & ~0x06
        seq = draw(st.integers(0, 2**32 - 1))
        packet = tcp6(payload, seq, flags, extensions=[IPv6ExtHdrDestOpt()][: seq % 2], **fields)
    return packet, draw(st.integers(max(1, len(payload) // 60), len(payload)))


@settings(max_examples=100, deadline=None)
@given(whole_packets6())
def test_split_cuts_ipv6_like_its_slow_twin(drawn):
    head, packet = segmenter.large(*drawn)
    assert offload.split(head + packet) == segmenter.cut(head, packet)
