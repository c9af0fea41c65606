"""A hub that serves as many nodes as it can, all of them at once; and one more.

256 nodes in one process, up0 192.0.2.2 ─── 192.0.2.1 wan0 hub ─── internet
"""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench import scale_cost
from bench.bed import HUB_ADDRESS, INTERNET_ADDRESS, Bed
from bench.scale_peers import PEERS_MAX, TUNNEL, Crowd
from bench.tunnel import PORT, Keys, Program, start_hub, start_node
from hub.registry.registry import Registry, initialise
from m13 import enrollment, identity
from tests.hub.registry.office import OPERATORS, PROVIDER, Office, make_identity
from tests.netns.conftest import assert_all_frames_accounted

RATE, RUN_MS = 5_000, 1000
LATE_S = 0.5


@pytest.fixture
def full(tmp_path: Path, rx: str) -> Iterator[tuple[Bed, Program, Crowd]]:
    keys = Keys(tmp_path, ("hub",))
    crowd = Crowd(keys, PEERS_MAX)
    scale_cost.build()
    with Bed() as bed:
        crowd.lay_out(bed)
        hub = start_hub(bed, keys, "--subnet", str(TUNNEL), "--rx", rx, "--keepalive-ms", "20000")
        crowd.connect(bed)
        yield bed, hub, crowd
        assert hub.stop() == 0
        assert_all_frames_accounted(hub)


def assert_all_are_served(bed: Bed, hub: Program, crowd: Crowd, directory: Path) -> None:
    crowd.write(directory / "peers")
    before = hub.snapshot()["counters"]["tun_written_packets"]
    place = HUB_ADDRESS, str(PORT), INTERNET_ADDRESS, str(directory / "peers")
    with scale_cost.Load(bed.node, "sealed", *place) as load:
        sent = load.run(PEERS_MAX, PEERS_MAX, scale_cost.UDP, RATE, RUN_MS)["sent"]
    time.sleep(LATE_S)
    after = hub.snapshot()
    assert after["counters"]["tun_written_packets"] - before == sent
    counts = {row["name"]: row["received_packets"] for row in after["peers"]}
    assert counts.keys() == {peer.name for peer in crowd.peers}
    assert min(counts.values()) > 0


def test_256_nodes_are_served_at_once(full: tuple[Bed, Program, Crowd], tmp_path: Path) -> None:
    bed, hub, crowd = full
    time.sleep(LATE_S)
    assert hub.snapshot()["gauges"]["peers_established"] == PEERS_MAX
    assert_all_are_served(bed, hub, crowd, tmp_path)


def admit_all(keys: Keys, crowd: Crowd, location: str, store: Path) -> None:
    """More than connect at once, as only a registry may: the crowd, and a node of its own."""
    node = identity.load(keys.identity("node"), PROVIDER)
    members = [(node, "node", str(TUNNEL.network[PEERS_MAX + 2]))]
    for peer in crowd.peers:
        public_key = PROVIDER.sign_load(peer.seed)[1]
        member = identity.Identity(peer.seed, public_key, peer.key)
        members.append((member, peer.name, str(peer.address)))
    operators = {name: make_identity(name).public_key for name in OPERATORS}
    hub_key = identity.load(keys.identity("hub"), PROVIDER).public_key
    initialise(
        location, subnet=str(TUNNEL), owner="owner", quorum=2, operators=operators, hub_key=hub_key
    )
    with Registry(location, store) as registry:
        office = Office(registry, location)
        office.open_gates()
        for member, name, address in members:
            document = enrollment.write(member, PROVIDER, name, "node")
            office.active(data=document, tunnel_address=address)


@pytest.mark.soak
def test_the_257th_is_refused_clearly_by_both_ends(tmp_path: Path) -> None:
    keys = Keys(tmp_path, ("hub", "node"))
    crowd = Crowd(keys, PEERS_MAX)
    location = str(tmp_path / "registry.db")
    admit_all(keys, crowd, location, tmp_path / "store")
    with Bed() as bed:
        crowd.lay_out(bed)
        options = ["--registry", location, "--subnet", str(TUNNEL), "--rx", "udp"]
        hub = start_hub(bed, keys, *options, "--keepalive-ms", "60000")
        crowd.connect(bed)
        time.sleep(LATE_S)
        assert hub.snapshot()["gauges"]["peers_established"] == PEERS_MAX
        node = start_node(bed, keys, wait=False)
        line = hub.wait_log(r"refused: as many nodes as a hub serves are connected.*")
        assert keys.fingerprints["node"] in line[0]
        assert node.process.wait(40) == 4
        last = node.log.strip().splitlines()[-1]
        assert "it admits this node's key, but gives no session" in last
        assert hub.log.count("as many nodes as a hub serves") == 1
        assert hub.snapshot()["gauges"]["peers_established"] == PEERS_MAX
        assert hub.stop() == 0
        assert_all_frames_accounted(hub)
