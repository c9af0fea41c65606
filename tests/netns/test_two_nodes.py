"""Two nodes at once, behind a router, so that the hub reaches both through a gateway.

node  203.0.113.2   ─┐
                     router 192.0.2.254 ─── 192.0.2.1 hub ─── 198.51.100.2 internet
node2 203.0.113.130 ─┘
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from bench import traffic
from bench.bed import INTERNET_ADDRESS, Bed
from bench.tunnel import Keys, start_hub, start_node, tunnel_address
from tests.netns.conftest import assert_all_frames_accounted, laid_out

NODE, NODE2 = tunnel_address("node"), tunnel_address("node2")
BYTES = 20_000_000


@pytest.fixture(scope="module")
def pair(keys: Keys, rx: str) -> Iterator[Bed]:
    for bed in laid_out(Bed(nodes=2)):
        hub = start_hub(bed, keys, "--rx", rx)
        nodes = [start_node(bed, keys, name=name) for name in ("node", "node2")]
        for name in ("node", "node2"):
            hub.wait_log(f"session up: {name} ")
        yield bed
        assert [program.stop() for program in (*nodes, hub)] == [0, 0, 0]
        assert_all_frames_accounted(hub)


def test_each_is_reached_from_the_internet(pair: Bed) -> None:
    for address in (NODE, NODE2):
        assert len(traffic.ping(pair.internet, address, 20)) == 20
    assert traffic.tcp(pair.internet, pair.node, NODE, BYTES).is_intact
    assert traffic.tcp(pair.internet, pair.node2, NODE2, BYTES).is_intact


def test_each_reaches_the_internet(pair: Bed) -> None:
    for node in (pair.node, pair.node2):
        download = traffic.http_download(node, pair.internet, INTERNET_ADDRESS, BYTES)
        assert download.is_intact
        assert download.seen_from == "198.51.100.1"


def test_they_reach_each_other_through_the_hub(pair: Bed) -> None:
    assert len(traffic.ping(pair.node, NODE2, 20)) == 20
    assert len(traffic.ping(pair.node2, NODE, 20)) == 20
    assert traffic.tcp(pair.node, pair.node2, NODE2, BYTES).is_intact
    assert traffic.tcp(pair.node2, pair.node, NODE, BYTES).is_intact
    assert traffic.udp(pair.node, pair.node2, NODE2, 5000).is_intact


def test_both_at_once_arrive_intact(pair: Bed) -> None:
    with ThreadPoolExecutor() as pool:
        transfers = [
            pool.submit(traffic.tcp, source, target, address, BYTES)
            for source, target, address in (
                (pair.node, pair.internet, INTERNET_ADDRESS),
                (pair.node2, pair.internet, INTERNET_ADDRESS),
                (pair.internet, pair.node, NODE),
                (pair.internet, pair.node2, NODE2),
            )
        ]
        assert all(transfer.result().is_intact for transfer in transfers)
