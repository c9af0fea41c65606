"""Packets put into one TUN bit by bit come out of the other as they were.

The receiving end is held meanwhile, so that it gets them all at once and joins what it can.
"""

import random
import time
from collections.abc import Callable, Iterator
from itertools import chain, zip_longest
from typing import Any

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption_NOP, IPOption_RR, fragment
from scapy.packet import Raw

from bench.bed import INTERNET_ADDRESS
from bench.tunnel import Keys
from tests.netns.conftest import Tunnel
from tests.netns.large_packets import Injector, held
from tests.netns.offload_bed import HUB, HUB_RX, NODE, TUN, hub_rx_name, running, watched
from tests.netns.packet_order import assert_unchanged
from tests.segmenter import large, put, single

WAIT_S = 3
PACKETS_MAX = 300  # the queue of the receiving end, while it is held
NOISE = random.Random(13).randbytes(1 << 16)
STAMPS = [("NOP", None), ("NOP", None), ("Timestamp", (17, 23))]
ROUTE = [IPOption_RR(length=15, routers=["0.0.0.0"] * 3), IPOption_NOP()]

Pair = tuple[bytes, bytes]


@pytest.fixture(scope="module", params=HUB_RX, ids=hub_rx_name)
def tunnel(request: pytest.FixtureRequest, keys: Keys) -> Iterator[Tunnel]:
    yield from running(request, keys, *request.param)


class Maker:
    """Packets from one address to another."""

    def __init__(self, source: str, destination: str) -> None:
        self.addresses = {"src": source, "dst": destination}

    def ip(self, layer: Any, **fields: Any) -> bytes:
        return bytes(IP(**{"id": 7, **self.addresses, **fields}) / layer)

    def tcp(self, payload: int, at: int = 0, number: int = 0, **fields: Any) -> bytes:
        """Payload bytes from `at` of the noise on, as segment `number` of a flow."""
        own = {
            name: fields.pop(name)
            for name in ("options", "ack", "window", "urgptr", "chksum")
            if name in fields
        }
        layer = TCP(
            sport=fields.pop("port", 4000),
            dport=9,
            seq=1000 + at,
            flags=fields.pop("bits", "A"),
            **{"ack": 5, "window": 512, **own},
        )
        if "options_of_ip" in fields:
            fields["options"] = fields.pop("options_of_ip")
        return self.ip(layer / Raw(NOISE[at : at + payload]), **{"id": 7 + number, **fields})

    def udp(self, payload: int, number: int = 0, **fields: Any) -> bytes:
        own = {name: fields.pop(name) for name in ("chksum", "len") if name in fields}
        layer = UDP(sport=fields.pop("port", 4000), dport=9, **own)
        at = number * 97
        return self.ip(layer / Raw(NOISE[at : at + payload]), **{"id": 7 + number, **fields})

    def stream(self, sizes: list[int], start: int = 0, **fields: Any) -> list[bytes]:
        ats = [sum(sizes[:index]) for index in range(len(sizes))]
        return [
            self.tcp(size, start + at, index, **fields)
            for index, (size, at) in enumerate(zip(sizes, ats, strict=True))
        ]


def exception(number: int, **fields: Any) -> Callable[[Maker], list[Pair]]:
    """A run of equal segments of which every so many one has something of its own."""

    def build(make: Maker) -> list[Pair]:
        packets = []
        for index in range(48):
            own = fields if index % number == number - 1 else {}
            packets.append(single(make.tcp(500, 500 * index, index, **own)))
        return packets

    return build


def of_udp(number: int, **fields: Any) -> Callable[[Maker], list[Pair]]:
    def build(make: Maker) -> list[Pair]:
        packets = []
        for index in range(48):
            own = fields if index % number == number - 1 else {}
            packets.append(single(make.udp(**{"payload": 300, "number": index, **own})))
        return packets

    return build


def damaged(make: Maker) -> list[Pair]:
    """A wrong checksum of either header arrives as wrong as it was."""
    packets = make.stream([500] * 40)
    for index in range(3, 40, 7):
        packets[index] = put(packets[index], 539 if index % 2 else 300, "!B", index)
    for index in range(5, 40, 11):
        packets[index] = put(packets[index], 36, "!H", 0x1234)
    return [single(packet) for packet in packets]


