"""The facts a figure means nothing without: processor, cores, kernel, and who else is running."""

import os
import platform
import re
from pathlib import Path

LOAD_MAX = 0.5
OTHERS_MAX_PERCENT = 10


def facts() -> dict[str, str]:
    return {
        "processor": _processor(),
        "cores": str(len(os.sched_getaffinity(0))),
        "kernel": platform.release(),
        "architecture": platform.machine(),
        "load": f"{os.getloadavg()[0]:.2f}",
    }


def warning(load: float) -> str | None:
    if load <= LOAD_MAX:
        return None
    return f"the machine was not idle at the start (load {load:.2f}): the figures are noisy"


def disturbance(others_percent: float) -> str | None:
    """`others_percent` of a core, used by other programs in the worst of the rounds."""
    if others_percent <= OTHERS_MAX_PERCENT:
        return None
    return (
        f"others used up to {others_percent:.0f} % of a core during the pings: "
        "the tails are theirs too"
    )


def busy_ticks() -> int:
    """Processor time of all programs so far, of all cores, without interrupts: proc(5)."""
    user, nice, system = Path("/proc/stat").read_text().split()[1:4]
    return int(user) + int(nice) + int(system)


def _processor() -> str:
    text = Path("/proc/cpuinfo").read_text()
    found = re.search(r"^(?:model name|Model|Hardware)\s*:\s*(.+)$", text, re.MULTILINE)
    return found.group(1) if found else platform.processor() or "unknown"
