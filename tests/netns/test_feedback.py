"""Feedback tells the truth about a way whose delay and losses are known.

node 203.0.113.2 ─── 203.0.113.1 router (relay) 192.0.2.254 ─── 192.0.2.1 hub ─── internet
reference node (Python) 192.0.2.2 up0 ─── wan0 192.0.2.1 hub
"""

import contextlib
import socket
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from bench import traffic
from bench.bed import HUB_ADDRESS, INTERNET_ADDRESS, Bed
from bench.namespace import Namespace
from bench.tunnel import PORT, Keys, Program, start_hub, start_node, tunnel_address
from tests.netns.capture import raw_packet
from tests.netns.conftest import assert_all_frames_accounted, laid_out, wait_endpoint
from tests.netns.impair import Relay
from tests.netns.reference import ReferenceNode, load_identity
from tests.scapy_m13 import CONTROL, FEEDBACK, FRAME, M13

NODE = tunnel_address("node")
REPORT = struct.Struct("<QQIQIQ")
PACKETS, PACKETS_PER_SECOND = 1500, 1000
WAIT_S = 5


@dataclass(frozen=True)
class Far:
    bed: Bed
    relay: Relay
    hub: Program
    node: Program

    def rows(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """The node as the hub sees it, and the hub as the node does."""
        for program in (self.hub, self.node):
            wait_endpoint(program, "")
        return self.hub.snapshot()["peers"][0], self.node.snapshot()["peers"][0]

    def ping(self, count: int = 40) -> None:
        assert len(traffic.ping(self.bed.node, INTERNET_ADDRESS, count)) == count


@pytest.fixture
def far(keys: Keys, rx: str) -> Iterator[Far]:
    for bed in laid_out(Bed(nodes=2)):
        with Relay(bed.router) as relay:
            hub = start_hub(bed, keys, "--rx", rx)
            node = start_node(bed, keys, "--hub", relay.address("node"))
            yield Far(bed, relay, hub, node)
            relay.impair("both")
            assert (node.stop(), hub.stop()) == (0, 0)
            assert_all_frames_accounted(hub)


def blast(source: Namespace, address: str) -> None:
    with source.inside():
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with sock:
        begin = time.monotonic()
        for number in range(PACKETS):
            time.sleep(max(0, begin + number / PACKETS_PER_SECOND - time.monotonic()))
            sock.sendto(bytes(100), (address, 9))


def settled(far: Far, lost: int) -> tuple[int, int, int, int]:
    """What the sender says was lost and the receiver misses, down and up: once both have heard of
    what only came late, or after a while."""
    until = time.monotonic() + WAIT_S
    while True:
        node, hub = far.rows()
        down = node["lost_frames"], hub["missing_frames"]
        found = *down, hub["lost_frames"], node["missing_frames"]
        if found == (lost, lost, 0, 0) or time.monotonic() > until:
            return found
        far.ping(5)


def test_every_loss_is_counted_and_nothing_else(far: Far) -> None:
    before = far.relay.impair("down", loss=0.1)["down"]["lost"]
    far.relay.impair("up", duplicate=0.2, reorder=0.2, reorder_ms=4)
    blast(far.bed.internet, NODE)
    share = far.rows()[0]["loss_per_million"]
    lost = far.relay.impair("both")["down"]["lost"] - before
    assert lost > PACKETS / 20
    assert settled(far, lost) == (lost, lost, 0, 0)  # the way up only shuffled and doubled
    assert 50_000 < share < 200_000


def test_the_round_trip_is_that_of_the_way(far: Far) -> None:
    far.relay.impair("both", delay_ms=15)
    far.ping(60)
    for row in far.rows():
        # measured to a thirty-second; a busy machine only adds to it
        assert 29_000 < row["rtt_us"] < 100_000


def test_a_hub_without_feedback_has_none(bed: Bed, keys: Keys, rx: str) -> None:
    hub = start_hub(bed, keys, "--rx", rx, "--no-feedback", "--keepalive-ms", "100")
    node = start_node(bed, keys)
    assert len(traffic.ping(bed.node, INTERNET_ADDRESS, 100)) == 100
    for end in (hub, node):
        snapshot = end.snapshot()
        assert snapshot["counters"]["feedback_sent"] == snapshot["drops"]["unexpected_flags"] == 0
        assert snapshot["peers"][0]["rtt_us"] is None
    assert (node.stop(), hub.stop()) == (0, 0)


@pytest.fixture
def reference(bed: Bed, keys: Keys, rx: str) -> Iterator[tuple[Program, ReferenceNode]]:
    hub = start_hub(bed, keys, "--rx", rx)
    with bed.node.inside():
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with sock:
        sock.connect((HUB_ADDRESS, PORT))
        node = ReferenceNode(sock, load_identity(keys.identity("node")), "v2")
        node.connect()
        yield hub, node
    assert hub.stop() == 0
    assert_all_frames_accounted(hub)


def last_report(node: ReferenceNode) -> tuple[int, ...]:
    node.link.socket.settimeout(0.5)
    found = b""
    with contextlib.suppress(TimeoutError):
        while True:
            frame = node.link.receive_sealed(CONTROL | FEEDBACK)
            assert frame[M13].payload_len == 40
            assert len(frame.original) == FRAME + 40
            found = frame.original[FRAME:]
    return REPORT.unpack(found)


def test_a_report_says_what_arrived(reference: tuple[Program, ReferenceNode]) -> None:
    _, node = reference
    for number in range(40):
        if number in (20, 30, 31):
            node.link.counter += 1  # lost on its way
        node.link.send_packet(raw_packet(NODE, "10.13.0.1", 9, bytes(32)))
    highest, made, delivered, heard, missing, bits = last_report(node)
    assert (highest, delivered, missing) == (42, 40, 3)
    assert {41 - bit for bit in range(42) if bits >> bit & 1} == {20, 31, 33}
    assert 0 < heard <= made < 60 * 10**9


def test_a_false_report_is_dropped_and_a_true_one_believed(
    reference: tuple[Program, ReferenceNode],
) -> None:
    hub, node = reference
    true = REPORT.pack(0, 5, 1, 5, 0, 0)  # of CONFIG
    for payload in (
        REPORT.pack(10**6, 5, 1, 5, 0, 0),
        REPORT.pack(0, 5, 1, 6, 0, 0),
        true[:-1],
        true + b"\0",
        true,
    ):
        node.link.send(node.link.sealed(CONTROL | FEEDBACK, payload))
    time.sleep(0.3)
    snapshot = hub.snapshot()
    assert snapshot["drops"]["feedback"] == 4
    assert snapshot["counters"]["feedback_received"] == 1
    assert snapshot["peers"][0]["rtt_us"] > 0
