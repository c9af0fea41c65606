"""What was measured, as tables for people and as one JSON document for programs."""

import statistics
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple, Self

from rich import box
from rich.console import Console, JustifyMethod
from rich.table import Table

from bench.aead import Costs
from bench.measure import DIRECTIONS, LOSS_MAX, UDP_SIZES, Round
from m13.telemetry_layout import TEXTS

PIPED_COLUMNS = 240
BUSY_LEAST_PERCENT = 1.0
OURS = "m13"


class Question(NamedTuple):
    text: str
    divisor: float
    more_is_better: bool = True


QUESTIONS = {
    **{f"tcp {way}": Question(f"TCP {way}, Gbit/s", 1e9) for way in DIRECTIONS},
    **{
        f"udp {size} {way}": Question(f"UDP {size} B {way}, kpacket/s", 1e3)
        for size in UDP_SIZES
        for way in DIRECTIONS
    },
    **{
        f"ping {what}": Question(f"ping {what}, µs", 1, more_is_better=False)
        for what in ("mean", "p50", "p99", "p99.9")
    },
}


@dataclass
class Results:
    """Rounds by tunnel, in the order of the columns."""

    machine: dict[str, str]
    versions: dict[str, str]
    rivals: set[str]
    rounds: dict[str, list[Round]]
    failures: list[str] = field(default_factory=list)
    aead: Costs = field(default_factory=dict)

    def values(self, tunnel: str, question: str) -> list[float]:
        return [done.values[question] for done in self.rounds[tunnel]]

    def ratio(self, question: str) -> tuple[float, str] | None:
        """How many times better ours is than the best rival, and which that is."""
        medians = {
            tunnel: statistics.median(self.values(tunnel, question))
            for tunnel, rounds in self.rounds.items()
            if rounds
        }
        rivals = {tunnel: value for tunnel, value in medians.items() if tunnel in self.rivals}
        if OURS not in medians or not any(rivals.values()):
            return None
        if QUESTIONS[question].more_is_better:
            best = max(rivals, key=rivals.__getitem__)
            return medians[OURS] / rivals[best], best
        best = min(rivals, key=rivals.__getitem__)
        return rivals[best] / medians[OURS], best

    def document(self) -> dict[str, Any]:
        summary: dict[str, Any] = {}
        for question in QUESTIONS:
            summary[question] = {
                tunnel: _spread(self.values(tunnel, question))
                for tunnel, rounds in self.rounds.items()
                if rounds
            }
            if ratio := self.ratio(question):
                summary[question]["ratio"] = {"value": ratio[0], "against": ratio[1]}
        return {
            "machine": self.machine,
            "versions": self.versions,
            "rivals": [name for name in self.rounds if name in self.rivals],
            "summary": summary,
            "rounds": {name: [asdict(done) for done in r] for name, r in self.rounds.items()},
            "aead_ns": self.aead,
            "failures": self.failures,
        }


