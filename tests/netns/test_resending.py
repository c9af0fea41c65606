"""Resending on the wire (docs/PROTOCOL.md §4.3): the same message, ever more rarely; and doubles.

m13-node       192.0.2.2 up0 ─── wan0 192.0.2.1 reference hub (Python), which keeps silent
reference node 192.0.2.2 up0 ─── wan0 192.0.2.1 m13-hub, which is asked twice
"""

import contextlib
import itertools
import socket
import time
from collections.abc import Iterator

import pytest
from cryptography.exceptions import InvalidSignature
from scapy.layers.l2 import Ether

from bench.bed import HUB_ADDRESS, Bed
from bench.tunnel import PORT, Keys, start_node
from tests.netns.reference import ReferenceHub, load_identity
from tests.netns.victim import Victim, served
from tests.scapy_m13 import Config, Fragment, fragments, reassemble

FIRST_S, MOST_S, JITTER = 0.25, 2.0, 0.25
LATE_S = 0.12  # the machine's own: a tick of the node is 10 ms
RESENDS = 4
NODE, HUB = "10.13.0.2", "10.13.0.1"


@contextlib.contextmanager
def hub_socket(bed: Bed) -> Iterator[socket.socket]:
    with bed.hub.inside():
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with sock:
        sock.bind((HUB_ADDRESS, PORT))
        yield sock


def sendings(hub: ReferenceHub, message_type: int, count: int) -> tuple[list[float], bytes]:
    """When a message came, that often, and its bytes: always the same, and of one id as long as its
    fragments are of one length."""
    times: list[float] = []
    seen = set()
    parts: dict[int, bytes] = {}
    while len(times) < count:
        data = hub.link.receive()
        if data[16] != 0 or data[54] != 0x83:
            continue
        piece = Ether(data)[Fragment]
        if piece.index == 0:
            parts = {}
            arrived = time.monotonic()
        parts[piece.index] = data
        if len(parts) == piece.total:
            message = reassemble(list(parts.values()))
            if message[0] == message_type:
                times.append(arrived)
                seen.add((piece.total, piece.id, message))
    (same,) = {message for _, _, message in seen}
    assert len(seen) == len({total for total, _, _ in seen})
    return times, same


def assert_backs_off(times: list[float]) -> None:
    intervals = [after - before for before, after in itertools.pairwise(times)]
    for number, interval in enumerate(intervals):
        base = min(FIRST_S * 2**number, MOST_S)
        assert base - 0.005 <= interval <= base * (1 + JITTER) + LATE_S, intervals
    shares = {round(interval / FIRST_S / 2**number, 3) for number, interval in enumerate(intervals)}
    assert len(shares) > 1, f"no jitter: {intervals}"


def test_the_same_message_is_sent_again_ever_more_rarely(bed: Bed, keys: Keys) -> None:
    with hub_socket(bed) as sock:
        hub = ReferenceHub(sock, load_identity(keys.identity("hub")), "v2")
        node = start_node(bed, keys, wait=False)
        hub.welcome()
        times, hello = sendings(hub, 1, RESENDS)
        assert_backs_off(times)
        assert hub.answer() == hello
        times, _ = sendings(hub, 3, RESENDS - 1)
        assert_backs_off(times)
        hub.confirm(Config(node=NODE, prefix=24, hub=HUB, mtu=1300, keepalive_ms=1000))
        node.wait_log(r"tunnel 10.13.0.2/24, MTU 1300")
        assert node.stop() == 0


@pytest.fixture
def victim(request: pytest.FixtureRequest, keys: Keys) -> Iterator[Victim]:
    yield from served(request, keys, "--rx", "udp")


def test_a_duplicate_client_hello_gets_the_same_server_hello(victim: Victim) -> None:
    with victim.another_node() as node:
        node.register()
        hello = node.hello()
        answers = [node.link.receive_message()]
        before = victim.counter("handshakes_started")
        for _ in range(2):
            time.sleep(0.15)  # one answer a tenth of a second
            node.link.send_message(hello)
            answers.append(node.link.receive_message())
        assert len({*answers}) == 1
        assert victim.counter("handshakes_started") == before


def test_a_client_hello_that_was_damaged_or_forged_on_its_way_spoils_no_attempt(
    victim: Victim,
) -> None:
    """The answer to it verifies nowhere; what the node sends again is answered for itself."""
    with victim.another_node() as node:
        node.register()
        hello = bytearray(node.make_hello())
        genuine = fragments(node.link.mac, bytes(hello), 9, tag=node.link.cookie)
        hello[1600] ^= 1  # in the encapsulation key, which stays a possible one
        for data in fragments(node.link.mac, bytes(hello), 9, tag=node.link.cookie):
            node.link.send(data)
        with pytest.raises(InvalidSignature):
            node.finish()
        for _ in range(2):
            time.sleep(0.15)
            for data in genuine:
                node.link.send(data)
        with contextlib.suppress(InvalidSignature):
            node.finish()  # the first once more: one genuine fragment had asked for it
        if not node.link.keys:
            node.finish()
        node.configure()
        assert victim.is_alive()


def test_late_duplicates_of_a_handshake_change_nothing(victim: Victim) -> None:
    node = victim.node
    done, before = victim.counter("handshakes_done"), victim.row
    for _ in range(3):
        for data in fragments(node.link.mac, node.client_hello, 1 << 20, tag=node.link.cookie):
            node.link.send(data)
        node.link.send_message(b"\x03" + bytes(4627))
        time.sleep(0.15)
        assert victim.is_alive()
    assert victim.counter("handshakes_done") == done
    same = ("endpoint", "key_phase", "generation", "handshakes")
    assert [victim.row[name] for name in same] == [before[name] for name in same]
