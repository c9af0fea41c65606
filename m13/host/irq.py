"""Move the machine's interrupts off the isolated cores."""

import logging
from collections.abc import Iterable
from pathlib import Path

from m13.host import cpu, kernel_file
from m13.host.journal import Journal

log = logging.getLogger("m13.host")


def move_off(
    journal: Journal, isolated: Iterable[int], root: Path = Path("/proc/irq")
) -> tuple[int, int]:
    """Returns how many interrupts were moved and how many cannot be (timers, per-core ones)."""
    avoid = set(isolated)
    moved = unmovable = 0
    if not avoid:
        return moved, unmovable
    online = cpu.parse_list((cpu.SYSTEM / "online").read_text(encoding="ascii"))
    housekeeping = set(online) - avoid
    for path in sorted(root.glob("*/smp_affinity_list")):
        try:
            cores = set(cpu.parse_list(path.read_text(encoding="ascii")))
            target = (cores - avoid) or housekeeping
            if cores & avoid and target:
                text = cpu.format_list(target) + "\n"
                kernel_file.change(journal, path, text, machine_wide=True)
                moved += 1
        except OSError as error:
            unmovable += 1
            log.debug("interrupt %s stays: %s", path.parent.name, error.strerror)
    return moved, unmovable
