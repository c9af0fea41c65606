"""What a packet costs hub and node, by the number of peers and by the number of flows."""

import json
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

from bench.bed import HUB_ADDRESS, INTERNET_ADDRESS, Bed
from bench.measure import BUILT, build_program
from bench.namespace import DIRECTORY, Namespace
from bench.scale_peers import TUNNEL, Crowd
from bench.tunnel import PORT, Keys, Program, ProgramError, start_hub, start_node, tunnel_address
from m13.host import firewall

DIRECTIONS = ("up", "down")
UDP, TCP = 17, 6
PEER_COUNTS = (1, 16, 64, 256)
FLOW_COUNTS = (10, 1_000, 100_000)
INNER_BYTES = 92  # 64 bytes of UDP payload
# Packets in a row that are one peer's. In trains of 16 a send is shared alike however many peers
# there are; one by one, only with a single peer.
SPELLS = (16, 1)
FLOWS_OF_PEERS = 256 * max(SPELLS)  # for all counts and spells: only the peers change
SETTLE_S = 0.02
KEEPALIVE_MS = "60000"
# What arrived was counted by the tunnel before, and must not be answered.
SINK = """table ip scale {{
    chain sink {{ type filter hook prerouting priority raw; iifname {interface} drop; }}
}}"""


@dataclass(frozen=True)
class Effort:
    rounds: int
    run_ms: int
    rate: int  # packets per second offered
    warm_ms: int  # before the measured part of a run


RATE = 200_000
# A stage that may write a short vector to the TUN itself: the kernel's work is then in it.
KERNEL_TOO = {"deliver"}
FULL = Effort(rounds=15, run_ms=300, rate=RATE, warm_ms=100)
QUICK = Effort(rounds=3, run_ms=250, rate=RATE, warm_ms=50)
# Node and hub share the machine, and nothing may be lost. All flows once before each run take long.
FLOW_RATE, FLOW_ROUNDS_MAX = 100_000, 6


@dataclass
class Cost:
    """Of one run, for one program, a packet."""

    packets: int
    cycles: float  # in our stages, but for those in KERNEL_TOO
    stages: dict[str, float]
    processor_ns: float  # of all its threads, the kernel's work for them included
    threads: dict[str, float]
    lost: float  # share of what was sent


@dataclass
class Series:
    """Costs by direction and by what was varied; each a list of runs."""

    runs: dict[tuple[str, str, int], list[Cost]] = field(default_factory=dict)

    def add(self, direction: str, side: str, count: int, cost: Cost) -> None:
        self.runs.setdefault((direction, side, count), []).append(cost)

    def median(self, key: tuple[str, str, int], name: str) -> float:
        return statistics.median(getattr(cost, name) for cost in self.runs[key])

    def least(self, key: tuple[str, str, int], name: str) -> float:
        return min(getattr(cost, name) for cost in self.runs[key])

    def median_of_stage(self, key: tuple[str, str, int], stage: str) -> float:
        return statistics.median(cost.stages[stage] for cost in self.runs[key])


def build() -> None:
    build_program("scale_load", "-lcrypto")


