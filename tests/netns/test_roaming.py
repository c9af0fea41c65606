"""Endpoints that change under a flow: a NAT that forgets, a node that moves; and shared addresses.

node  up0 203.0.113.2   ─┐
                         router: a NAT (relay) 192.0.2.254 ─── 192.0.2.1 wan0 hub ─── internet
node2 up0 203.0.113.130 ─┘
"""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest

from bench import traffic
from bench.bed import INTERNET_ADDRESS, Bed
from bench.tunnel import Keys, Program, start_hub, start_node, tunnel_address
from tests.netns.conftest import assert_all_frames_accounted, laid_out
from tests.netns.flow import Flow
from tests.netns.impair import Relay

NAMES = ("node", "node2")
KEEPALIVE_S, LATE_S = 1.0, 0.4


@dataclass(frozen=True)
class Shared:
    bed: Bed
    hub: Program
    nodes: list[Program]
    relay: Relay

    def places(self) -> dict[str, str]:
        return {row["name"]: row["endpoint"] for row in self.hub.snapshot()["peers"]}


@pytest.fixture(scope="module")
def shared(keys: Keys, rx: str) -> Iterator[Shared]:
    for bed in laid_out(Bed(nodes=2)):
        hub = start_hub(bed, keys, "--rx", rx)
        with Relay(bed.router) as relay:
            nodes = [
                start_node(bed, keys, "--hub", Relay.address(name), name=name) for name in NAMES
            ]
            time.sleep(LATE_S)  # telemetry is written ten times a second
            yield Shared(bed, hub, nodes, relay)
            assert [node.stop() for node in nodes] == [0, 0]
        assert hub.stop() == 0
        assert_all_frames_accounted(hub)


def test_nodes_behind_one_address_have_a_session_each(shared: Shared) -> None:
    bed, places = shared.bed, shared.places()
    addresses, ports = zip(*(place.split(":") for place in places.values()), strict=True)
    assert set(addresses) == {"192.0.2.254"}
    assert len(set(ports)) == 2
    with ThreadPoolExecutor() as pool:
        transfers = [
            pool.submit(traffic.udp, bed.internet, space, tunnel_address(name), 2000)
            for space, name in zip(bed.nodes, NAMES, strict=True)
        ]
        assert all(transfer.result().is_intact for transfer in transfers)


def test_a_nat_that_forgets_is_followed_within_a_keepalive(shared: Shared) -> None:
    """Only the hub sends, so only a keepalive of the nodes can tell it."""
    bed, before = shared.bed, shared.places()
    with (
        Flow(bed.internet, bed.node, tunnel_address("node")) as first,
        Flow(bed.internet, bed.node2, tunnel_address("node2")) as second,
    ):
        time.sleep(0.5)
        shared.relay.rebind()
        time.sleep(2.5)
    after = shared.places()
    for name in NAMES:
        assert after[name] != before[name]
    for flow in (first, second):
        assert flow.longest_gap_s < KEEPALIVE_S + LATE_S
        assert flow.doubled == 0
    assert shared.hub.snapshot()["counters"]["sessions_lost"] == 0


def test_roaming_under_load_keeps_every_connection(shared: Shared) -> None:
    bed = shared.bed
    with ThreadPoolExecutor() as pool:
        transfers = [
            pool.submit(traffic.tcp, bed.node, bed.internet, INTERNET_ADDRESS, 15_000_000),
            pool.submit(traffic.tcp, bed.internet, bed.node, tunnel_address("node"), 15_000_000),
        ]
        while not all(transfer.done() for transfer in transfers):
            shared.relay.rebind()
            time.sleep(1.5)
        assert all(transfer.result().is_intact for transfer in transfers)
    assert shared.hub.snapshot()["counters"]["sessions_lost"] == 0
