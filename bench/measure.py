"""What is asked of a tunnel that is up: TCP and UDP both ways, ping, who used the processors."""

import json
import os
import re
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.bed import Bed
from bench.contenders import Tunnel
from bench.namespace import DIRECTORY, Namespace
from bench.tunnel import ProgramError

ROOT = Path(__file__).parent.parent
SOURCE = Path(__file__).with_name("udp_load.c")
PROGRAM = ROOT / "build" / "bench" / "udp_load"
DIRECTIONS = ("up", "down")
UDP_SIZES = (64, 1200)
LOSS_MAX = 0.001
REACHED = 0.97  # of the asked rate, else the sender was the limit
RESOLUTION = 1.04  # the search ends when the bounds are this close
TRIALS_MAX = 24
RATE_FIRST, RATE_LEAST = 50_000, 1000
PING_INTERVAL_MS = 1
WARM_UP_S = 1
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Effort:
    tcp_s: int
    udp_ms: int
    pings: int


FULL = Effort(tcp_s=3, udp_ms=300, pings=3000)
QUICK = Effort(tcp_s=1, udp_ms=150, pings=1000)


@dataclass
class Round:
    """One tunnel, once: a number a question, and what explains the numbers."""

    values: dict[str, float]
    threads: dict[str, dict[str, float]]  # TCP direction -> "side/thread" -> % of a core
    stages: dict[str, dict[str, dict[str, float]]]  # TCP direction -> side -> cycles a packet
    drops: dict[str, dict[str, int]]  # side -> reason -> packets in the whole round


def build() -> None:
    """The load generator, when it is missing or old."""
    if PROGRAM.exists() and PROGRAM.stat().st_mtime > SOURCE.stat().st_mtime:
        return
    PROGRAM.parent.mkdir(parents=True, exist_ok=True)
    flags = ["-O2", "-std=c11", "-Wall", "-Wextra", "-Werror", "-pthread"]
    subprocess.run(["gcc", *flags, "-o", PROGRAM, SOURCE], check=True)


def measure(
    bed: Bed, tunnel: Tunnel, effort: Effort, hints: dict[str, float], tell: Callable[[str], None]
) -> Round:
    """`hints` holds this tunnel's UDP rates of the round before, where the search begins."""
    result = Round({}, {}, {}, {})
    before = tunnel.snapshot()
    tell("ping")
    mean, p99, p999 = _ping(bed, tunnel, effort)
    result.values |= {"ping mean": mean, "ping p99": p99, "ping p99.9": p999}
    with _iperf_server(bed):
        for direction in DIRECTIONS:
            tell(f"TCP {direction}")
            stages_before, busy = tunnel.snapshot(), _busy(tunnel)
            begin = time.monotonic()
            result.values[f"tcp {direction}"] = _tcp(bed, tunnel, direction, effort)
            seconds = time.monotonic() - begin
            result.threads[direction] = _used(busy, _busy(tunnel), seconds)
            result.stages[direction] = _stages(stages_before, tunnel.snapshot())
    for size in UDP_SIZES:
        for direction in DIRECTIONS:
            key = f"udp {size} {direction}"
            tell(f"UDP {size} B {direction}")
            result.values[key] = _udp(bed, tunnel, direction, size, effort, hints.get(key))
            hints[key] = result.values[key]
    after = tunnel.snapshot()
    result.drops = {side: _drops(before[side], after[side]) for side in after}
    return result


def _ping(bed: Bed, tunnel: Tunnel, effort: Effort) -> tuple[float, float, float]:
    """Mean, p99 and p99.9 of the round trip in microseconds, by the kernel's time stamps."""
    argv = ["ping", "-n", "-i", str(PING_INTERVAL_MS / 1000), "-c", str(effort.pings), tunnel.far]
    times = [float(word) * 1000 for word in re.findall(r"time=([\d.]+)", _run(bed.node, argv))]
    if len(times) < effort.pings * 0.9:
        raise ProgramError(f"{tunnel.name} answered {len(times)} of {effort.pings} pings")
    ordered = sorted(times)
    return statistics.fmean(times), _quantile(ordered, 0.99), _quantile(ordered, 0.999)


