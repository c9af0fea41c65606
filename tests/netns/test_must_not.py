"""Entries of docs/PROTOCOL.md §8 that need more than one frame, against a hub with a live session.

reference node and attackers up0 192.0.2.2 ─── 192.0.2.1 wan0 m13-hub 10.13.0.1
"""

import contextlib
import os
import signal
import socket
import struct
import time
from collections.abc import Callable, Iterator

import pytest

from bench.bed import HUB_ADDRESS
from bench.tunnel import PORT, Keys
from tests.netns import forged
from tests.netns.capture import Capture, raw_packet
from tests.netns.reference import Link, ReferenceNode
from tests.netns.victim import HUB, NODE, PACKET, Victim, handshake_worker, served
from tests.scapy_m13 import CONTROL, FIN, TUNNEL, fragments, frame

ATTACKER = ("192.0.2.66", 4500)
PENDING_PER_ADDRESS = 8  # §9
SILENCE_S = 0.5
ETH_P_ALL = 3


@pytest.fixture(scope="module")
def victim(request: pytest.FixtureRequest, keys: Keys, rx: str) -> Iterator[Victim]:
    # nobody is lost while a test waits
    yield from served(request, keys, "--rx", rx, "--keepalive-ms", "20000")


@contextlib.contextmanager
def held(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def wait_until(is_so: Callable[[], bool]) -> None:
    until = time.monotonic() + 5
    while not is_so():
        assert time.monotonic() < until
        time.sleep(0.005)


def hears_nothing(node: ReferenceNode) -> bool:
    """Neither a handshake message nor a sealed frame."""
    node.link.socket.settimeout(SILENCE_S)
    until = time.monotonic() + SILENCE_S
    with contextlib.suppress(TimeoutError):
        while time.monotonic() < until:
            data = node.link.receive()
            if data[16] == 1 or data[54] == 0x83:
                return False
    return True


# --- a new source port, a ClientHello -------------------------------------------------------------


def not_authentic(link: Link) -> bytes:
    return forged.other_key(link, PACKET)[0]


def seen_before(link: Link) -> bytes:
    data = link.sealed(TUNNEL, PACKET)
    link.send(data)
    return data


def held_back(link: Link) -> bytes:
    """Authentic and never seen, but older than what the node sent since."""
    data = link.sealed(TUNNEL, PACKET)
    link.send_packet(PACKET)
    return data


@pytest.mark.parametrize("make", [not_authentic, seen_before, held_back])
def test_a_new_source_port_moves_no_session(victim: Victim, make: Callable[[Link], bytes]) -> None:
    before, moves = victim.row["endpoint"], victim.counter("endpoint_changes")
    with forged.Spoofer(victim.bed.node) as spoofer:
        data = make(victim.node.link)
        victim.arrives()
        spoofer.send(data, ATTACKER)
        spoofer.send(data, ("192.0.2.2", 4501))
    victim.arrives()
    assert (victim.row["endpoint"], victim.counter("endpoint_changes")) == (before, moves)
    assert victim.is_alive()


@pytest.mark.parametrize("place", ["the node's own", "another"])
def test_a_replayed_client_hello_runs_beside_the_session(victim: Victim, place: str) -> None:
    """With a cookie, as only who reads the node's wire has it; then a Finished that is none. A true
    replay from the node's own place is nothing but a late duplicate: there it has another nonce."""
    hello = victim.node.client_hello
    done, refused = victim.counter("handshakes_done"), victim.counter("handshakes_refused")
    with victim.another_node() as stranger:
        if place == "another":
            stranger.register()
            attacker = stranger.link
        else:
            attacker = victim.node.link
            hello = hello[:2] + os.urandom(32) + hello[34:]
        attacker.send_message(hello)
        assert attacker.receive_message()[0] == 2
        attacker.send_message(b"\x03" + os.urandom(4627))
        wait_until(lambda: victim.counter("handshakes_refused") == refused + 1)
    assert victim.counter("handshakes_done") == done
    assert victim.is_alive()


# --- crypto in flight -----------------------------------------------------------------------------


@pytest.mark.parametrize("in_flight", ["ClientHello", "Finished"])
def test_an_answer_for_an_evicted_peer_is_not_its_successors(
    victim: Victim, in_flight: str
) -> None:
    """A slot's occupant is displaced while the worker process thinks: nobody gets the answer."""
    worker = handshake_worker(victim.hub)
    with contextlib.ExitStack() as stack:
        first = stack.enter_context(victim.another_node())
        first.register()
        first.hello()
        if in_flight == "Finished":
            first.server_hello = first.link.receive_message()
        stack.enter_context(held(worker))
        if in_flight == "ClientHello":
            # the one above was answered; this one is another attempt, from another port
            first = stack.enter_context(victim.another_node())
            first.register()
            first.hello()
        else:
            first.link.send_message(b"\x03" + os.urandom(4627))
        messages = victim.counter("handshake_messages")
        others = [stack.enter_context(victim.another_node()) for _ in range(PENDING_PER_ADDRESS)]
        for node in others:
            node.register()
            node.hello()
        wait_until(lambda: victim.counter("handshake_messages") >= messages + len(others))
        last = others[-1]
        os.kill(worker, signal.SIGCONT)
        assert hears_nothing(first)
        last.finish()
        last.configure()
    assert victim.is_alive()


def test_a_fin_while_crypto_is_in_flight_leaves_nothing_to_the_next_occupant(
    victim: Victim,
) -> None:
    """A node asks for new keys and says goodbye before it has them: its slot is another's when the
    worker process answers."""
    worker = handshake_worker(victim.hub)

    def established() -> int:
        return int(victim.hub.snapshot()["gauges"]["peers_established"])

    with contextlib.ExitStack() as stack:
        first = stack.enter_context(victim.another_node())
        first.connect()
        first.link.send_packet(raw_packet("10.13.0.3", HUB, 9, b"here"))
        wait_until(lambda: established() == 2)
        time.sleep(0.15)  # ten attempts a second at most
        stack.enter_context(held(worker))
        started = victim.counter("handshakes_started")
        first.hello()
        wait_until(lambda: victim.counter("handshakes_started") == started + 1)
        for _ in range(3):
            first.link.send(first.link.sealed(CONTROL | FIN, b""))
        wait_until(lambda: established() == 1)
        second = stack.enter_context(victim.another_node())
        second.register()
        second.hello()
        wait_until(lambda: victim.counter("handshakes_started") == started + 2)
        while not hears_nothing(first):
            pass  # three copies of the FIN-ACK
        os.kill(worker, signal.SIGCONT)
        assert hears_nothing(first)
        second.finish()
        second.configure()
    assert len(victim.arrives()) == 1
    assert victim.is_alive()


# --- restarts -------------------------------------------------------------------------------------


@pytest.mark.parametrize("profile", ["v2", "v1"])
def test_spoofed_packets_restart_no_handshake(victim: Victim, profile: str) -> None:
    with victim.another_node(profile) as node, forged.Spoofer(victim.bed.node) as spoofer:
        own = "192.0.2.2", node.link.socket.getsockname()[1]
        node.register()
        with held(handshake_worker(victim.hub)):
            started = victim.counter("handshakes_started")
            node.hello()
            wait_until(lambda: victim.counter("handshakes_started") == started + 1)
            for number in range(50):
                version = b"\x01\x01" if profile == "v1" else b"\x01\x02"
                hello = version + os.urandom(4192)
                for data in fragments(forged.MAC, hello, 5000 + 3 * number):
                    spoofer.send(data, own)
                spoofer.send(frame(forged.MAC, 0), own)
                spoofer.send(frame(forged.MAC, CONTROL), own)
            victim.arrives()
        node.finish()
        node.configure()
        assert victim.counter("handshakes_started") == started + 1
    assert victim.is_alive()


# --- lengths --------------------------------------------------------------------------------------


def crafted(victim: Victim, **lies: int) -> bytes:
    """A genuine sealed packet of the node in outer headers that say something else of it."""
    datagram = victim.node.link.sealed(TUNNEL, PACKET)
    port = victim.node.link.socket.getsockname()[1]
    udp_bytes = lies.get("udp", 8 + len(datagram))
    udp = struct.pack("!HHHH", port, PORT, udp_bytes, 0) + datagram
    total = lies.get("total", 20 + len(udp))
    first = 0x40 | lies.get("words", 5)
    head = struct.pack("!BBHHHBBH", first, 0, total, 0, lies.get("fragment", 0), 64, 17, 0)
    addresses = socket.inet_aton("192.0.2.2") + socket.inet_aton(HUB_ADDRESS)
    words = struct.unpack("!10H", head + addresses)
    summed = sum(words) % 0xFFFF
    return head[:10] + struct.pack("!H", ~summed & 0xFFFF) + addresses + udp


LIES = {
    "UDP length beyond the packet": {"udp": 400},
    "UDP length below its header": {"udp": 7},
    "UDP length that cuts the frame": {"udp": 8 + 61},
    "IPv4 length beyond the frame": {"total": 1000},
    "IPv4 length below its header": {"total": 19},
    "IPv4 header beyond the packet": {"words": 15},
    "IPv4 header too short": {"words": 4},
    "first fragment": {"fragment": 0x2000},
    "later fragment": {"fragment": 0x0010},
}


@pytest.mark.parametrize("lies", LIES.values(), ids=LIES)
def test_a_length_beyond_the_buffer_is_not_believed(victim: Victim, lies: dict[str, int]) -> None:
    with victim.bed.node.inside():
        wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, ETH_P_ALL)
    with wire:
        wire.bind((victim.bed.node_interface, 0))
        macs = mac_of(victim.bed.hub, victim.bed.hub_interface), b"\x02\0\0\0\0\x09"
        wire.send(b"".join(macs) + b"\x08\x00" + crafted(victim, **lies))
    assert victim.arrives() == []
    assert victim.is_alive()