def gaps(make: Maker) -> list[Pair]:
    kept = [packet for index, packet in enumerate(make.stream([500] * 60)) if index % 9]
    return [single(packet) for packet in kept + kept[10:20] + make.stream([0, 0, 1, 1, 500])]


def in_fragments(make: Maker) -> list[Pair]:
    whole = [
        IP(id=90, **make.addresses) / UDP(sport=4000, dport=9) / Raw(NOISE[:5001]),
        IP(id=91, **make.addresses) / TCP(sport=4000, dport=9, flags="A") / Raw(NOISE[:4003]),
        IP(id=92, **make.addresses) / ICMP() / Raw(NOISE[:3999]),
    ]
    pieces = [[bytes(piece) for piece in fragment(packet, 1200)] for packet in whole]
    others = [make.udp(300, number) for number in range(9)] + make.stream([700] * 9)
    mixed = chain.from_iterable(zip_longest(*pieces, others))
    return [single(packet) for packet in mixed if packet]


def portless_between_flows(make: Maker) -> list[Pair]:
    """What has no ports for us may be of any flow between its addresses, and keeps its place."""
    packets = []
    for turn in range(12):
        packets += [make.udp(80, 4 * turn, port=1), make.udp(80, 4 * turn, port=2)]
        packets += [
            make.udp(80, 4 * turn + step, port=2, options=[IPOption_NOP()] * 4) for step in (1, 2)
        ]
        packets += [make.udp(80, 4 * turn + step, port=1, flags="DF") for step in (1, 2, 3)]
    return [single(packet) for packet in packets]


def identifications(make: Maker) -> list[Pair]:
    ids = [0] * 9 + list(range(0xFFFC, 0x10004)) + [5, 4, 3, 3, 3, 4, 4, 9]
    return [
        single(make.tcp(400, 400 * index, id=value & 0xFFFF)) for index, value in enumerate(ids)
    ]


def icmp(make: Maker) -> list[Pair]:
    sizes = (0, 1, 2, 7, 55, 77, 999, 1371, 1372)
    return [
        single(make.ip(ICMP(type=8 * (number % 2), seq=number) / Raw(NOISE[:size]), id=number))
        for number, size in enumerate(sizes * 3)
    ]


def other_protocols(make: Maker) -> list[Pair]:
    numbers = (2, 4, 41, 47, 50, 51, 89, 132, 136, 253, 255)
    sizes = (0, 1, 3, 8, 20, 21, 777, 1380)
    return [
        single(make.ip(Raw(NOISE[:size]), proto=number, id=size, flags="DF" if size % 2 else ""))
        for number in numbers
        for size in sizes
    ]


def options(make: Maker) -> list[Pair]:
    singles = [make.udp(300, number, options=ROUTE) for number in range(9)]
    singles += [make.tcp(300, 300 * number, number, options=STAMPS) for number in range(9)]
    singles += [
        make.ip(UDP(sport=3, dport=9) / Raw(b"x" * 99), options=ROUTE, id=n) for n in (1, 2)
    ]
    return [single(packet) for packet in singles]


def larges(make: Maker) -> list[Pair]:
    """Of every kind, with singles between that follow them exactly."""
    flow = {"port": 5000, "flags": "DF"}
    pairs = [large(make.tcp(20001, 0, 0, bits="A"), 1000), single(make.tcp(500, 20001, 21))]
    pairs += [large(make.tcp(9000, 20501, 22, bits="FPA"), 1360)]
    pairs += [large(make.tcp(5000, 0, 0, bits="CEPA", tos=2, port=7), 999, ecn=True)]
    pairs += [large(make.tcp(5000, 5000, 6, bits="EA", tos=3, port=7), 999)]
    pairs += [large(make.tcp(3000, 0, 0, bits="UPA", urgptr=99, port=8), 777)]
    pairs += [large(make.tcp(5000, 0, 65534, options=STAMPS, port=6, id=65534), 1348)]
    pairs += [large(make.udp(size, 1, **flow), segment) for size, segment in ((64, 1), (3001, 300))]
    pairs += [large(make.udp(9000, 50, tos=3), 1372), single(make.udp(1372, 57, tos=3))]
    return pairs


