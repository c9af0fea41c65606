"""A session ends by a word: FIN, answered by FIN-ACK, and what that must not do.

    node up0 192.0.2.2 ─── 192.0.2.1 wan0 hub ─── internet

Where one end is a reference peer (Python), it stands in the place of the node or of the hub.
"""

import contextlib
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from bench import traffic
from bench.bed import HUB_ADDRESS, INTERNET_ADDRESS, Bed
from bench.tunnel import PORT, Keys, Program, start_hub, start_node, tunnel_address
from tests.netns.conftest import assert_all_frames_accounted, laid_out, nics
from tests.netns.impair import Relay
from tests.netns.reference import ReferenceHub, ReferenceNode, load_identity
from tests.scapy_m13 import CONTROL, FEEDBACK, FIN, NODE_TO_HUB, Config, frame, seal

FIN_FRAME, FIN_ACK = CONTROL | FIN, CONTROL | FEEDBACK | FIN
COPIES = 3
QUICK = ("--keepalive-ms", "100")
MOMENT_S, BUSY_S = 0.2, 3  # for what must not come; for what must, on a busy machine
SLOW = ("--keepalive-ms", "10000")  # silence is noticed after 47 s: what is quick is the FIN


def test_a_node_that_stops_is_gone_from_the_hub_at_once(bed: Bed, keys: Keys, rx: str) -> None:
    hub = start_hub(bed, keys, "--rx", rx, *SLOW)
    node = start_node(bed, keys)
    hub.wait_log("session up: node ")
    assert node.stop() == 0
    assert hub.snapshot()["peers"] == []
    assert "node (10.13.0.2) at 192.0.2.2" in hub.wait_log("(.*) said goodbye", 1)[1]
    counters = hub.snapshot()["counters"]
    assert (counters["goodbyes_received"], counters["sessions_lost"]) == (1, 0)
    assert "E_PEER_TIMEOUT" not in hub.log
    again = start_node(bed, keys)
    assert traffic.ping(bed.node, INTERNET_ADDRESS)
    assert (again.stop(), hub.stop()) == (0, 0)
    assert_all_frames_accounted(hub)


def test_a_hub_that_stops_is_told_to_its_nodes(bed: Bed, keys: Keys, rx: str) -> None:
    hub = start_hub(bed, keys, "--rx", rx, *SLOW)
    node = start_node(bed, keys)
    assert hub.stop() == 0
    assert_all_frames_accounted(hub)
    node.wait_log("ended the session; trying again, nothing leaves", 1)
    assert not traffic.ping(bed.node, INTERNET_ADDRESS, wait_s=0.2)
    hub = start_hub(bed, keys, "--rx", rx, *SLOW)
    hub.wait_log("session up: node ")
    assert traffic.ping(bed.node, INTERNET_ADDRESS)
    counters = node.snapshot()["counters"]
    assert (counters["goodbyes_received"], counters["sessions_lost"]) == (1, 0)
    assert (node.stop(), hub.stop()) == (0, 0)


@pytest.fixture
def far() -> Iterator[tuple[Bed, Relay]]:
    """Two nodes behind a router, node behind the relay in it."""
    for bed in laid_out(Bed(nodes=2)):
        with Relay(bed.router) as relay:
            yield bed, relay


def test_all_nodes_are_told(far: tuple[Bed, Relay], keys: Keys, rx: str) -> None:
    bed, _ = far
    hub = start_hub(bed, keys, "--rx", rx, *SLOW)
    nodes = [start_node(bed, keys, name=name) for name in ("node", "node2")]
    assert hub.stop() == 0
    assert_all_frames_accounted(hub)
    for node in nodes:
        node.wait_log("ended the session", 1)
        assert node.stop() == 0


def test_a_lost_fin_is_a_timeout_as_before(far: tuple[Bed, Relay], keys: Keys, rx: str) -> None:
    bed, relay = far
    hub = start_hub(bed, keys, "--rx", rx, *QUICK)
    node = start_node(bed, keys, "--hub", relay.address("node"))
    before = relay.impair("up", loss=1)["up"]["lost"]
    assert node.stop() == 0
    assert relay.impair("up")["up"]["lost"] >= before + COPIES
    hub.wait_log("E_PEER_TIMEOUT node", 2)
    assert hub.snapshot()["counters"]["goodbyes_received"] == 0
    assert hub.stop() == 0
    assert_all_frames_accounted(hub)


def test_fins_that_come_twice_late_and_damaged_end_one_session_once(
    far: tuple[Bed, Relay], keys: Keys, rx: str
) -> None:
    bed, relay = far
    hub = start_hub(bed, keys, "--rx", rx, *SLOW)
    for round_ in range(1, 4):
        relay.impair("both")
        node = start_node(bed, keys, "--hub", relay.address("node"))
        relay.impair("both", duplicate=0.5, reorder=0.3, reorder_ms=3, corrupt=0.05)
        assert node.stop() == 0
        assert hub.snapshot()["counters"]["goodbyes_received"] == round_
    assert hub.stop() == 0
    assert hub.log.count("said goodbye") == 3
    assert_all_frames_accounted(hub)