def test_the_largest_datagram_is_not_cut_to_a_valid_one(victim: Victim) -> None:
    for _ in range(20):
        victim.node.link.send(forged.largest_datagram(victim.node.link, PACKET)[0])
    assert victim.arrives() == []
    assert victim.is_alive()


def mac_of(namespace: object, interface: str) -> bytes:
    with namespace.netlink() as netlink:  # type: ignore[attr-defined]
        link = netlink.get_links(netlink.link_lookup(ifname=interface)[0])[0]
    return bytes.fromhex(link.get_attr("IFLA_ADDRESS").replace(":", ""))


# --- learning -------------------------------------------------------------------------------------


def test_neither_own_address_nor_gateway_is_learned_from_a_packet(victim: Victim) -> None:
    """Datagrams to an address that is not the hub's, and from the node's address with another MAC:
    what the hub sends still comes from its own address and goes to the node's MAC."""
    hub_mac = mac_of(victim.bed.hub, victim.bed.hub_interface)
    node_mac = mac_of(victim.bed.node, victim.bed.node_interface)
    port = victim.node.link.socket.getsockname()[1]
    with victim.bed.node.inside():
        wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, ETH_P_ALL)
    with (
        wire,
        Capture(victim.bed.node, victim.bed.node_interface) as capture,
    ):
        wire.bind((victim.bed.node_interface, 0))
        for source, to in (("192.0.2.2", HUB_ADDRESS), ("192.0.2.66", "192.0.2.77")):
            for data in (frame(forged.MAC, 0), forged.other_key(victim.node.link, PACKET)[0]):
                udp = struct.pack("!HHHH", port, PORT, 8 + len(data), 0) + data
                head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0)
                addresses = socket.inet_aton(source) + socket.inet_aton(to)
                summed = sum(struct.unpack("!10H", head + addresses)) % 0xFFFF
                head = head[:10] + struct.pack("!H", ~summed & 0xFFFF)
                packet = head + addresses + udp
                wire.send(hub_mac + b"\x02\xde\xad\0\0\x01" + b"\x08\x00" + packet)
        victim.arrives()
        capture.arrived.clear()
        down = raw_packet(HUB, NODE, 7, b"down" * 20)
        victim.inside.sendto(down, (NODE, 0))
        assert victim.node.link.receive_packet() == down
        capture.settle()
    tunnel = [data for data in capture.arrived if data[12:14] == b"\x08\x00" and data[23] == 17]
    assert tunnel
    for data in tunnel:
        assert data[:6] == node_mac
        assert data[26:30] == socket.inet_aton(HUB_ADDRESS)
    assert victim.is_alive()
