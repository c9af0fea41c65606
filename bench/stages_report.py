"""What bench.stages found: aligned tables, and the three goals with what falls short of them."""

import statistics
from dataclasses import asdict, dataclass, field
from typing import Any

from bench.report import QUESTIONS as WORDS
from bench.report import Report, short
from bench.stages_measure import DEPTHS, QUESTIONS, WAYS, Aead, Cost, together
from bench.stages_tunnels import TRIOS

AEAD_RATIO_MAX = 1.15  # to the library's own call
CLEAR_RATIO_MIN = 0.60  # of the same datapath in the clear


@dataclass
class Findings:
    """Samples by tunnel and question, in the order they were taken."""

    machine: dict[str, str]
    cycles_per_ns: float = 0.0
    aead: Aead = field(default_factory=dict)
    values: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    costs: dict[str, dict[str, dict[str, list[Cost]]]] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    def add(self, tunnel: str, values: dict[str, float], costs: dict[str, dict[str, Cost]]) -> None:
        for question, value in values.items():
            self.values.setdefault(tunnel, {}).setdefault(question, []).append(value)
            for side, cost in costs[question].items():
                of_tunnel = self.costs.setdefault(tunnel, {}).setdefault(question, {})
                of_tunnel.setdefault(side, []).append(cost)

    def median(self, tunnel: str, question: str) -> float | None:
        found = self.values.get(tunnel, {}).get(question)
        return statistics.median(found) if found else None

    def ratio(self, tunnel: str, other: str, question: str) -> float | None:
        ours, theirs = self.median(tunnel, question), self.median(other, question)
        return ours / theirs if ours and theirs else None

    def shortfalls(self) -> list[str]:
        """A line a goal that is missed."""
        found = []
        for backend, sizes in self.aead.items():
            for size, depths in sizes.items():
                for way in WAYS:
                    ratio = aead_ratio(depths, "aead", way)
                    if ratio > AEAD_RATIO_MAX:
                        words = f"{backend} {way} {size} B: {ratio:.2f} of the library's own call"
                        found.append(f"{words}, {AEAD_RATIO_MAX} allowed")
        for sealed, clear, _ in TRIOS.values():
            for question in QUESTIONS:
                share = self.ratio(sealed.name, clear.name, question)
                if share is not None and share < CLEAR_RATIO_MIN:
                    words = f"{sealed.name}, {WORDS[question].text}: {share:.2f} of the clear build"
                    found.append(f"{words}, {CLEAR_RATIO_MIN} wanted")
        return found

    def document(self) -> dict[str, Any]:
        return asdict(self) | {"shortfalls": self.shortfalls()}


def aead_ratio(depths: dict[str, dict[str, Any]], depth: str, way: str) -> float:
    """Of the least disturbed vectors: what disturbs only ever adds."""
    return float(depths[depth][way].least / depths["library"][way].least)


class StagesReport(Report):
    def library(self, found: Findings) -> None:
        heads = ["", "packet", *(f"{way} {depth}" for way in WAYS for depth in DEPTHS)]
        table = self._table(heads)
        for backend, sizes in found.aead.items():
            for size, depths in sizes.items():
                cells = []
                for way in WAYS:
                    cells.append(_times(depths["library"][way]))
                    for depth in DEPTHS[1:]:
                        ratio = aead_ratio(depths, depth, way)
                        cells.append(f"{_times(depths[depth][way])}  {ratio:.2f}×")
                table.add_row(backend, f"{size} B", *cells)
        title = (
            "Nanoseconds a packet, least (median) of many vectors of 64; × of the library's call"
        )
        self._show(title, table)

    def stages(self, found: Findings) -> None:  # type: ignore[override]
        table = self._table(["", *(WORDS[question].text.split(",")[0] for question in QUESTIONS)])
        for tunnel, questions in found.costs.items():
            for side in questions[QUESTIONS[0]]:
                costs = [together(questions[question][side]) for question in QUESTIONS]
                for name, cells in _rows(costs, found.cycles_per_ns):
                    table.add_row(f"{tunnel} {side} {name}", *cells)
        words = f"{found.cycles_per_ns:.2f} cycles a nanosecond"
        self._show(f"Cycles / nanoseconds a packet in every stage; {words}", table)
        self.console.print(
            "A stage's packets are those that met it; the lower rows are a sealed or opened packet."
            "\nCycles are of the wall clock: what preempts a thread in a stage counts there too."
            "\nKernel: system time of the process's threads. The hub's own system calls for sending"
            "\nlie within its transmit and deliver stages, those of a reactor outside of all.",
            highlight=False,
        )

    def datapath(self, found: Findings) -> None:
        for receiver, (sealed, clear, raw) in TRIOS.items():
            table = self._table(
                ["", sealed.name, clear.name, raw.name, "sealed/clear", "sealed/raw", "clear/raw"]
            )
            pairs = ((sealed, clear), (sealed, raw), (clear, raw))
            for question in QUESTIONS:
                about = WORDS[question]
                medians = [found.median(kind.name, question) for kind in (sealed, clear, raw)]
                cells = [_spread(found, kind.name, question) for kind in (sealed, clear, raw)]
                ratios = [found.ratio(one.name, other.name, question) for one, other in pairs]
                if any(medians):
                    table.add_row(about.text, *cells, *(f"{r:.2f}" if r else "–" for r in ratios))
            if table.row_count:
                title = f"--rx {receiver}: as it ships, encryption switched off, no tunnel at all"
                self._show(f"{title}; median (lowest–highest)", table)


def _rows(costs: list[Cost], scale: float) -> list[tuple[str, list[str]]]:
    names = dict.fromkeys(name for cost in costs for name in cost.cycles)
    rows = [
        (name, [_cost(c.cycles[name], scale) if name in c.cycles else "–" for c in costs])
        for name in names
    ]

    def per_packet(name: str, cycles: list[float]) -> None:
        rows.append(
            (
                name,
                [
                    _cost(x / c.packets, scale) if c.packets else "–"
                    for x, c in zip(cycles, costs, strict=True)
                ],
            )
        )

    per_packet("all stages", [cost.stage_cycles for cost in costs])
    per_packet("threads", [cost.thread_ns * scale for cost in costs])
    outside = [1 - c.stage_cycles / scale / c.thread_ns if c.thread_ns else 0.0 for c in costs]
    rows.append(("outside of stages", [f"{share:.0%}" for share in outside]))
    rows.append(("kernel", [f"{cost.system_share:.0%}" for cost in costs]))
    return rows


def _cost(cycles: float, scale: float) -> str:
    return f"{cycles:.0f} / {cycles / scale:.0f}"


def _times(timing: Any) -> str:
    return f"{timing.least:.1f} ({timing.median:.1f})"


def _spread(found: Findings, tunnel: str, question: str) -> str:
    divisor = WORDS[question].divisor
    values = [value / divisor for value in found.values.get(tunnel, {}).get(question, [])]
    if not values:
        return "–"
    return f"{short(statistics.median(values))} ({short(min(values))}–{short(max(values))})"