def of_flows(tcp_flows: int, udp_flows: int) -> Callable[[Maker], list[Pair]]:
    def build(make: Maker) -> list[Pair]:
        flows = [
            make.stream([100 + port] * 14, port=port, tos=port % 4)
            for port in range(1, tcp_flows + 1)
        ]
        flows += [
            [make.udp(200, number, port=port) for number in range(14)]
            for port in range(1, udp_flows + 1)
        ]
        return [single(packet) for packet in chain.from_iterable(zip(*flows, strict=True))]

    return build


CASES: dict[str, Callable[[Maker], list[Pair]]] = {
    "plain": exception(99),
    "CE": exception(3, tos=3),
    "ECT(1) and ECT(0)": exception(2, tos=1),
    "DSCP": exception(5, tos=0xB8),
    "TTL": exception(4, ttl=33),
    "DF": exception(4, flags="DF"),
    "reserved flag of IPv4": exception(4, flags="evil"),
    "PSH": exception(7, bits="PA"),
    "FIN": exception(7, bits="FA"),
    "RST": exception(7, bits="RA"),
    "SYN": exception(7, bits="SA"),
    "URG": exception(7, bits="UA", urgptr=3),
    "urgent pointer without URG": exception(7, urgptr=3),
    "ECE": exception(3, bits="EA"),
    "CWR": exception(3, bits="CA"),
    "AE": exception(3, bits="NA"),
    "acknowledgement": exception(3, ack=6),
    "window": exception(3, window=511),
    "TCP options": exception(4, options=STAMPS),
    "TCP checksum 0": exception(4, chksum=0),
    "IPv4 options": exception(4, options_of_ip=ROUTE),
    "options of both": options,
    "UDP": of_udp(99),
    "UDP, CE": of_udp(3, tos=3),
    "UDP, no checksum": of_udp(3, chksum=0),
    "UDP, wrong checksum": of_udp(4, chksum=0x1234),
    "UDP, length of its own": of_udp(4, len=100),
    "UDP, shorter": of_udp(4, payload=299),
    "UDP, longer": of_udp(4, payload=301),
    "UDP, empty": of_udp(4, payload=0),
    "UDP, DF with any identification": of_udp(1, flags="DF", id=0),
    "damaged": damaged,
    "gaps": gaps,
    "fragments": in_fragments,
    "portless between flows": portless_between_flows,
    "identifications": identifications,
    "ICMP": icmp,
    "other protocols": other_protocols,
    "large": larges,
    "several flows": of_flows(4, 3),
    "more flows than are joined side by side": of_flows(12, 8),
}


@pytest.mark.parametrize("direction", ["to the hub", "down"])
@pytest.mark.parametrize("case", CASES)
def test_packets_pass_as_they_are(tunnel: Tunnel, case: str, direction: str) -> None:
    """Toward an end, not through it: a kernel writes into fragments that it forwards."""
    bed = tunnel.bed
    if direction == "down":
        space, sender, receiver = bed.hub, tunnel.hub, tunnel.node
        make = Maker(INTERNET_ADDRESS, NODE)
    else:
        space, sender, receiver = bed.node, tunnel.node, tunnel.hub
        make = Maker(NODE, HUB)
    pairs = CASES[case](make)
    with (
        watched(tunnel, direction, answers=False) as passage,
        Injector(space, TUN) as injector,
    ):
        begin = packets_read(sender)
        with held(receiver):
            for pair in pairs:
                injector.send(*pair)
            passage.into.drain()
            count = len(passage.sent)
            assert count <= PACKETS_MAX
            wait_for(lambda: packets_read(sender) - begin >= count)
            time.sleep(0.005)
        wait_for(lambda: passage.out_of.wait_arrived(count, 0.1) or len(passage.received) >= count)
    assert len(passage.sent) == count > 0
    assert_unchanged(passage.sent, passage.received)
    if case in ("plain", "UDP", "large", "several flows"):
        assert passage.joined > 0


def packets_read(program: Any) -> int:
    return int(program.snapshot()["counters"]["tun_read_packets"])


def wait_for(condition: Callable[[], object]) -> None:
    until = time.monotonic() + WAIT_S
    while not condition() and time.monotonic() < until:
        time.sleep(0.002)
