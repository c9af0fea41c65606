"""What is asked of a tunnel that is up: TCP and UDP both ways, ping, who used the processors."""

import json
import os
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from bench import machine
from bench.bed import Bed
from bench.contenders import Tunnel
from bench.namespace import DIRECTORY, Namespace
from bench.tunnel import ProgramError

ROOT = Path(__file__).parent.parent
BUILT = ROOT / "build" / "bench"
PROGRAMS = ("udp_load", "ping_times", "flood_load")
DIRECTIONS = ("up", "down")
UDP_SIZES = (64, 1200)
LOSS_MAX = 0.001
ANSWERED = 0.99  # of the pings, else their quantiles mean nothing
REACHED = 0.97  # of the asked rate, else the sender was the limit
RESOLUTION = 1.04  # the search ends when the bounds are this close
TRIALS_MAX = 24
RATE_FIRST, RATE_LEAST, RATE_MOST = 50_000, 1000, 100_000_000
STEP_FIRST, STEP_AGAIN = 2.0, 1.08  # without and with an answer of the round before
PING_INTERVAL_US = 1000
PING_SHARES = (0.0, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.995, 0.999, 1.0)
WARM_UP_S = 1
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Effort:
    tcp_s: int
    udp_ms: int
    pings: int


FULL = Effort(tcp_s=3, udp_ms=500, pings=10_000)
QUICK = Effort(tcp_s=1, udp_ms=150, pings=2000)


@dataclass
class Round:
    """One tunnel, once: a number a question, and what explains the numbers."""

    values: dict[str, float]
    threads: dict[str, dict[str, float]]  # TCP direction -> "side/thread" -> % of a core
    stages: dict[str, dict[str, dict[str, float]]]  # TCP direction -> side -> cycles a packet
    drops: dict[str, dict[str, int]]  # side -> reason -> packets in the whole round
    ping_us: dict[float, float]  # share of the echoes -> the round trip that it does not exceed
    generator: dict[str, dict[str, float]]  # UDP question -> end -> share of a core at its best
    others_percent: float = 0.0  # of a core, used by other programs during the pings


def build() -> None:
    """The load generators, where they are missing or old."""
    for name in PROGRAMS:
        build_program(name)


def build_program(name: str, *libraries: str) -> Path:
    """Compiles bench/NAME.c when that is missing or old. It appears whole and at once: another
    process may be at the same, or run what was there before."""
    source, program = Path(__file__).with_name(f"{name}.c"), BUILT / name
    newest = max(source.stat().st_mtime, source.with_name("trial.h").stat().st_mtime)
    if program.exists() and program.stat().st_mtime > newest:
        return program
    BUILT.mkdir(parents=True, exist_ok=True)
    unfinished = program.with_suffix(f".{os.getpid()}")
    flags = ["-O2", "-std=c11", "-Wall", "-Wextra", "-Werror", "-pthread"]
    # -iquote: <sched.h> is the system's, not our core's
    flags += ["-iquote", str(ROOT / "native" / "core")]
    subprocess.run(["gcc", *flags, "-o", unfinished, source, *libraries], check=True)
    unfinished.replace(program)
    return program


def measure(
    bed: Bed, tunnel: Tunnel, effort: Effort, hints: dict[str, float], tell: Callable[[str], None]
) -> Round:
    """`hints` holds this tunnel's UDP rates of the round before, where the search begins."""
    result = Round({}, {}, {}, {}, {}, {})
    before = tunnel.snapshot()
    tell("ping")
    begin, spent = time.monotonic(), _others_ticks(tunnel)
    times = _ping(bed, tunnel, effort)
    seconds, spent = time.monotonic() - begin, _others_ticks(tunnel) - spent
    result.others_percent = max(0.0, 100 * spent / TICKS_PER_S / seconds)
    result.ping_us = {share: _quantile(times, share) for share in PING_SHARES}
    result.values["ping mean"] = statistics.fmean(times)
    for share in (0.5, 0.99, 0.999):
        result.values[f"ping p{100 * share:g}"] = result.ping_us[share]
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
            best = _udp(bed, tunnel, direction, size, effort, hints.get(key))
            hints[key] = result.values[key] = best.rate
            result.generator[key] = {"sender": best.sender_busy, "receiver": best.receiver_busy}
    after = tunnel.snapshot()
    result.drops = {side: _drops(before[side], after[side]) for side in after}
    return result


