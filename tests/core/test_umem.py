"""The packet memory: where it comes from, and who may outlive it."""

import os
import re
from pathlib import Path

import pytest

from native.umem import Umem
from native.xdp import Socket


def pages_free() -> int:
    found = re.search(r"HugePages_Free:\s+(\d+)", Path("/proc/meminfo").read_text())
    return int(found[1]) if found else 0


def mapping(flag: str, field: str = "Size") -> list[str]:
    """The sizes of this process' mappings that carry a flag of /proc/self/smaps."""
    entries = Path("/proc/self/smaps").read_text().split("VmFlags:")
    flagged = [index for index, entry in enumerate(entries[1:]) if flag in entry.split("\n")[0]]
    return [size for i in flagged for size in re.findall(rf"^{field}: +(\d+) kB", entries[i], re.M)]


def test_huge_is_true_exactly_when_the_machine_has_reserved_pages():
    available = pages_free()
    with Umem(4 << 20) as umem:
        assert umem.huge == (available >= 2)


def test_memory_is_kept_from_core_dumps_and_forked_children():
    with Umem((6 << 20) - 1):
        assert "6144" in mapping("dd")
        assert "6144" in mapping("dc")
    assert "6144" not in mapping("dd")


def test_memory_on_normal_pages_is_there_once_it_was_asked_for():
    with Umem(6 << 20) as umem:
        if umem.huge:
            pytest.skip("reserved huge pages are there from the beginning, and not in Rss")
        assert "6144" not in mapping("dd", "Rss")
        umem.populate()
        assert "6144" in mapping("dd", "Rss")


@pytest.mark.parametrize("size", [0, (1 << 64) - 1, 1 << 62])
def test_impossible_sizes_are_refused(size):
    with pytest.raises(OSError, match="packet memory"):
        Umem(size)


@pytest.mark.skipif(os.geteuid() != 0, reason="AF_XDP needs root")
def test_memory_closes_its_sockets_first_and_both_close_twice():
    umem = Umem(1 << 21)
    queue = Socket(umem, "lo", slots=64)
    umem.close()
    with pytest.raises(ValueError, match="closed"):
        queue.receive()
    umem.close()
    queue.close()
