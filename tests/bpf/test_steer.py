"""The verdict on every kind of packet, from the kernel itself by BPF_PROG_TEST_RUN."""

import os
import socket

import pytest
from scapy.layers.inet import IP, TCP, UDP, IPOption
from scapy.layers.inet6 import (
    ICMPv6ND_NS,
    IPv6,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
)
from scapy.layers.l2 import ARP, Dot1AD, Dot1Q, Ether
from scapy.packet import Packet, Raw
from scapy.utils import checksum

from hub.steering import OBJECT, Steering
from m13.endpoint import pack
from m13.errors import HostError
from native.steer import ADDRESSES_MAX, VERDICTS, Steer
from native.umem import Umem
from native.xdp import Socket

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="loading BPF needs root"),
    pytest.mark.skipif(not OBJECT.exists(), reason="hub/steer.bpf.o is not built (clang)"),
]

PORT = 443
OURS = "192.0.2.1"
ALSO_OURS = "198.51.100.7"
OTHER = "192.0.2.2"
OURS6 = "2001:db8::1"
OTHER6 = "2001:db8::2"
PAYLOAD = bytes(range(62))


def ethernet(ethertype: int | None = None) -> Ether:
    fields = {} if ethertype is None else {"type": ethertype}
    return Ether(dst="02:00:00:00:00:01", src="02:00:00:00:00:02", **fields)


def udp(ip: dict | None = None, payload: bytes = PAYLOAD, **fields: int) -> Packet:
    datagram = UDP(**{"sport": 40000, "dport": PORT, **fields}) / Raw(payload)
    return ethernet() / IP(**{"src": OTHER, "dst": OURS, **(ip or {})}) / datagram


def udp6(ip: dict | None = None, payload: bytes = PAYLOAD, **fields: int) -> Packet:
    datagram = UDP(**{"sport": 40000, "dport": PORT, **fields}) / Raw(payload)
    return ethernet() / IPv6(**{"src": OTHER6, "dst": OURS6, **(ip or {})}) / datagram


def behind(header: Packet) -> Packet:
    """Our datagram behind an extension header."""
    return ethernet() / IPv6(src=OTHER6, dst=OURS6) / header / udp6()[UDP]


def options(ihl: int) -> dict:
    return {"options": [IPOption(b"\x01")] * (ihl - 5) * 4}


def cut(packet: Packet, size: int) -> bytes:
    return bytes(packet)[:size]


