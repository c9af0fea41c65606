"""A session comes up over interfaces that carry less than a handshake's usual fragments.

node up0 192.0.2.2 ─── 192.0.2.1 wan0 hub, both interfaces with the small MTU
"""

import time

import pytest

from bench.bed import Bed
from bench.traffic import ping
from bench.tunnel import Keys, Program, start_hub, start_node
from tests.netns.conftest import assert_all_frames_accounted, wait_endpoint
from tests.netns.offload_bed import HUB, mtu_of


# below 1280 the kernel takes the bed's IPv6 addresses away
@pytest.mark.parametrize("path_bytes", [1280, 1300])
def test_a_handshake_passes_a_small_path(bed: Bed, keys: Keys, rx: str, path_bytes: int) -> None:
    links = (bed.node, bed.node_interface), (bed.hub, bed.hub_interface)
    with mtu_of(path_bytes, *links):
        hub = start_hub(bed, keys, "--rx", rx)
        node = start_node(bed, keys)
        assert len(ping(bed.node, HUB, 5, 1372)) == 5
        for program in (hub, node):
            # a veth lets four bytes more pass, room for a VLAN tag, if the kernel did not send them
            assert 576 <= path_of_session(program) <= path_bytes + 4
        assert (node.stop(), hub.stop()) == (0, 0)
    assert_all_frames_accounted(hub)


def path_of_session(program: Program) -> int:
    """In bytes; 0 until telemetry, which may be a tick late, has the session."""
    wait_endpoint(program, "")
    until = time.monotonic() + 2
    while True:
        (peer,) = program.snapshot()["peers"]
        if peer["path_mtu_bytes"] or time.monotonic() > until:
            return int(peer["path_mtu_bytes"])
        time.sleep(0.02)
