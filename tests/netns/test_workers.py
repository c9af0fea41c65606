"""A hub with two workers, each on a receive queue of its own.

node  203.0.113.2   ─┐                      queue 0 ─ worker 0 ─┐
                     router 192.0.2.254 ─── wan0                TUN ─── 198.51.100.2 internet
node2 203.0.113.130 ─┘                      queue 1 ─ worker 1 ─┘

The veth gives a flow's packets to a queue by their addresses and ports, so which worker a node
comes to is chance: one is started again, from another port, until the two are with different ones.
"""

import re
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest

from bench import traffic
from bench.bed import INTERNET_ADDRESS, Bed
from bench.tunnel import Keys, Program, start_hub, start_node, tunnel_address
from native.stats import PEERS_WORKER
from tests.netns.conftest import assert_all_frames_accounted, laid_out

NODE, NODE2 = tunnel_address("node"), tunnel_address("node2")
BYTES = 10_000_000
TRIES = 24


@dataclass
class Pair:
    bed: Bed
    hub: Program
    nodes: list[Program]


def settled(hub: Program, name: str) -> int:
    """Its worker, when the one it was with before has let go of it."""
    places: list[int] = []
    until = time.monotonic() + 5
    while time.monotonic() < until:
        places = [peer["slot"] for peer in hub.snapshot()["peers"] if peer["name"] == name]
        if len(places) == 1:
            return places[0] // PEERS_WORKER
        time.sleep(0.02)
    raise AssertionError(f"{name} has the places {places}")


def start_on(pair: Pair, keys: Keys, worker: int, *options: str) -> Program:
    """node2, with that worker."""
    for _ in range(TRIES):
        node = start_node(pair.bed, keys, *options, name="node2")
        node.wait_state("Established")
        if settled(pair.hub, "node2") == worker:
            return node
        assert node.stop() == 0
    raise AssertionError(f"{TRIES} ports and none of them came to worker {worker}")


@pytest.fixture(scope="module")
def pair(keys: Keys) -> Iterator[Pair]:
    for bed in laid_out(Bed(nodes=2, queues=2)):
        hub = start_hub(bed, keys, "--workers", "2")
        made = Pair(bed, hub, [start_node(bed, keys)])
        made.nodes.append(start_on(made, keys, 1 - settled(hub, "node")))
        yield made
        assert [program.stop() for program in (*made.nodes, hub)] == [0, 0, 0]
        assert_all_frames_accounted(hub)


def test_the_hub_says_how_many_workers_it_has(pair: Pair) -> None:
    assert re.search(r"native XDP, copy, 2 workers", pair.hub.log)
    assert pair.hub.snapshot()["workers"] == 2


def test_nodes_of_different_workers_carry_traffic_at_once(pair: Pair) -> None:
    bed = pair.bed
    with ThreadPoolExecutor() as pool:
        transfers = [
            pool.submit(traffic.tcp, source, target, address, BYTES)
            for source, target, address in (
                (bed.node, bed.internet, INTERNET_ADDRESS),
                (bed.node2, bed.internet, INTERNET_ADDRESS),
                (bed.internet, bed.node, NODE),
                (bed.internet, bed.node2, NODE2),
            )
        ]
        assert all(transfer.result().is_intact for transfer in transfers)


def test_nodes_of_different_workers_reach_each_other(pair: Pair) -> None:
    assert len(traffic.ping(pair.bed.node, NODE2, 20)) == 20
    assert traffic.tcp(pair.bed.node2, pair.bed.node, NODE, BYTES).is_intact
    assert traffic.udp(pair.bed.node, pair.bed.node2, NODE2, 5000).is_intact


def test_what_the_wrong_worker_took_reaches_the_right_one(pair: Pair) -> None:
    """Packets of new flows come out of either queue of the TUN."""
    before = pair.hub.snapshot()["counters"]["handed_on"]
    for address in (NODE, NODE2):
        for _ in range(8):
            assert len(traffic.ping(pair.bed.internet, address, 5)) == 5
    assert pair.hub.snapshot()["counters"]["handed_on"] > before


def test_a_node_that_comes_back_elsewhere_is_with_one_worker_only(pair: Pair, keys: Keys) -> None:
    first = settled(pair.hub, "node2")
    assert pair.nodes.pop().stop() == 0
    for worker in (1 - first, first):
        node = start_on(pair, keys, worker)
        assert len(traffic.ping(pair.bed.internet, NODE2, 10)) == 10
        assert [p["name"] for p in pair.hub.snapshot()["peers"]].count("node2") == 1
        if worker != first:
            node.kill()
    pair.nodes.append(node)


def nft(bed: Bed, rules: str) -> None:
    with bed.router.inside():
        subprocess.run(["nft", rules], check=True)


def appear_from(bed: Bed, own_port: int, port: int) -> None:
    """The router is a NAT that gives node2 another port, from one packet to the next."""
    rules = f"""
        table ip rebinding
        delete table ip rebinding
        table ip rebinding {{
            chain outward {{
                type filter hook prerouting priority -300
                ip saddr 203.0.113.130 udp sport {own_port} notrack udp sport set {port}
            }}
            chain inward {{
                type filter hook prerouting priority -301
                ip daddr 203.0.113.130 udp dport {port} notrack udp dport set {own_port}
            }}
        }}
    """
    nft(bed, rules)


def test_a_node_whose_frames_change_the_queue_keeps_its_worker(pair: Pair, keys: Keys) -> None:
    """Its next handshake too is that worker's: no frame is under a key nobody has."""
    assert pair.nodes.pop().stop() == 0
    node = start_on(pair, keys, 0, "--rekey-seconds", "6")
    pair.nodes.append(node)
    (peer,) = [p for p in pair.hub.snapshot()["peers"] if p["name"] == "node2"]
    own_port = int(peer["endpoint"].rpartition(":")[2])
    for port in range(40000, 40000 + TRIES):
        appear_from(pair.bed, own_port, port)
        before = pair.hub.snapshot()["counters"]["handed_on"]
        assert len(traffic.ping(pair.bed.node2, INTERNET_ADDRESS, 20)) == 20
        if pair.hub.snapshot()["counters"]["handed_on"] - before >= 20:
            break
    else:
        raise AssertionError("no port led to the other queue")
    pair.hub.wait_log(rf"node2 .* moved to 203.0.113.130:{port}")
    handshakes = peer["handshakes"]
    until = time.monotonic() + 15
    while peer["handshakes"] < handshakes + 2 and time.monotonic() < until:
        assert len(traffic.ping(pair.bed.node2, INTERNET_ADDRESS, 10)) == 10
        (peer,) = [p for p in pair.hub.snapshot()["peers"] if p["name"] == "node2"]
        time.sleep(0.05)
    assert peer["handshakes"] >= handshakes + 2
    assert settled(pair.hub, "node2") == 0
    nft(pair.bed, "delete table ip rebinding")