TABLE: list[tuple[str, Packet | bytes, str]] = [
    ("M13 on Ethernet", ethernet(0x88B5) / Raw(PAYLOAD), "redirect_l2"),
    ("M13 broadcast on Ethernet", Ether(dst="ff:" * 5 + "ff", type=0x88B5), "redirect_l2"),
    ("M13 EtherType and nothing more", cut(ethernet(0x88B5), 14), "redirect_l2"),
    ("the EtherType byte-swapped", ethernet(0xB588) / Raw(PAYLOAD), "pass_other"),
    ("UDP to us", udp(), "redirect_udp"),
    ("UDP to our other address", udp({"dst": ALSO_OURS}), "redirect_udp"),
    ("UDP with no payload", udp(payload=b""), "redirect_udp"),
    ("UDP of 3000 bytes", udp(payload=bytes(3000)), "redirect_udp"),
    ("UDP padded by Ethernet", bytes(udp(payload=b"x")) + bytes(17), "redirect_udp"),
    ("UDP with DF", udp({"flags": "DF"}), "redirect_udp"),
    ("UDP with the reserved bit", udp({"flags": "evil"}), "redirect_udp"),
    ("UDP without checksum", udp(chksum=0), "redirect_udp"),
    ("UDP with another TOS and TTL", udp({"tos": 0xFF, "ttl": 1}), "redirect_udp"),
    ("UDP from our port to another", udp(sport=PORT, dport=444), "pass_port"),
    ("UDP to the port byte-swapped", udp(dport=socket.htons(PORT)), "pass_port"),
    ("UDP to port 0", udp(dport=0), "pass_port"),
    ("UDP to another host", udp({"dst": OTHER}), "pass_not_ours"),
    ("UDP to our address byte-swapped", udp({"dst": "1.2.0.192"}), "pass_not_ours"),
    ("UDP to the broadcast address", udp({"dst": "255.255.255.255"}), "pass_not_ours"),
    ("UDP to a multicast group", udp({"dst": "224.0.0.251"}), "pass_not_ours"),
    ("first fragment", udp({"flags": "MF"}), "pass_fragment"),
    ("middle fragment", udp({"flags": "MF", "frag": 100}), "pass_fragment"),
    ("last fragment", udp({"frag": 100}), "pass_fragment"),
    ("fragment at the greatest offset", udp({"frag": 0x1FFF}), "pass_fragment"),
    ("fragment for another host", udp({"dst": OTHER, "flags": "MF"}), "pass_not_ours"),
    ("TCP to the same port", ethernet() / IP(dst=OURS) / TCP(dport=PORT), "pass_other"),
    ("ICMP", ethernet() / IP(dst=OURS, proto=1) / Raw(PAYLOAD), "pass_other"),
    ("UDP-Lite to the same port", udp({"proto": 136}), "pass_other"),
    ("IPv6 EtherType over IPv4", ethernet(0x86DD) / bytes(udp()[IP]), "pass_malformed"),
    ("IPv4 EtherType over IPv6", ethernet(0x0800) / bytes(udp6()[IPv6]), "pass_malformed"),
    ("IPv6 UDP to us", udp6(), "redirect_udp"),
    ("IPv6 UDP with no payload", udp6(payload=b""), "redirect_udp"),
    ("IPv6 UDP of 3000 bytes", udp6(payload=bytes(3000)), "redirect_udp"),
    ("IPv6 UDP padded by Ethernet", bytes(udp6(payload=b"x")) + bytes(17), "redirect_udp"),
    ("IPv6 UDP with class and flow", udp6({"tc": 0xFF, "fl": 0xFFFFF}), "redirect_udp"),
    ("IPv6 UDP to another port", udp6(dport=444), "pass_port"),
    ("IPv6 UDP to another host", udp6({"dst": OTHER6}), "pass_not_ours"),
    ("IPv6 UDP to our IPv4 address mapped", udp6({"dst": f"::ffff:{OURS}"}), "pass_not_ours"),
    ("IPv6 UDP to all nodes", udp6({"dst": "ff02::1"}), "pass_not_ours"),
    ("IPv6 UDP behind options", behind(IPv6ExtHdrHopByHop()), "pass_other"),
    ("IPv6 UDP behind routing", behind(IPv6ExtHdrRouting()), "pass_other"),
    ("IPv6 fragment", behind(IPv6ExtHdrFragment(m=1)), "pass_other"),
    ("IPv6 TCP to the same port", ethernet() / IPv6(dst=OURS6) / TCP(dport=PORT), "pass_other"),
    ("neighbour solicitation", ethernet() / IPv6(dst=OURS6) / ICMPv6ND_NS(), "pass_other"),
    ("IPv6 with version 4", udp6({"version": 4}), "pass_malformed"),
    ("IPv6 payload length 0", udp6({"plen": 0}), "pass_malformed"),
    ("IPv6 payload length one too small", udp6({"plen": 69}), "pass_malformed"),
    ("IPv6 payload length one too large", udp6({"plen": 71}), "pass_malformed"),
    ("IPv6 payload length 65535", udp6({"plen": 0xFFFF}), "pass_malformed"),
    ("IPv6 UDP length 7", udp6(len=7), "pass_malformed"),
    ("IPv6 UDP length one too small", udp6(len=69), "pass_malformed"),
    ("IPv6 both lengths one too large", udp6({"plen": 71}, len=71), "pass_malformed"),
    *((f"IPv6 cut to {n} bytes", cut(udp6(), n), "pass_malformed") for n in range(14, 124)),
    ("ARP", ethernet() / ARP(pdst=OURS), "pass_other"),
    ("VLAN over M13", ethernet() / Dot1Q(vlan=1, type=0x88B5) / Raw(PAYLOAD), "pass_other"),
    ("VLAN over UDP", ethernet() / Dot1Q(vlan=1) / udp()[IP], "pass_other"),
    ("priority tag over UDP", ethernet() / Dot1Q(vlan=0) / udp()[IP], "pass_other"),
    ("QinQ over UDP", ethernet() / Dot1AD() / Dot1Q() / udp()[IP], "pass_other"),
    ("802.3 length for EtherType", ethernet(46) / Raw(bytes(46)), "pass_other"),
    ("IPv4 with version 0", udp({"version": 0}), "pass_malformed"),
    ("IPv4 with version 5", udp({"version": 5}), "pass_malformed"),
    ("IPv4 with version 6", udp({"version": 6}), "pass_malformed"),
    ("total length 0", udp({"len": 0}), "pass_malformed"),
    ("total length one too small", udp({"len": 89}), "pass_malformed"),
    ("total length one too large", udp({"len": 91}), "pass_malformed"),
    ("total length within the padding", bytes(udp({"len": 91})) + bytes(8), "pass_malformed"),
    ("total length 65535", udp({"len": 0xFFFF}), "pass_malformed"),
    ("UDP length 0", udp(len=0), "pass_malformed"),
    ("UDP length 7", udp(len=7), "pass_malformed"),
    ("UDP length one too small", udp(len=69), "pass_malformed"),
    ("UDP length one too large", udp(len=71), "pass_malformed"),
    ("UDP length 65535", udp(len=0xFFFF), "pass_malformed"),
    ("both lengths one too large", udp({"len": 91}, len=71), "pass_malformed"),
    ("lengths wrap to the right sum", udp({"len": 19}, len=0xFFFF), "pass_malformed"),
    *((f"IHL {n} with options", udp(options(n)), "redirect_udp") for n in range(6, 16)),
    *((f"IHL {n}", udp({"ihl": n}), "pass_malformed") for n in range(5)),
    ("IHL 15 without options", udp({"ihl": 15}), "pass_malformed"),
    ("options to another port", udp(options(15), dport=1), "pass_port"),
    ("options cut short", cut(udp(options(15)), 14 + 60 + 7), "pass_malformed"),
    *((f"IPv4 cut to {n} bytes", cut(udp(), n), "pass_malformed") for n in range(14, 104)),
]