class Report:
    def __init__(self, console: Console) -> None:
        self.console = console

    @classmethod
    def on_console(cls) -> Self:
        """Boxes and colour on a terminal, plain aligned columns in a pipe."""
        return cls(Console(width=None if sys.stdout.isatty() else PIPED_COLUMNS))

    def machine(self, results: Results) -> None:
        facts = results.machine
        words = f"{facts['processor']}, {facts['cores']} cores, Linux {facts['kernel']}"
        self.console.print(f"{words} {facts['architecture']}", highlight=False)
        versions = "; ".join(f"{name} {text}" for name, text in results.versions.items())
        self.console.print(versions, highlight=False)

    def comparison(self, results: Results) -> None:
        rounds = max(len(done) for done in results.rounds.values())
        title = f"Median (lowest–highest) of {rounds} interleaved rounds, through the hub's NAT"
        table = self._table(["", *results.rounds, "m13 to best rival"])
        for question, about in QUESTIONS.items():
            cells = [_cell(results.values(t, question), about.divisor) for t in results.rounds]
            ratio = results.ratio(question)
            verdict = f"{ratio[0]:.2f}× {ratio[1]}" if ratio else "–"
            table.add_row(about.text, *cells, verdict)
        self._show(title, table)
        words = f"Ratios above 1 favour m13. UDP: highest rate losing at most {LOSS_MAX:.1%}."
        self.console.print(words, highlight=False)

    def aead(self, costs: Costs, vector: int) -> None:
        title = f"Nanoseconds a packet to seal / open, vectors of {vector}, least of many"
        sizes = sorted({size for cells in costs.values() for size in cells})
        table = self._table(["backend", *(f"{size} B" for size in sizes)])
        for name, cells in costs.items():
            words = [f"{cells[s][0]:.0f} / {cells[s][1]:.0f}" if cells else "–" for s in sizes]
            table.add_row(name, *words)
        self._show(title, table)

    def stages(self, rounds: list[Round]) -> None:
        """Of the directions and sides only those a stage worked for."""
        columns = [(way, side) for way in DIRECTIONS for side in ("node", "hub")]
        heads = [f"{side}, TCP {way}" for way, side in columns]
        table = self._table(["stage", *heads, ""])
        names = dict.fromkeys(n for r in rounds for s in r.stages["up"].values() for n in s)
        for name in names:
            cells = []
            for way, side in columns:
                found = [r.stages[way][side][name] for r in rounds if name in r.stages[way][side]]
                cells.append(f"{statistics.median(found):.0f}" if found else "–")
            table.add_row(name, *cells, TEXTS["stage", name])
        self._show("m13: cycles a packet in each stage", table)

    def processors(self, results: Results) -> None:
        title = "Percent of a core during TCP, by thread"
        table = self._table(["thread", *(f"TCP {way}" for way in DIRECTIONS)])
        for tunnel, rounds in results.rounds.items():
            for thread in dict.fromkeys(n for r in rounds for n in r.threads["up"]):
                used = [
                    _median(r.threads[way].get(thread, 0.0) for r in rounds) for way in DIRECTIONS
                ]
                if max(used) >= BUSY_LEAST_PERCENT:
                    side, _, name = thread.partition("/")
                    table.add_row(f"{tunnel} {side}: {name}", *(f"{share:.0f}" for share in used))
        self._show(title, table)

    def drops(self, rounds: list[Round]) -> None:
        """Overload is part of the UDP search, so some are expected there."""
        table = self._table(["reason", "packets"])
        for side in ("node", "hub"):
            for reason in dict.fromkeys(n for r in rounds for n in r.drops.get(side, {})):
                count = _median(r.drops.get(side, {}).get(reason, 0) for r in rounds)
                table.add_row(f"{side}: {TEXTS['drop', reason]}", f"{count:.0f}")
        if table.row_count:
            self._show("m13: packets dropped in a whole round, median", table)

    def _table(self, heads: list[str]) -> Table:
        style = box.SIMPLE_HEAD if self.console.is_terminal else None
        table = Table(box=style)
        for index, head in enumerate(heads):
            justify: JustifyMethod = "right" if index and head else "left"
            table.add_column(head, justify=justify, no_wrap=not index)
        return table

    def _show(self, title: str, table: Table) -> None:
        self.console.print(f"\n[bold]{title}[/bold]", highlight=False)
        self.console.print(table)


def _cell(values: list[float], divisor: float) -> str:
    if not values:
        return "failed"
    middle, low, high = (
        short(value / divisor) for value in (statistics.median(values), min(values), max(values))
    )
    return f"{middle} ({low}–{high})" if len(values) > 1 else middle


def short(value: float) -> str:
    """Three digits that mean something."""
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:.0f}"


def _median(values: Iterable[float]) -> float:
    return statistics.median(values)


def _spread(values: list[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}
