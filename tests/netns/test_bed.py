"""The bed itself: real NICs move in and go back as they were, and nothing stays behind.

outer namespace: port0 ─── port1, moved to hub and node, and back
"""

import os
from collections.abc import Iterator

import pytest

from bench.bed import Bed, huge_pages
from bench.namespace import Namespace, settled_difference
from bench.traffic import ping
from bench.tunnel import Keys, start_hub, start_node


@pytest.fixture
def outer() -> Iterator[Namespace]:
    """Stands for a machine with two ports joined by a cable."""
    namespace = Namespace(f"m13-machine-{os.getpid()}")
    try:
        namespace.veth("port0", namespace, "port1")
        namespace.address("port0", "10.99.0.1/24")
        yield namespace
    finally:
        namespace.remove()


def test_named_nics_carry_the_tunnel_and_go_back(outer: Namespace, keys: Keys) -> None:
    before = outer.picture()
    with outer.inside(), Bed(hub_nic="port0", node_nic="port1") as bed:
        assert sorted(outer.picture()["links"]) == ["lo"]
        hub, node = start_hub(bed, keys), start_node(bed, keys)
        assert ping(bed.node, "10.13.0.1")
        assert (node.stop(), hub.stop()) == (0, 0)
        assert bed.changes() == []
    assert settled_difference(outer, before) == []


def test_a_failed_bed_leaves_nothing(outer: Namespace) -> None:
    before = outer.picture()
    with outer.inside(), pytest.raises(LookupError), Bed(hub_nic="port0", node_nic="nosuch0"):
        pass
    assert settled_difference(outer, before) == []
    mine = [name for name in os.listdir("/run/netns") if name.endswith(f"-{os.getpid()}")]
    assert mine == [outer.name]


def test_what_a_killed_hub_left_goes_with_the_bed(keys: Keys) -> None:
    before = huge_pages()
    with Bed() as bed:
        hub = start_hub(bed, keys, "--rx", "xdp")
        reserved = huge_pages()
        hub.kill()
        page = f"/dev/shm/m13.hub.m13tun0.{bed.hub.inode}"
        assert os.path.exists(page)
        assert bed.changes() != []
    assert not os.path.exists(page)
    if reserved == before:
        pytest.skip("this machine had no huge pages to reserve")
    assert huge_pages() == before
