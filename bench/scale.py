"""How M13 scales: peers, flows, memory, handshakes, start. Run as root: python -m bench.scale."""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from pyroute2 import NetlinkError
from rich.console import Console
from rich.table import Table

from bench import machine, scale_cost, scale_handshake, scale_start
from bench.report import PIPED_COLUMNS
from bench.scale_cost import DIRECTIONS, FLOW_COUNTS, PEER_COUNTS, TCP, UDP, Effort, Series
from bench.scale_handshake import Rates
from bench.tunnel import ProgramError
from m13.errors import M13Error

STARTS, STARTS_QUICK = 20, 5
IDLE_S, IDLE_QUICK_S = 20, 5
# Signing takes a random number of attempts: so many make the mean good to a percent.
HANDSHAKE_ROUNDS, HANDSHAKE_ROUNDS_QUICK = 40, 4
MEMORY_DIRECTORY = "/dev/shm"
TOPICS = ("peers", "flows", "handshakes", "idle", "start")
FAILURES = (ProgramError, M13Error, NetlinkError, OSError, RuntimeError, subprocess.SubprocessError)
Tell = Callable[[str], None]
Document = dict[str, Any]


@click.command(help=__doc__)
@click.option("--quick", is_flag=True, help="Fewer and shorter rounds: roughly how it scales.")
@click.option("--only", type=click.Choice(TOPICS), multiple=True, help="This; repeatable.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Every sample, a file.")
def main(quick: bool, only: tuple[str, ...], json_path: Path | None) -> None:
    if os.geteuid() != 0:
        raise click.ClickException("namespaces and tunnels need root: run it as root")
    # as in service, where journals are in /run: on a disk each change waits for it
    tempfile.tempdir = MEMORY_DIRECTORY
    scale_cost.build()
    facts = machine.facts()
    tables = Tables(Console(width=None if sys.stdout.isatty() else PIPED_COLUMNS))
    document: Document = {"machine": facts, "quick": quick, "failures": {}}
    screen = Console(stderr=True)
    with screen.status("") as status:
        for topic in only or TOPICS:

            def tell(what: str, topic: str = topic) -> None:
                status.update(f"{topic}: {what}")

            if not screen.is_terminal:
                screen.print(topic, highlight=False)
            with tempfile.TemporaryDirectory(prefix="m13-scale-") as directory:
                try:
                    document[topic] = MEASUREMENTS[topic](tables, quick, Path(directory), tell)
                except FAILURES as error:
                    document["failures"][topic] = str(error)
                    tables.console.print(f"failed: {topic}: {error}", highlight=False, markup=False)
    if noise := machine.warning(float(facts["load"])):
        tables.console.print(f"\n{noise}", highlight=False)
    if json_path:
        json_path.write_text(json.dumps(document, indent=1) + "\n")
    sys.exit(1 if document["failures"] else 0)


class Tables:
    def __init__(self, console: Console) -> None:
        self.console = console

    def show(self, title: str, heads: list[str], rows: Iterable[list[str]]) -> None:
        table = Table(box=None)
        for index, head in enumerate(heads):
            table.add_column(head, justify="right" if index else "left", no_wrap=True)
        for row in rows:
            table.add_row(*row)
        self.console.print(f"\n[bold]{title}[/bold]", highlight=False)
        self.console.print(table)

    def costs(self, title: str, series: Series, side: str, counts: tuple[int, ...]) -> None:
        """A row for each direction and count, and how far the least is from that of the first
        count: what other programs do on the machine only ever adds."""
        stages = _stages(series, side)
        heads = ["", "ns a packet", "least", "to first", "M13 cycles", "least", "to first"]
        heads += [*stages, "lost"]
        rows = []
        for direction in DIRECTIONS:
            first = (direction, side, counts[0])
            for count in counts:
                key = (direction, side, count)
                row = [f"{direction} {count:,}".replace(",", " ")]
                for name in ("processor_ns", "cycles"):
                    least = series.least(key, name)
                    row += [f"{series.median(key, name):.0f}", f"{least:.0f}"]
                    row.append(f"{least / series.least(first, name) - 1:+.1%}")
                row += [f"{series.median_of_stage(key, stage):.0f}" for stage in stages]
                row.append(f"{series.median(key, 'lost'):.1%}")
                rows.append(row)
        self.show(title, heads, rows)


def _stages(series: Series, side: str) -> list[str]:
    """The stages that worked at all."""
    runs = [cost for key, costs in series.runs.items() if key[1] == side for cost in costs]
    return [name for name in runs[0].stages if any(cost.stages[name] >= 1 for cost in runs)]


def _document(series: Series) -> Document:
    return {
        " ".join(map(str, key)): [asdict(cost) for cost in costs]
        for key, costs in series.runs.items()
    }


def _effort(quick: bool) -> Effort:
    return scale_cost.QUICK if quick else scale_cost.FULL


