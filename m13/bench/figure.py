"""What `m13 bench` finds out: figures, and what it had to leave out."""

from collections.abc import Iterable
from typing import NamedTuple

PACKET_BYTES = (64, 512, 1400)
LARGE_BYTES, SMALL_BYTES = 1400, 64
FRAME_OVERHEAD_BYTES = 62  # Ethernet and M13 header, docs/PROTOCOL.md §1
REPEATS = 5  # of a figure; the least disturbed one counts, for what disturbs only ever adds


class Figure(NamedTuple):
    """Time per packet, item or wake-up. `bytes` is the packet's, 0 where no data passes."""

    key: str
    group: str
    label: str
    ns: float
    bytes: int = 0
    p99_ns: float | None = None

    @property
    def per_second(self) -> float:
        return 1e9 / self.ns

    @property
    def gbit_per_second(self) -> float | None:
        return self.bytes * 8 / self.ns if self.bytes else None

    def as_json(self) -> dict[str, object]:
        return {
            **self._asdict(),
            "per_second": self.per_second,
            "gbit_per_second": self.gbit_per_second,
        }


class Omission(NamedTuple):
    """What was not measured, why, and what would make it possible."""

    what: str
    why: str
    mend: str


Result = Figure | Omission


def quantiles(key: str, group: str, label: str, samples_ns: Iterable[float]) -> Figure:
    """Median and 99th percentile. ValueError without samples."""
    ordered = sorted(samples_ns)
    if not ordered:
        raise ValueError("no samples")
    return Figure(
        key,
        group,
        label,
        ns=ordered[len(ordered) // 2],
        p99_ns=ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)],
    )