def _ping(bed: Bed, tunnel: Tunnel, effort: Effort) -> list[float]:
    """Round trips in microseconds, shortest first."""
    netns = str(DIRECTORY / bed.node.name)
    argv = [str(BUILT / "ping_times"), netns, tunnel.far, str(effort.pings), str(PING_INTERVAL_US)]
    times = sorted(trip_ns / 1000 for trip_ns in json.loads(_run(None, argv))["trips_ns"])
    if len(times) < effort.pings * ANSWERED:
        raise ProgramError(f"{tunnel.name} answered {len(times)} of {effort.pings} pings")
    return times


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
    if "sum_received" not in answer["end"]:  # ended from outside, yet with status 0
        raise ProgramError(f"iperf3 was cut short: {answer.get('error', 'no reason given')}")
    return float(answer["end"]["sum_received"]["bits_per_second"])


class Trial(NamedTuple):
    """Packets per second that arrived, whether (nearly) all did, and what the load generator's
    two threads used of a core."""

    rate: float
    is_whole: bool
    sender_busy: float = 0.0
    receiver_busy: float = 0.0


def _udp(
    bed: Bed, tunnel: Tunnel, direction: str, size: int, effort: Effort, hint: float | None
) -> Trial:
    """The one with the highest rate that arrives with no more than LOSS_MAX missing."""
    ends = (bed.node, bed.internet) if direction == "up" else (bed.internet, bed.node)
    paths = [str(DIRECTORY / namespace.name) for namespace in ends]
    address = tunnel.far if direction == "up" else tunnel.near

    def once(rate: float) -> Trial:
        argv = [str(BUILT / "udp_load"), *paths, address]
        argv += [str(size), str(int(rate)), str(effort.udp_ms)]
        seen = json.loads(_run(None, argv))
        arrived = seen["received"] / max(seen["seconds"], effort.udp_ms / 1000)
        is_whole = 0 < seen["sent"] * (1 - LOSS_MAX) <= seen["received"]
        return Trial(arrived, is_whole, seen["sender_busy"], seen["receiver_busy"])

    def twice(rate: float) -> Trial:
        """One hiccup of a shared machine is forgiven, to every tunnel alike."""
        first = once(rate)
        if first.is_whole and first.rate >= rate * REACHED:
            return first
        return max(first, once(rate), key=lambda trial: (trial.is_whole, trial.rate))

    if hint:
        return highest_rate(twice, hint, STEP_AGAIN)
    return highest_rate(twice, RATE_FIRST, STEP_FIRST)


def highest_rate(attempt: Callable[[float], Trial], first: float, step: float) -> Trial:
    """Growing steps up or down until the answer lies between two bounds, then bisection. Where an
    attempt loses nothing, falls short of what it was asked for and brings no more than a lower rate
    did, the sender is at its own limit. The upper bound is asked again before it is believed."""
    low, high, rate, best = 0.0, 0.0, max(first, RATE_LEAST), Trial(0.0, False)
    is_checked = False
    for _ in range(TRIALS_MAX):
        trial = attempt(rate)
        brings_more = trial.rate >= min(rate * REACHED, best.rate * RESOLUTION)
        if trial.is_whole:
            low, best = rate, max(best, trial)
            high = 0.0 if rate >= high else high
        if not trial.is_whole or not brings_more or rate >= RATE_MOST:
            high = rate
        is_closed = bool(high) and (high <= low * RESOLUTION or high <= RATE_LEAST)
        if is_closed and is_checked:
            break
        is_checked = is_closed
        if is_closed:
            rate = high
        elif low and high:
            rate = (low * high) ** 0.5
        else:
            rate = min(rate * step, RATE_MOST) if low else max(rate / step, RATE_LEAST)
            step = min(step**2, STEP_FIRST)
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


def _others_ticks(tunnel: Tunnel) -> float:
    """Processor time so far of whoever is neither the tunnel nor us and our ended children."""
    ours = sum(os.times()[:4]) * TICKS_PER_S
    return machine.busy_ticks() - sum(ticks for _, ticks in _busy(tunnel).values()) - ours


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
