"""Who is let in: a hub admits the nodes of its list, a node trusts the hub it pinned.

node up0 192.0.2.2 ─── 192.0.2.1 wan0 hub
"""

import socket

import pytest

from bench.bed import HUB_ADDRESS, Bed
from bench.tunnel import PORT, Keys, start_hub, start_node
from tests.netns.conftest import assert_all_frames_accounted
from tests.netns.reference import ReferenceNode, load_identity


@pytest.mark.parametrize("profile", ["v2", "v1"])
def test_an_unlisted_node_gets_no_server_hello(bed: Bed, keys: Keys, rx: str, profile: str) -> None:
    hub = start_hub(bed, keys, "--rx", rx)
    with bed.node.inside():
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with sock:
        sock.connect((HUB_ADDRESS, PORT))
        node = ReferenceNode(sock, load_identity(keys.identity("stranger")), profile)
        node.register()
        node.hello()
        line = hub.wait_log(r"refused: .*")
        assert keys.fingerprints["stranger"] in line[0]
        sock.settimeout(0.5)
        with pytest.raises(TimeoutError):
            node.link.receive_message()
    counters = hub.snapshot()["counters"]
    assert (counters["handshakes_refused"], counters["handshakes_done"]) == (1, 0)
    assert hub.stop() == 0
    assert_all_frames_accounted(hub)


def test_a_wrong_hub_key_ends_the_node_with_the_key_it_saw(bed: Bed, keys: Keys, rx: str) -> None:
    hub = start_hub(bed, keys, "--rx", rx)
    pin = ("--hub-key", keys.fingerprints["stranger"])
    node = start_node(bed, keys, *pin, wait=False)
    assert node.process.wait(10) == 4
    last = node.log.strip().splitlines()[-1]
    assert last.startswith("m13-node: error: ")
    assert keys.fingerprints["hub"] in last
    assert hub.snapshot()["counters"]["handshakes_done"] == 0
    assert hub.stop() == 0


def test_a_node_nobody_admits_gives_up_after_thirty_seconds(bed: Bed, keys: Keys) -> None:
    hub = start_hub(bed, keys)
    node = start_node(bed, keys, identity="stranger", wait=False)
    assert node.process.wait(40) == 4
    last = node.log.strip().splitlines()[-1]
    assert last.startswith("m13-node: error: no session with 192.0.2.1:443 within 30 s")
    assert hub.stop() == 0
