"""The oracle, and cutting and joining themselves, beside a kernel that has all offloads off.

cutter out0, nothing offloaded ─── in0 seer
"""

import os
import random
from collections.abc import Callable, Iterator

import pytest
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrDestOpt, IPv6ExtHdrHopByHop, PadN
from scapy.packet import Raw

from bench.namespace import Namespace
from native import offload
from tests.netns.large_packets import Injector, LargeCapture, assert_checksums_right, switch
from tests.segmenter import HEADER, cut, is_ipv6, large

A, B = "10.13.0.2", "198.51.100.7"
A6, B6 = "fd13::2", "2001:db8::7"
STAMPS = [("NOP", None), ("NOP", None), ("Timestamp", (17, 23))]
NOP4 = b"\1\1\1\1"
PACKET_MAX = 65535

Pair = tuple[bytes, bytes]
Kernel = Callable[[list[Pair]], list[bytes]]


@pytest.fixture(scope="module")
def kernel() -> Iterator[Kernel]:
    """What the kernel makes of packets for an interface that can do nothing for it."""
    cutter, seer = (Namespace(f"m13-{word}-{os.getpid()}") for word in ("cutter", "seer"))
    try:
        cutter.veth("out0", seer, "in0")
        switch(cutter, "out0", "gso", "tso", "tx", on=False)

        def sent(packets: list[Pair]) -> list[bytes]:
            count = sum(len(cut(*pair)) for pair in packets)
            ipv6 = is_ipv6(packets[0][1])
            ethernet = b"\x02" * 6 + b"\x04" * 6 + (b"\x86\xdd" if ipv6 else b"\x08\x00")
            with (
                LargeCapture(seer, "in0", ethernet=True, ipv6=ipv6) as seen,
                Injector(cutter, "out0", ethernet) as injector,
            ):
                for pair in packets:
                    injector.send(*pair)
                seen.wait_arrived(count)
            assert seen.arrived_large == 0, "the kernel handed a large packet on"
            return seen.arrived

        yield sent
    finally:
        cutter.remove()
        seer.remove()


def tcp(
    payload: bytes, seq: int = 1000, ident: int = 7, flags: str = "A", **fields: object
) -> bytes:
    ip = {name: fields.pop(name) for name in ("tos", "ttl") if name in fields}
    ip |= {"flags": fields.pop("ip_flags", ""), "options": fields.pop("ip_options", [])}
    layer = TCP(sport=4000, dport=80, seq=seq, ack=5, flags=flags, window=512, **fields)
    return bytes(IP(src=A, dst=B, id=ident, **ip) / layer / Raw(payload))


def udp(payload: bytes, ident: int = 7, ip_flags: str = "", **fields: object) -> bytes:
    layer = UDP(sport=53, dport=5353)
    return bytes(IP(src=A, dst=B, id=ident, flags=ip_flags, **fields) / layer / Raw(payload))


def over6(transport: TCP | UDP, payload: bytes, fields: dict) -> bytes:
    extensions = fields.pop("extensions", ())
    layer = IPv6(src=A6, dst=B6, **fields)
    for extension in extensions:
        layer /= extension
    return bytes(layer / transport / Raw(payload))


def tcp6(payload: bytes, seq: int = 1000, flags: str = "A", **fields: object) -> bytes:
    ip = {name: fields.pop(name) for name in ("tc", "hlim", "fl", "extensions") if name in fields}
    layer = TCP(sport=4000, dport=80, seq=seq, ack=5, flags=flags, window=512, **fields)
    return over6(layer, payload, ip)


def udp6(payload: bytes, **fields: object) -> bytes:
    return over6(UDP(sport=53, dport=5353), payload, fields)


OPTIONS = PadN(optdata=bytes(10))

NOISE = random.Random(13).randbytes(PACKET_MAX)

