"""The questions of bench.stages to one tunnel: how fast, and what a packet costs in every stage."""

import contextlib
import statistics
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench import measure, stages_build
from bench.bed import Bed
from bench.contenders import Tunnel
from native.aead import BACKENDS

AEAD_ROUNDS, AEAD_ROUNDS_QUICK = 4000, 400
FEW = 0.01  # of the packets: keepalives and the like tell nothing about a stage
AEAD_PROCESSES = 3
DEPTHS = ("library", "aead", "stage")
WAYS = ("seal", "open")
WAYS = ("seal", "open")
QUESTIONS = (
    *(f"tcp {way}" for way in measure.DIRECTIONS),
    *(f"udp {size} {way}" for size in measure.UDP_SIZES for way in measure.DIRECTIONS),
)


@dataclass
class Cost:
    """What one side spent while one question was asked. Times are of its data plane's threads."""

    cycles: dict[str, float] = field(default_factory=dict)  # stage -> a packet that met it
    stage_cycles: float = 0.0  # of all stages and packets together
    packets: int = 0  # frames sealed and frames opened
    thread_ns: int = 0
    system_share: float = 0.0  # of the threads' time, by the kernel's clock ticks


@dataclass
class Timing:
    """Nanoseconds a packet, of the least disturbed vector and of the middle one."""

    least: float
    median: float


# backend -> bytes of the packet -> depth -> way
Aead = dict[str, dict[int, dict[str, dict[str, Timing]]]]


def aead(rounds: int) -> tuple[Aead, float]:
    """Every backend that works here, and how many cycles a nanosecond has. Each is timed in several
    processes, of which the best counts: where the kernel happens to put one's memory can cost a
    layer as much as its own work."""
    program = str(stages_build.program("stages_aead"))
    found: Aead = {}
    scale = 0.0
    for backend in BACKENDS:
        found[backend] = {}
        for _ in range(AEAD_PROCESSES):
            head, *lines = stages_build.run([program, backend, str(rounds)]).splitlines()
            scale = float(head.split()[1])
            for line in lines:
                size, depth, *times = line.split()
                _keep_best(found[backend].setdefault(int(size), {}), depth, times)
    return found, scale


def _keep_best(depths: dict[str, dict[str, Timing]], depth: str, times: list[str]) -> None:
    numbers = [float(word) for word in times]
    for way, pair in zip(WAYS, (numbers[:2], numbers[2:]), strict=True):
        timing = Timing(*pair)
        best = depths.setdefault(depth, {}).setdefault(way, timing)
        if timing.least < best.least:
            depths[depth][way] = timing


def one_round(
    bed: Bed, tunnel: Tunnel, effort: measure.Effort, hints: dict[str, float]
) -> tuple[dict[str, float], dict[str, dict[str, Cost]]]:
    """Question -> bits or packets per second, and question -> side -> cost where telemetry
    tells. `hints` holds the rates of the round before, where the search begins."""
    values: dict[str, float] = {}
    costs: dict[str, dict[str, Cost]] = {}
    with measure._iperf_server(bed):
        for question in QUESTIONS:
            before, spent = tunnel.snapshot(), _spent(tunnel)
            values[question] = _ask(bed, tunnel, question, effort, hints)
            after, now_spent = tunnel.snapshot(), _spent(tunnel)
            costs[question] = {
                side: _cost(before[side], after[side], spent[side], now_spent[side])
                for side in after
            }
    hints.update(values)
    return values, costs


def _ask(
    bed: Bed, tunnel: Tunnel, question: str, effort: measure.Effort, hints: dict[str, float]
) -> float:
    what, *rest = question.split()
    if what == "tcp":
        return measure._tcp(bed, tunnel, rest[0], effort)
    size, direction = int(rest[0]), rest[1]
    return measure._udp(bed, tunnel, direction, size, effort, hints.get(question)).rate


def _spent(tunnel: Tunnel) -> dict[str, tuple[int, int, int]]:
    """Side -> nanoseconds on a processor, and clock ticks in user and in system mode, of all
    threads of the process. Its control loop is among them: it sleeps all but a few ms a second."""
    found = {}
    for side, process in tunnel.processes.items():
        on_processor, user, system = 0, 0, 0
        for task in Path(f"/proc/{process.pid}/task").iterdir():
            with contextlib.suppress(FileNotFoundError):  # a worker of io_uring that just ended
                words = (task / "stat").read_text().rpartition(")")[2].split()
                on_processor += int((task / "schedstat").read_text().split()[0])
                user, system = user + int(words[11]), system + int(words[12])
        found[side] = (on_processor, user, system)
    return found


def _cost(
    before: dict[str, Any],
    after: dict[str, Any],
    spent: tuple[int, int, int],
    now_spent: tuple[int, int, int],
) -> Cost:
    cost = Cost()
    counters = after["counters"], before["counters"]
    cost.packets = sum(counters[0][n] - counters[1][n] for n in ("aead_sealed", "aead_ok"))
    for name, stage in after["stages"].items():
        cycles = stage["cycles"] - before["stages"][name]["cycles"]
        packets = stage["packets"] - before["stages"][name]["packets"]
        cost.stage_cycles += cycles
        if packets > FEW * cost.packets:
            cost.cycles[name] = cycles / packets
    on_processor, user, system = (b - a for a, b in zip(spent, now_spent, strict=True))
    cost.thread_ns = on_processor
    cost.system_share = system / (user + system) if user + system else 0.0
    return cost


def together(costs: list[Cost]) -> Cost:
    """Of several rounds: medians by stage, and what adds up added up."""
    names = dict.fromkeys(name for cost in costs for name in cost.cycles)
    return Cost(
        {n: statistics.median(c.cycles[n] for c in costs if n in c.cycles) for n in names},
        sum(cost.stage_cycles for cost in costs),
        sum(cost.packets for cost in costs),
        sum(cost.thread_ns for cost in costs),
        statistics.median(cost.system_share for cost in costs),
    )