def _quantile(ordered: list[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


@contextmanager
def _iperf_server(bed: Bed) -> Iterator[None]:
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    server = bed.internet.spawn(["iperf3", "--server"], **quiet)
    time.sleep(0.2)
    try:
        yield
    finally:
        server.terminate()
        server.wait()


def _tcp(bed: Bed, tunnel: Tunnel, direction: str, effort: Effort) -> float:
    """Bits per second that arrived, after the warm-up."""
    argv = ["iperf3", "--json", "--client", tunnel.far, "--time", str(effort.tcp_s)]
    argv += ["--omit", str(WARM_UP_S), *(["--reverse"] if direction == "down" else [])]
    answer = json.loads(_run(bed.node, argv))
    return float(answer["end"]["sum_received"]["bits_per_second"])


def _udp(
    bed: Bed, tunnel: Tunnel, direction: str, size: int, effort: Effort, hint: float | None
) -> float:
    """The highest rate in packets per second that arrives with no more than LOSS_MAX missing."""
    ends = (bed.node, bed.internet) if direction == "up" else (bed.internet, bed.node)
    paths = [str(DIRECTORY / namespace.name) for namespace in ends]
    address = tunnel.far if direction == "up" else tunnel.near

    def once(rate: float) -> tuple[bool, float]:
        argv = [str(PROGRAM), *paths, address, str(size), str(int(rate)), str(effort.udp_ms)]
        trial = json.loads(_run(None, argv))
        if not trial["received"]:
            return False, 0.0
        is_whole = trial["received"] >= trial["sent"] * (1 - LOSS_MAX)
        return is_whole, trial["received"] / max(trial["seconds"], effort.udp_ms / 1000)

    def twice(rate: float) -> tuple[bool, float]:
        """One hiccup of a shared machine is forgiven, to every tunnel alike."""
        is_whole, arrived = once(rate)
        return (True, arrived) if is_whole else once(rate)

    return highest_rate(twice, hint * 0.8 if hint else RATE_FIRST)


def highest_rate(attempt: Callable[[float], tuple[bool, float]], first: float) -> float:
    """Doubling and halving until the answer lies between two bounds, then bisection. An attempt
    that lost nothing but fell short of the rate it was asked for is the sender's own limit. The
    upper bound is asked again before it is believed."""
    low, high, best, rate = 0.0, 0.0, 0.0, max(first, RATE_LEAST)
    is_checked = False
    for _ in range(TRIALS_MAX):
        is_whole, arrived = attempt(rate)
        if is_whole:
            low, best = rate, max(best, arrived)
            high = 0.0 if rate >= high else high
        if not is_whole or arrived < rate * REACHED:
            high = rate
        is_closed = bool(high) and (high <= low * RESOLUTION or high <= RATE_LEAST)
        if is_closed and is_checked:
            break
        rate = high if is_closed else rate * 2 if not high else (low * high) ** 0.5 or rate / 2
        is_checked = is_closed
    return best


def _run(namespace: Namespace | None, argv: list[str]) -> str:
    if namespace is None:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=60)
    else:
        with namespace.inside():
            done = subprocess.run(argv, capture_output=True, text=True, timeout=60)
    if done.returncode != 0:
        said = done.stderr.strip() or done.stdout.strip()[-300:]
        raise ProgramError(f"{Path(argv[0]).name}: {said}")
    return done.stdout


def _busy(tunnel: Tunnel) -> dict[str, tuple[str, int]]:
    """Processor time so far of every thread of both sides, in ticks."""
    found = {}
    for side, process in tunnel.processes.items():
        for task in Path(f"/proc/{process.pid}/task").iterdir():
            name, _, rest = (task / "stat").read_text().partition("(")[2].rpartition(")")
            user, system = rest.split()[11:13]
            found[f"{side}/{task.name}"] = (f"{side}/{name}", int(user) + int(system))
    return found


def _used(
    before: Mapping[str, tuple[str, int]], after: Mapping[str, tuple[str, int]], seconds: float
) -> dict[str, float]:
    """Percent of a core by side and thread name; threads of one name are added up."""
    used: dict[str, float] = {}
    for task, (name, ticks) in after.items():
        spent = ticks - before.get(task, ("", 0))[1]
        used[name] = used.get(name, 0.0) + 100 * spent / TICKS_PER_S / seconds
    return used


def _stages(
    before: dict[str, dict[str, Any]], after: dict[str, dict[str, Any]]
) -> dict[str, dict[str, float]]:
    result: dict[str, dict[str, float]] = {}
    for side, snapshot in after.items():
        result[side] = {}
        for name, stage in snapshot["stages"].items():
            packets = stage["packets"] - before[side]["stages"][name]["packets"]
            cycles = stage["cycles"] - before[side]["stages"][name]["cycles"]
            if packets:
                result[side][name] = cycles / packets
    return result


def _drops(before: dict[str, Any], after: dict[str, Any]) -> dict[str, int]:
    counts = {name: count - before["drops"][name] for name, count in after["drops"].items()}
    return {name: count for name, count in counts.items() if count}