def peers(tables: Tables, quick: bool, directory: Path, tell: Tell) -> Document:
    effort = _effort(quick)
    document = {}
    for spell, series in scale_cost.by_peers(effort, directory, tell).items():
        title = (
            f"Hub, by peers that send or receive, {spell} packets of each in a row:"
            f" {scale_cost.FLOWS_OF_PEERS} flows of {scale_cost.INNER_BYTES} B packets,"
            f" {effort.rate} a second, 256 sessions, medians of {effort.rounds} rounds"
        )
        tables.costs(title, series, "hub", PEER_COUNTS)
        document[str(spell)] = _document(series)
    return document


def flows(tables: Tables, quick: bool, directory: Path, tell: Tell) -> Document:
    effort = scale_cost.of_flows(_effort(quick))
    document = {}
    for name, protocol in (("UDP", UDP), ("TCP", TCP)):
        own = directory / name
        own.mkdir()
        series = scale_cost.by_flows(effort, own, protocol, tell)
        for side in ("hub", "node"):
            title = f"{side.capitalize()}, by {name} flows in one tunnel, {effort.rate} a second"
            tables.costs(title, series, side, FLOW_COUNTS)
        document[name] = _document(series)
    return document


def idle(tables: Tables, quick: bool, directory: Path, tell: Tell) -> Document:
    seconds = IDLE_QUICK_S if quick else IDLE_S
    tell(f"{seconds} s of nothing, twice")
    with scale_cost.crowded_bed(directory) as (_, hub, _):
        time.sleep(scale_start.SETTLE_S)
        processor = {"hub with 256 sessions": scale_start.idle_percent({"": hub}, seconds)[""]}
        memory = {name: scale_start.memory(pid) for name, pid in scale_start.family(hub).items()}
    own = directory / "pair"
    own.mkdir()
    pair = scale_start.idle_pair(own, seconds)
    processor |= {f"{name}, one session, keepalives": share for name, share in pair.items()}
    rows = [
        [name, f"{m.resident:.1f}", f"{m.proportional:.1f}", f"{m.huge:.1f}"]
        for name, m in memory.items()
    ]
    total = sum(m.proportional + m.huge for m in memory.values())
    rows.append(["together, shared pages once", "", f"{total:.1f}", ""])
    heads = ["", "RSS", "PSS", "huge pages"]
    tables.show("Memory of a hub with 256 sessions, MiB", heads, rows)
    shares = [[name, f"{share:.2f}"] for name, share in processor.items()]
    tables.show(f"Percent of a core over {seconds} s without traffic", ["", "%"], shares)
    return {
        "memory_mib": {name: asdict(m) for name, m in memory.items()},
        "memory_total_mib": total,
        "processor_percent": processor,
    }


def handshakes(tables: Tables, quick: bool, directory: Path, tell: Tell) -> Document:
    tell("worker and provider")
    rates = scale_handshake.measure(HANDSHAKE_ROUNDS_QUICK if quick else HANDSHAKE_ROUNDS)
    tell("256 nodes at once")
    with scale_cost.crowded_bed(directory) as (bed, _, crowd):
        by_packets = [scale_handshake.by_packets(bed, crowd) for _ in range(1 if quick else 5)]
    rows = [
        ["provider alone", f"{rates.provider_us:.0f}", f"{1e6 / rates.provider_us:.0f}", "1"],
        _rate_row("worker, processor time", rates.worker_processor_us, rates),
        _rate_row("worker, by the clock", rates.worker_clock_us, rates),
    ]
    heads = ["", "µs", "handshakes/s", "to provider"]
    tables.show("The hub's half of a handshake (v2), one core", heads, rows)
    median = statistics.median(by_packets)
    words = f"256 nodes connecting at once, both halves on this machine: {median:.0f} a second"
    tables.console.print(words, highlight=False)
    costs = [[name, f"{cost:.1f}"] for name, cost in rates.operations_us.items()]
    tables.show("The provider's operations, µs a handshake", ["", "µs"], costs)
    costs = [[name, f"{cost:.1f}"] for name, cost in rates.profile]
    tables.show("The worker's functions under cProfile, µs a handshake", ["", "µs"], costs)
    return {**asdict(rates), "ratio": rates.ratio, "by_packets": by_packets}


def _rate_row(name: str, cost_us: float, rates: Rates) -> list[str]:
    return [name, f"{cost_us:.0f}", f"{1e6 / cost_us:.0f}", f"{rates.provider_us / cost_us:.3f}"]


def start(tables: Tables, quick: bool, directory: Path, tell: Tell) -> Document:
    times = scale_start.start_times(directory, STARTS_QUICK if quick else STARTS, tell)
    mains = statistics.median(times["main()"])
    rows = []
    for name, found in times.items():
        median = statistics.median(found)
        spread = f"{min(found):.1f}–{max(found):.1f}"
        rows.append([name, f"{median:.1f}", spread, f"{median - mains:.1f}"])
    heads = ["", "from exec", "", "from main()"]
    tables.show("m13-node from its start, ms, median", heads, rows)
    return times


MEASUREMENTS = {
    "peers": peers,
    "flows": flows,
    "handshakes": handshakes,
    "idle": idle,
    "start": start,
}

if __name__ == "__main__":
    try:
        main(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
