"""Huge pages for packet memory: raise the pool for as long as we run."""

import errno
from dataclasses import dataclass
from pathlib import Path

from m13.host import kernel_file
from m13.host.journal import Journal

POOL = Path("/sys/kernel/mm/hugepages/hugepages-2048kB")
PAGE_BYTES = 2 << 20


@dataclass(frozen=True)
class Reservation:
    wanted: int
    free: int
    note: str | None


def free_count() -> int:
    """Pages that a mapping made now would get: free and not promised to another one."""
    return _read("free_hugepages") - _read("resv_hugepages")


def reserve(journal: Journal, count: int) -> Reservation:
    """See that `count` pages of 2 MiB are free, as far as memory allows."""
    try:
        missing = count - free_count()
        if missing > 0:
            has = _read("nr_hugepages")
            # Surplus ones go when their user ends, as those of a pool that was made smaller under
            # it do: the pool is not to keep them (Documentation/admin-guide/mm/hugetlbpage.rst).
            old = f"{has - _read('surplus_hugepages')}\n"
            path, text = POOL / "nr_hugepages", f"{has + missing}\n"
            kernel_file.change(journal, path, text, machine_wide=True, old=old)
        free = free_count()
    except OSError as error:
        reason = "this kernel has none" if error.errno == errno.ENOENT else error.strerror
        return Reservation(count, 0, f"no huge pages: {reason}")
    note = None
    if free < count:
        note = f"only {free} of {count} huge pages: memory is full or fragmented"
    return Reservation(count, free, note)


def _read(name: str) -> int:
    return int((POOL / name).read_text(encoding="ascii"))