CUT = {
    "TCP": (tcp(NOISE[:30000]), 1360),
    "TCP, whole segments": (tcp(NOISE[:4000]), 1000),
    "TCP, odd segments": (tcp(NOISE[:9999]), 333),
    "TCP, PSH and FIN": (tcp(NOISE[:5000], flags="FPA"), 999),
    "TCP, ECE": (tcp(NOISE[:5000], flags="EA", tos=2), 999),
    "TCP, URG": (tcp(NOISE[:5000], flags="UA", urgptr=77), 999),
    "TCP, options": (tcp(NOISE[:5001], options=STAMPS), 1348),
    "TCP, DF": (tcp(NOISE[:5001], ip_flags="DF"), 1348),
    "TCP, sequence and id turn over": (tcp(NOISE[:5000], 0xFFFFFC00, 0xFFFE), 500),
    "TCP, as large as IPv4": (tcp(NOISE[: PACKET_MAX - 40]), 1359),
    "UDP": (udp(NOISE[:20000]), 1372),
    "UDP, whole datagrams": (udp(NOISE[:4000]), 1000),
    "UDP, a byte each": (udp(NOISE[:64]), 1),
    "UDP, odd": (udp(NOISE[:2000]), 33),
    "UDP, DF, CE": (udp(NOISE[:2000], ip_flags="DF", tos=3), 99),
    "TCP, IPv4 options": (tcp(NOISE[:5000], ip_options=NOP4), 1000),
    "UDP, IPv4 options": (udp(NOISE[:5000], options=NOP4), 1000),
    "TCP6": (tcp6(NOISE[:30000]), 1340),
    "TCP6, odd segments": (tcp6(NOISE[:9999]), 333),
    "TCP6, PSH and FIN": (tcp6(NOISE[:5000], flags="FPA"), 999),
    "TCP6, options": (tcp6(NOISE[:5001], options=STAMPS), 1328),
    "TCP6, sequence turns over": (tcp6(NOISE[:5000], 0xFFFFFC00), 500),
    "TCP6, label and class": (tcp6(NOISE[:5000], tc=2, fl=0xABCDE), 500),
    "TCP6, hop-by-hop": (tcp6(NOISE[:5000], extensions=[IPv6ExtHdrHopByHop(options=OPTIONS)]), 500),
    "TCP6, destination options": (
        tcp6(NOISE[:5000], extensions=[IPv6ExtHdrDestOpt(options=OPTIONS)]),
        500,
    ),
    "TCP6, as large as it gets": (tcp6(NOISE[: PACKET_MAX - 60]), 1339),
    "UDP6": (udp6(NOISE[:20000]), 1352),
    "UDP6, a byte each": (udp6(NOISE[:64]), 1),
    "UDP6, odd": (udp6(NOISE[:2000]), 33),
}


@pytest.mark.parametrize("case", CUT)
def test_cutting_is_what_the_kernel_does_itself(kernel: Kernel, case: str) -> None:
    packet, segment = CUT[case]
    header, unfinished = large(packet, segment)
    expected = kernel([(header, unfinished)])
    assert cut(header, unfinished) == expected
    assert offload.split(header + unfinished) == expected
    assert_checksums_right(expected)


def test_cwr_is_said_once_by_all_three(kernel: Kernel) -> None:
    header, unfinished = large(tcp(NOISE[:3000], flags="CEAP", tos=2), 1000, ecn=True)
    expected = kernel([(header, unfinished)])
    assert [str(IP(packet)[TCP].flags) for packet in expected] == ["AEC", "AE", "PAE"]
    assert cut(header, unfinished) == expected
    assert offload.split(header + unfinished) == expected


def run_of(maker: Callable[..., bytes], sizes: list[int], **fields: object) -> list[bytes]:
    packets, at = [], 0
    for number, size in enumerate(sizes):
        place = {"seq": (0xFFFFF000 + at) & 0xFFFFFFFF} if maker in (tcp, tcp6) else {}
        place |= {"ident": (0xFFFD + number) & 0xFFFF} if maker in (tcp, udp) else {}
        packets.append(maker(NOISE[at : at + size], **place, **fields))
        at += size
    return packets


JOINED = {
    "TCP": run_of(tcp, [1360] * 40),
    "TCP, odd, shorter last": run_of(tcp, [333] * 20 + [1]),
    "TCP, options": run_of(tcp, [1348] * 20, options=STAMPS),
    "TCP, DF": run_of(tcp, [1348] * 20, ip_flags="DF"),
    "TCP, ECT": run_of(tcp, [1348] * 20, tos=2),
    "TCP, CE": run_of(tcp, [1348] * 20, tos=3),
    "UDP": run_of(udp, [1372] * 40),
    "UDP, a byte each": run_of(udp, [1] * 64),
    "UDP, odd, shorter last": run_of(udp, [77] * 63 + [5]),
    "UDP, CE": run_of(udp, [77] * 9, tos=3),
    "TCP6": run_of(tcp6, [1340] * 40),
    "TCP6, odd, shorter last": run_of(tcp6, [333] * 20 + [1]),
    "TCP6, options": run_of(tcp6, [1328] * 20, options=STAMPS),
    "TCP6, label and class": run_of(tcp6, [1328] * 20, tc=3, fl=0xABCDE),
    "UDP6": run_of(udp6, [1352] * 40),
    "UDP6, a byte each": run_of(udp6, [1] * 64),
    "UDP6, odd, shorter last": run_of(udp6, [77] * 63 + [5]),
}


@pytest.mark.parametrize("case", JOINED)
def test_the_kernel_takes_what_was_joined_apart_again(kernel: Kernel, case: str) -> None:
    packets = JOINED[case]
    writes = [data for data, _ in offload.merge(packets)]
    assert len(writes) == 1
    assert kernel([(data[: HEADER.size], data[HEADER.size :]) for data in writes]) == packets