@pytest.fixture(scope="module")
def steer():
    with Steer(str(OBJECT), PORT) as steer:
        for address in (OURS, ALSO_OURS, OURS6):
            steer.add_address(pack(address))
        yield steer


@pytest.fixture(scope="module")
def served(steer):
    """A test run arrives on queue 0 of loopback, so that is where the socket is."""
    with Umem(1 << 21) as umem, Socket(umem, "lo", 0, slots=64) as queue:
        steer.set_socket(0, queue.fileno())
        yield steer


def counted(steer: Steer, frame: bytes) -> tuple[bool, dict[str, int]]:
    before = steer.counters()
    redirected = steer.test(frame)
    after = steer.counters()
    return redirected, {
        name: after[name] - before[name] for name in after if after[name] != before[name]
    }


@pytest.mark.parametrize(
    ("frame", "verdict"), [row[1:] for row in TABLE], ids=[r[0] for r in TABLE]
)
def test_packet_gets_its_verdict_and_is_counted_once(served, frame, verdict):
    redirected, counters = counted(served, bytes(frame))
    assert counters == {verdict: 1}
    assert redirected == verdict.startswith("redirect")


def test_table_names_are_unique_and_cover_every_verdict():
    names = [row[0] for row in TABLE]
    assert len(names) == len(set(names))
    assert {row[2] for row in TABLE} | {"pass_no_socket"} == set(VERDICTS)


def test_scapy_builds_valid_headers():
    """The oracle of the table itself: where nothing is forced, the header checksum is right."""
    assert checksum(bytes(udp()[IP])[:20]) == 0


@pytest.mark.parametrize("frame", [ethernet(0x88B5) / Raw(PAYLOAD), udp()], ids=["L2", "UDP"])
def test_packet_passes_while_its_queue_has_no_socket(frame):
    with Steer(str(OBJECT), PORT) as steer:
        steer.add_address(pack(OURS))
        assert counted(steer, bytes(frame)) == (False, {"pass_no_socket": 1})


def test_address_is_followed_while_loaded(served):
    frame = bytes(udp({"dst": "203.0.113.9"}))
    packed = pack("203.0.113.9")
    assert counted(served, frame) == (False, {"pass_not_ours": 1})
    served.add_address(packed)
    served.add_address(packed)
    assert counted(served, frame) == (True, {"redirect_udp": 1})
    served.remove_address(packed)
    served.remove_address(packed)
    assert counted(served, frame) == (False, {"pass_not_ours": 1})


def test_address_table_holds_its_maximum_and_refuses_more():
    with Steer(str(OBJECT), PORT) as steer:
        for host in range(ADDRESSES_MAX):
            steer.add_address(pack(f"10.0.0.{host}"))
        with pytest.raises(OSError, match="adding an address"):
            steer.add_address(pack("10.0.1.0"))


def test_addresses_are_packed():
    with Steer(str(OBJECT), PORT) as steer, pytest.raises(ValueError, match="16"):
        steer.add_address(bytes(4))


def test_port_is_set_at_load_time():
    with Steer(str(OBJECT), 51820) as steer:
        steer.add_address(pack(OURS))
        assert counted(steer, bytes(udp()))[1] == {"pass_port": 1}
        assert counted(steer, bytes(udp(dport=51820)))[1] == {"pass_no_socket": 1}


def test_absent_interface_is_a_host_error():
    with pytest.raises(HostError, match="m13-absent"), Steering("m13-absent", 443):
        pass


def test_missing_object_is_named():
    with pytest.raises(FileNotFoundError, match=r"absent\.o"):
        Steer("absent.o", PORT)


def test_closed_twice_and_used_after_is_an_error():
    steer = Steer(str(OBJECT), PORT)
    steer.close()
    steer.close()
    with pytest.raises(ValueError, match="closed"):
        steer.counters()
