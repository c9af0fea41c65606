"""The crowd of nodes that bench/scale.py measures with is real: a hub serves it, both ways."""

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench import scale_cost
from bench.bed import HUB_ADDRESS, INTERNET_ADDRESS, Bed
from bench.scale_peers import TUNNEL, Crowd, Peer
from bench.tunnel import PORT, Keys, Program, start_hub
from native import wire
from native.aead import Aead
from tests.netns.conftest import assert_all_frames_accounted

PEERS = 9  # more than may be pending from one address, were it one
RATE, RUN_MS = 2000, 300
DESTINATION = slice(wire.FRAME_BYTES + 16, wire.FRAME_BYTES + 20)


@pytest.fixture
def crowded(tmp_path: Path) -> Iterator[tuple[Bed, Program, Crowd]]:
    keys = Keys(tmp_path, ("hub",))
    crowd = Crowd(keys, PEERS)
    scale_cost.build()
    with Bed() as bed:
        crowd.lay_out(bed)
        hub = start_hub(bed, keys, "--subnet", str(TUNNEL))
        crowd.connect(bed)
        yield bed, hub, crowd
        assert hub.stop() == 0
        assert_all_frames_accounted(hub)


def test_frames_of_all_peers_are_opened(
    crowded: tuple[Bed, Program, Crowd], tmp_path: Path
) -> None:
    bed, hub, crowd = crowded
    crowd.write(tmp_path / "peers")
    place = HUB_ADDRESS, str(PORT), INTERNET_ADDRESS, str(tmp_path / "peers")
    with scale_cost.Load(bed.node, "sealed", *place) as load:
        sent = load.run(PEERS, 5 * PEERS, scale_cost.UDP, RATE, RUN_MS)["sent"]
    time.sleep(0.3)
    after = hub.snapshot()
    assert sent > 0.5 * RATE * RUN_MS / 1000
    assert after["counters"]["tun_written_packets"] == sent
    assert after["counters"]["aead_failed"] == 0
    counts = {row["name"]: row["received_packets"] for row in after["peers"]}
    assert counts.keys() == {peer.name for peer in crowd.peers}
    assert max(counts.values()) - min(counts.values()) <= 1


def test_each_peer_gets_what_is_for_it(crowded: tuple[Bed, Program, Crowd]) -> None:
    bed, _, crowd = crowded
    first = str(crowd.peers[0].address)
    with (
        crowd.listening(bed) as sockets,
        scale_cost.Load(bed.internet, "plain", INTERNET_ADDRESS, first) as load,
    ):
        sent = load.run(PEERS, PEERS, scale_cost.TCP, RATE, RUN_MS)["sent"]
        time.sleep(0.3)
        counts = [_opened(peer, opened) for peer, opened in sockets.items()]
    assert sum(counts) == sent
    assert min(counts) > 0


def _opened(peer: Peer, opened: socket.socket) -> int:
    """How many tunnel frames came; each must open and be for the peer."""
    count = 0
    with Aead() as aead:
        while True:
            try:
                frame = bytearray(opened.recv(2048))
            except BlockingIOError:
                return count
            assert aead.open(peer.receive_key, [frame]) == [True]
            if frame[54] == wire.FLAGS["TUNNEL"]:
                assert bytes(frame[DESTINATION]) == peer.address.packed
                count += 1


def test_a_second_connection_replaces_the_first(crowded: tuple[Bed, Program, Crowd]) -> None:
    bed, hub, crowd = crowded
    for peer in crowd.peers:
        peer.forget()
    crowd.connect(bed)
    for peer in crowd.peers:
        hub.wait_log(f"session renewed: {peer.name} ")
    assert len(hub.snapshot()["peers"]) == PEERS
