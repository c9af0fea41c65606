"""What a packet would have to wait for is there before it.

node ── hub ── internet
"""

import re
import time
from itertools import pairwise
from pathlib import Path

from bench.bed import Bed
from bench.tunnel import Keys, Program, start_hub, start_node
from m13.host.hugepages import PAGE_BYTES
from native.reactor import ARENA_BYTES
from tests.netns.conftest import assert_all_frames_accounted

PATIENCE_S = 2
ARENA_KIB = -(-ARENA_BYTES // PAGE_BYTES) * PAGE_BYTES >> 10


def arena_present_kib(program: Program) -> int:
    """Of the packet memory of a reactor, known by its size and by being in no core dump."""
    areas = Path(f"/proc/{program.process.pid}/smaps").read_text().split("VmFlags:")
    for area, flags in pairwise(areas):
        size = re.search(rf"^Size: +{ARENA_KIB} kB", area, re.M)
        if size and "dd" in flags.partition("\n")[0].split():
            present = re.findall(r"^(?:Rss|Private_Hugetlb): +(\d+) kB", area, re.M)
            return sum(map(int, present))
    raise AssertionError(f"no mapping of {ARENA_KIB} KiB that is kept from core dumps")


def test_a_hub_that_is_ready_has_its_memory(bed: Bed, keys: Keys) -> None:
    hub = start_hub(bed, keys, "--rx", "udp")  # AF_XDP pins what it is given
    assert arena_present_kib(hub) == ARENA_KIB
    assert hub.stop() == 0
    assert_all_frames_accounted(hub)


def test_a_node_has_its_memory_once_its_tunnel_is_up(bed: Bed, keys: Keys, rx: str) -> None:
    hub = start_hub(bed, keys, "--rx", rx)
    node = start_node(bed, keys)
    until = time.monotonic() + PATIENCE_S
    while arena_present_kib(node) < ARENA_KIB and time.monotonic() < until:
        time.sleep(0.02)
    assert arena_present_kib(node) == ARENA_KIB
    assert (node.stop(), hub.stop()) == (0, 0)
    assert_all_frames_accounted(hub)
