"""The facts a figure means nothing without: processor, cores, kernel, and who else is running."""

import os
import platform
import re
from pathlib import Path

LOAD_MAX = 0.5


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


def _processor() -> str:
    text = Path("/proc/cpuinfo").read_text()
    found = re.search(r"^(?:model name|Model|Hardware)\s*:\s*(.+)$", text, re.MULTILINE)
    return found.group(1) if found else platform.processor() or "unknown"
