"""The machine that is measured: what explains its figures, and who else used it meanwhile."""

import os
import platform
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

from m13 import doctor_machine
from m13.host import cpu

CPUINFO = Path("/proc/cpuinfo")
VENDOR = Path("/sys/class/dmi/id/sys_vendor")
GOVERNOR = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
IDLE_DRIVER = Path("/sys/devices/system/cpu/cpuidle/current_driver")
HALT_POLL = Path("/sys/module/haltpoll/parameters/guest_halt_poll_ns")
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Machine:
    """None where this machine has no such thing, or does not show it."""

    processor: str
    architecture: str
    cores: int
    isolated_cores: tuple[int, ...]
    kernel: str
    is_virtual: bool
    governor: str | None
    idle_driver: str | None
    halt_poll_ns: int | None
    aes: tuple[str, ...]
    io_uring: str
    is_io_uring_usable: bool

    def as_json(self) -> dict[str, object]:
        return asdict(self)


def look() -> Machine:
    text = CPUINFO.read_text(encoding="utf-8", errors="replace")
    ring = doctor_machine.io_uring()
    poll = _read(HALT_POLL)
    return Machine(
        processor=_processor(text),
        architecture=platform.machine(),
        cores=len(cpu.allowed_cores()),
        isolated_cores=tuple(cpu.isolated_cores()),
        kernel=os.uname().release,
        is_virtual=" hypervisor" in text or (_read(VENDOR) or "").startswith("QEMU"),
        governor=_read(GOVERNOR),
        idle_driver=_read(IDLE_DRIVER),
        halt_poll_ns=int(poll) if poll and poll.isdigit() else None,
        aes=_aes(text),
        io_uring=ring.found,
        is_io_uring_usable=ring.status == doctor_machine.ok("").status,
    )


def _processor(text: str) -> str:
    match = re.search(r"^(?:model name|Model)\s*:\s*(.+)$", text, re.MULTILINE)
    return match[1].strip() if match else platform.machine()


def _aes(text: str) -> tuple[str, ...]:
    match = re.search(r"^(?:flags|Features)\s*:(.*)$", text, re.MULTILINE)
    features = set(match[1].split()) if match else set()
    needed, faster = doctor_machine.AES_FEATURES.get(platform.machine(), ((), ()))
    return tuple(name for name in needed + faster if name in features)


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="ascii").strip()
    except OSError:
        return None


class Usage(NamedTuple):
    """Processor time since boot, in seconds over all cores."""

    busy_s: float
    idle_s: float
    stolen_s: float
    ours_s: float

    @classmethod
    def now(cls) -> "Usage":
        """Without the time of interrupts, which nobody can tell ours from others'."""
        with open("/proc/stat", encoding="ascii") as file:
            fields = [int(word) / TICKS_PER_S for word in file.readline().split()[1:]]
        return cls(sum(fields[:3]), sum(fields[3:5]), fields[7], sum(os.times()[:4]))

    def by_others(self, since: "Usage", seconds: float) -> float:
        """Cores that other programs kept busy, on average."""
        busy = self.busy_s - since.busy_s - (self.ours_s - since.ours_s)
        return max(0.0, busy / seconds)

    def stolen(self, since: "Usage", seconds: float) -> float:
        """Cores that the hypervisor took away, on average."""
        return max(0.0, (self.stolen_s - since.stolen_s) / seconds)
