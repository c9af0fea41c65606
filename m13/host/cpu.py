"""Which cores the data plane's threads run on."""

import fcntl
import os
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

SYSTEM = Path("/sys/devices/system/cpu")
ANY_CORE = -1  # wherever the kernel likes


@dataclass(frozen=True)
class CorePlan:
    worker: int  # or ANY_CORE, as for the TUN thread
    tun: int
    isolated: tuple[int, ...]
    note: str | None


def parse_list(text: str) -> list[int]:
    """Cores of a kernel list such as "1-3,8"; words in it (isolcpus=domain,2-3) are flags."""
    cores: set[int] = set()
    for part in text.strip().split(","):
        first, _, last = part.partition("-")
        if first.isdigit() and (last or first).isdigit():
            cores.update(range(int(first), int(last or first) + 1))
    return sorted(cores)


def format_list(cores: Iterable[int]) -> str:
    return ",".join(str(core) for core in sorted(cores))


def isolated_cores() -> list[int]:
    """Online cores the scheduler leaves alone. The variable M13_MOCK_CMDLINE, a kernel command
    line with isolcpus=, stands in for a machine that was booted so."""
    mock = os.environ.get("M13_MOCK_CMDLINE")
    if mock is None:
        isolated = parse_list((SYSTEM / "isolated").read_text(encoding="ascii"))
    else:
        lists = [w.removeprefix("isolcpus=") for w in mock.split() if w.startswith("isolcpus=")]
        # As in the kernel, the last one given counts.
        isolated = parse_list(lists[-1]) if lists else []
    online = parse_list((SYSTEM / "online").read_text(encoding="ascii"))
    return [core for core in isolated if core in online]


def allowed_cores() -> list[int]:
    """Cores this process may run on; isolated ones are usually not among them, yet can be had."""
    return sorted(os.sched_getaffinity(0))


def plan() -> CorePlan:
    """The worker on the first isolated core and the TUN thread on the last. On cores shared with
    others a pinned thread waits for whoever runs there, for milliseconds (measured: 0.35 against
    0.11 ms of ping), so without isolation nothing is pinned."""
    return _plan(isolated_cores())


def claim(stack: ExitStack, threads: int) -> CorePlan:
    """A plan for one thread or two on cores that no other tunnel of ours has, and has not while the
    stack lives: two that look for work on one core would only take turns."""
    isolated = isolated_cores()
    candidates = [*isolated[:1], *isolated[:0:-1]]  # the first, then from the last
    held: list[int] = []
    for core in candidates:
        if len(held) < threads and _may_have(core) and _hold(stack, core):
            held.append(core)
    if isolated and not held:
        taken = (
            "every isolated core has another tunnel's thread or is outside this process's cpuset:"
            " threads are not pinned"
        )
        return CorePlan(ANY_CORE, ANY_CORE, tuple(isolated), taken)
    chosen = _plan(sorted(held))
    note = chosen.note if threads > 1 or not held else None
    return CorePlan(chosen.worker, chosen.tun, tuple(isolated), note)


def _plan(isolated: list[int]) -> CorePlan:
    if len(isolated) >= 2:
        return CorePlan(isolated[0], isolated[-1], tuple(isolated), None)
    if isolated:
        note = f"only core {isolated[0]} is isolated: the TUN thread is not pinned"
        return CorePlan(isolated[0], ANY_CORE, tuple(isolated), note)
    return CorePlan(ANY_CORE, ANY_CORE, (), "no isolated cores (isolcpus=): threads are not pinned")


def _may_have(core: int) -> bool:
    """Whether a thread of ours can be put there, tried with this one: a cpuset, such as a
    container's, may lack it. Who only believes to have a core would look for work on others'."""
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {core})
    except OSError:
        return False
    os.sched_setaffinity(0, before)
    return True


def _hold(stack: ExitStack, core: int) -> bool:
    """A lock on the core's folder in sysfs: gone with the process, and nothing is left behind."""
    descriptor = os.open(SYSTEM / f"cpu{core}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return False
    stack.callback(os.close, descriptor)
    return True