class Load:
    """One running load generator; see scale_load.c."""

    def __init__(self, namespace: Namespace, *words: str) -> None:
        pipe = subprocess.PIPE
        argv = [str(BUILT / "scale_load"), str(DIRECTORY / namespace.name), *words]
        self._process = subprocess.Popen(argv, stdin=pipe, stdout=pipe, text=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate(timeout=10)

    def run(
        self, ends: int, flows: int, protocol: int, rate: int, run_ms: int, spell: int = 1
    ) -> dict[str, float]:
        assert self._process.stdin
        assert self._process.stdout
        words = ends, spell, flows, protocol, INNER_BYTES, rate, run_ms
        print(*words, file=self._process.stdin, flush=True)
        line = self._process.stdout.readline()
        if not line:
            raise ProgramError("the load generator ended")
        answer: dict[str, float] = json.loads(line)
        return answer


class Meter:
    """The cost of what passes a program while the block runs."""

    def __init__(self, program: Program, direction: str) -> None:
        self._program = program
        inwards = (direction == "up") == (program.role == "hub")
        self._counter = "tun_written_packets" if inwards else "sent_packets"

    def __enter__(self) -> Self:
        self._snapshot, self._threads = self._program.snapshot(), threads_ns(self._program)
        return self

    def __exit__(self, *_: object) -> None:
        self._after, self._threads_after = self._program.snapshot(), threads_ns(self._program)

    def cost(self, sent: float) -> Cost:
        before, after = self._snapshot, self._after
        packets = after["counters"][self._counter] - before["counters"][self._counter]
        if not packets:
            drops = {name: count for name, count in after["drops"].items() if count}
            raise ProgramError(
                f"nothing passed m13-{self._program.role}, drops: {drops},"
                f" counters: {after['counters']}"
            )
        stages = {
            name: (stage["cycles"] - before["stages"][name]["cycles"]) / packets
            for name, stage in after["stages"].items()
        }
        threads: dict[str, float] = {}
        for task, (name, spent) in self._threads_after.items():
            used = spent - self._threads.get(task, ("", 0))[1]
            threads[name] = threads.get(name, 0) + used / packets
        total = sum(cycles for name, cycles in stages.items() if name not in KERNEL_TOO)
        lost = max(0.0, 1 - packets / sent)
        return Cost(packets, total, stages, sum(threads.values()), threads, lost)


def threads_ns(program: Program) -> dict[str, tuple[str, int]]:
    """Processor time so far of each of its threads."""
    found = {}
    for task in Path(f"/proc/{program.process.pid}/task").iterdir():
        name = (task / "comm").read_text().strip()
        found[task.name] = (name, int((task / "schedstat").read_text().split()[0]))
    return found


def by_peers(effort: Effort, directory: Path, tell: Callable[[str], None]) -> dict[int, Series]:
    """One hub with 256 sessions; the packets belong to 1, 16, 64 or all of them. By spell."""
    series = {spell: Series() for spell in SPELLS}
    with crowded_bed(directory) as (bed, hub, crowd):
        peers = directory / "peers"
        crowd.write(peers)
        _sink(bed.internet, "eth0")
        _sink(bed.node, bed.node_interface)
        first = str(crowd.peers[0].address)
        place = HUB_ADDRESS, str(PORT), INTERNET_ADDRESS, str(peers)
        with (
            Load(bed.node, "sealed", *place) as up,
            Load(bed.internet, "plain", INTERNET_ADDRESS, first) as down,
        ):
            loads = {"up": up, "down": down}
            for turn, direction, count in _turns(effort, PEER_COUNTS):
                tell(f"round {turn} of {effort.rounds}: {count} peers, {direction}")
                for spell in SPELLS:
                    traffic = count, FLOWS_OF_PEERS, UDP, effort.rate
                    loads[direction].run(*traffic, effort.warm_ms, spell)
                    with Meter(hub, direction) as meter:
                        sent = loads[direction].run(*traffic, effort.run_ms, spell)
                        time.sleep(SETTLE_S)
                    series[spell].add(direction, "hub", count, meter.cost(sent["sent"]))
    return series


def of_flows(effort: Effort) -> Effort:
    return replace(effort, rate=FLOW_RATE, rounds=min(effort.rounds, FLOW_ROUNDS_MAX))


def by_flows(effort: Effort, directory: Path, protocol: int, tell: Callable[[str], None]) -> Series:
    """One node, one tunnel, more and more flows inside."""
    series = Series()
    keys = Keys(directory, ("hub", "node"))
    with Bed() as bed:
        hub = start_hub(bed, keys)
        node = start_node(bed, keys)
        _sink(bed.internet, "eth0")
        _sink(bed.node, "m13tun0")
        near = tunnel_address("node")
        with (
            Load(bed.node, "plain", near, INTERNET_ADDRESS) as up,
            Load(bed.internet, "plain", INTERNET_ADDRESS, near) as down,
        ):
            loads = {"up": up, "down": down}
            for turn, direction, count in _turns(effort, FLOW_COUNTS):
                tell(f"round {turn} of {effort.rounds}: {count} flows, {direction}")
                load = loads[direction]
                # once through all flows: the kernel's connection tracking meets each before
                warm_ms = effort.warm_ms + count * 1000 // effort.rate
                load.run(1, count, protocol, effort.rate, warm_ms)
                with Meter(hub, direction) as at_hub, Meter(node, direction) as at_node:
                    sent = load.run(1, count, protocol, effort.rate, effort.run_ms)
                    time.sleep(SETTLE_S)
                series.add(direction, "hub", count, at_hub.cost(sent["sent"]))
                series.add(direction, "node", count, at_node.cost(sent["sent"]))
        for program in (node, hub):
            program.stop()
    return series


@contextmanager
def crowded_bed(directory: Path) -> Iterator[tuple[Bed, Program, Crowd]]:
    """A hub with as many nodes as it takes, all connected. They send no keepalives: its own
    interval is so long that it misses none."""
    keys = Keys(directory, ("hub",))
    crowd = Crowd(keys)
    with Bed() as bed:
        crowd.lay_out(bed)
        hub = start_hub(bed, keys, "--subnet", str(TUNNEL), "--keepalive-ms", KEEPALIVE_MS)
        crowd.connect(bed)
        yield bed, hub, crowd
        hub.stop()


def _turns(effort: Effort, counts: tuple[int, ...]) -> Iterator[tuple[int, str, int]]:
    """Interleaved, so that a slow minute of the machine hits all of them; every other round
    backwards, so that none always follows the same one."""
    for turn in range(1, effort.rounds + 1):
        for direction in DIRECTIONS:
            for count in counts if turn % 2 else reversed(counts):
                yield turn, direction, count


def _sink(namespace: Namespace, interface: str) -> None:
    with namespace.inside():
        firewall.run(SINK.format(interface=interface))