@dataclass(frozen=True)
class Joined:
    """A real hub with the session of a reference node."""

    hub: Program
    node: ReferenceNode

    @property
    def goodbyes(self) -> int:
        return int(self.hub.snapshot()["counters"]["goodbyes_received"])

    @property
    def keepalives(self) -> int:
        return int(self.hub.snapshot()["counters"]["keepalives_received"])

    def drops(self, reason: str) -> int:
        return int(self.hub.snapshot()["drops"][reason])

    def is_alive(self) -> bool:
        """A keepalive is still opened, by the session of before."""
        before = self.keepalives
        self.node.link.send(self.node.link.sealed(CONTROL, bytes(3)))
        return soon(lambda: self.keepalives == before + 1) and self.goodbyes == 0


@pytest.fixture
def joined(request: pytest.FixtureRequest, keys: Keys, rx: str) -> Iterator[Joined]:
    for bed in laid_out(Bed(**nics(request.config))):
        hub = start_hub(bed, keys, "--rx", rx, *SLOW)
        with bed.node.inside():
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with sock:
            sock.connect((HUB_ADDRESS, PORT))
            node = ReferenceNode(sock, load_identity(keys.identity("node")), "v2")
            node.connect()
            yield Joined(hub, node)
        assert hub.stop() == 0
        assert_all_frames_accounted(hub)


def soon(condition: Callable[[], bool]) -> bool:
    until = time.monotonic() + BUSY_S
    while not condition() and time.monotonic() < until:
        time.sleep(0.02)
    return condition()


def answers(joined: Joined, first_s: float = MOMENT_S) -> int:
    """FIN-ACKs, until none has come for a moment."""
    count = 0
    joined.node.link.socket.settimeout(first_s)
    with contextlib.suppress(TimeoutError):
        while joined.node.link.receive_sealed(FIN_ACK):
            count += 1
            joined.node.link.socket.settimeout(MOMENT_S)
    return count


def test_a_fin_is_answered_three_times_and_the_slot_is_free(joined: Joined) -> None:
    for _ in range(COPIES):
        joined.node.link.send(joined.node.link.sealed(FIN_FRAME, b""))
    assert answers(joined, BUSY_S) == COPIES
    assert (joined.goodbyes, joined.hub.snapshot()["peers"]) == (1, [])
    # the session is gone: not even its own key is known any more
    joined.node.link.send(joined.node.link.sealed(FIN_FRAME, b""))
    assert answers(joined) == 0
    assert joined.goodbyes == 1
    joined.node.connect()
    assert joined.node.config.node == tunnel_address("node")


def test_a_stale_fin_ends_nothing(joined: Joined) -> None:
    old = joined.node.rekey()
    for _ in range(COPIES):
        old.send(old.sealed(FIN_FRAME, b""))
    assert answers(joined) == 0
    assert soon(lambda: joined.drops("stale_fin") == COPIES)
    assert joined.is_alive()
    joined.node.link.send(joined.node.link.sealed(FIN_FRAME, b""))
    assert answers(joined, BUSY_S) == COPIES


def test_what_is_not_authentic_ends_nothing(joined: Joined) -> None:
    link = joined.node.link
    clear = frame(link.mac, FIN_FRAME)
    fresh = frame(link.mac, FIN_FRAME, sequence=link.counter)
    replayed = link.sealed(CONTROL, bytes(3))
    link.send(replayed)
    forged = [
        clear,
        frame(link.mac, FIN_ACK),
        seal(bytes(32), fresh, link.counter, NODE_TO_HUB),
        seal(link.keys[0], fresh, link.counter, 0),
        replayed[:54] + bytes([replayed[54] ^ FIN]) + replayed[55:],
    ]
    for data in forged:
        link.send(data)
    assert answers(joined) == 0
    assert soon(lambda: joined.drops("clear_flags") == 2)
    assert joined.is_alive()


def test_an_answer_that_nobody_asked_for_changes_nothing(joined: Joined) -> None:
    joined.node.link.send(joined.node.link.sealed(FIN_ACK, b""))
    assert answers(joined) == 0
    assert joined.is_alive()


def test_a_reference_hub_ends_the_session_of_a_real_node(bed: Bed, keys: Keys) -> None:
    with bed.hub.inside():
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with sock:
        sock.bind((HUB_ADDRESS, PORT))
        hub = ReferenceHub(sock, load_identity(keys.identity("hub")), "v2")
        node = start_node(bed, keys, wait=False)
        hub.welcome()
        hub.answer()
        hub.confirm(Config(node="10.13.0.2", prefix=24, hub="10.13.0.1", keepalive_ms=10000))
        node.wait_log("tunnel 10.13.0.2/24")
        for _ in range(COPIES):
            hub.link.send(hub.link.sealed(FIN_FRAME, b""))
        for _ in range(COPIES):
            hub.link.receive_sealed(FIN_ACK)
        node.wait_log("ended the session")
        registration = hub.welcome()
        assert (registration[16], registration[54]) == (0, 0)
        assert node.stop() == 0
