"""The bench's report: drawn on a terminal, as aligned columns in a pipe."""

from collections.abc import Iterator
from itertools import groupby
from operator import attrgetter
from typing import TYPE_CHECKING

from rich.box import ROUNDED, SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from m13.bench.figure import Figure
from m13.bench.verdict import AEAD, COPY, TUN, UDP, Limit

if TYPE_CHECKING:
    from m13.bench.run import Report

BAR_COLUMNS, BAR_COLUMNS_NARROW, CHART_COLUMNS = 20, 8, 40
WIDTH_FOR_ALL = 100  # below it bars are short and rates left out
EIGHTHS = " ▏▎▍▌▋▊▉█"
TITLE = "what limits this machine"
CEILINGS = (
    "a rate is a ceiling: steps one by one on one core, without NIC, network and applications"
)
STEP_STYLES = {TUN: "cyan", COPY: "blue", AEAD: "green", UDP: "yellow"}


def duration(ns: float) -> str:
    """Three digits, in ns, µs or ms."""
    unit = "ns" if ns < 999.5 else "µs" if ns < 999_500 else "ms"
    value = ns / {"ns": 1, "µs": 1e3, "ms": 1e6}[unit]
    return f"{value:.0f} {unit}" if value >= 99.95 else f"{value:.1f} {unit}"


def rate(per_second: float) -> str:
    """Packets or items per second."""
    for unit in ("", "k", "M"):
        if per_second < 999.5:
            return f"{per_second:.0f}{unit}" if per_second >= 99.95 else f"{per_second:.1f}{unit}"
        per_second /= 1000
    return f"{per_second:.1f}G"


def bar(share: float, columns: int) -> str:
    """A bar of this share of the columns, in eighths of one."""
    eighths = round(max(0.0, min(1.0, share)) * columns * 8)
    whole, rest = divmod(eighths, 8)
    return "█" * whole + (EIGHTHS[rest] if rest else "")


def heading(report: "Report") -> str:
    machine = report.machine
    words = [
        machine.processor,
        f"{machine.cores} core{'s' if machine.cores != 1 else ''}",
        *(["virtual machine"] if machine.is_virtual else []),
        f"Linux {machine.kernel}",
        f"io_uring: {machine.io_uring}",
    ]
    return ", ".join(words)


def _cells(figure: Figure) -> tuple[str, str, str, str]:
    gbit = figure.gbit_per_second
    return (
        duration(figure.ns),
        rate(figure.per_second),
        f"{gbit:.2f}" if gbit is not None else "",
        duration(figure.p99_ns) if figure.p99_ns is not None else "",
    )


HEADINGS = ("time", "per s", "Gbit/s", "p99")


def _some(cells: tuple[str, ...], is_wide: bool) -> tuple[str, ...]:
    return cells if is_wide else cells[:1] + cells[2:]


def lines(report: "Report") -> Iterator[str]:
    """Aligned text for pipes and logs."""
    yield heading(report)
    width = max(len(f"{figure.group}  {figure.label}") for figure in report.figures)
    yield f"{'':<{width}}" + "".join(f"  {word:>9}" for word in HEADINGS)
    for figure in report.figures:
        cells = "".join(f"  {cell:>9}" for cell in _cells(figure))
        yield f"{figure.group + '  ' + figure.label:<{width}}{cells}".rstrip()
    for omission in report.omissions:
        yield f"left out: {omission.what}: {omission.why}; {omission.mend}"
    yield ""
    yield TITLE
    width = max((len(remark.case) for remark in report.remarks), default=0)
    for remark in report.remarks:
        yield f"{remark.case:<{width}}  {remark.text}"
        yield f"{'':<{width}}  hint: {remark.hint}"
    yield f"note: {CEILINGS}"
    yield from (f"note: {warning}" for warning in report.warnings)


def draw(report: "Report", width: int) -> RenderableType:
    """For a terminal of so many columns."""
    figures = _figures(report, width >= WIDTH_FOR_ALL)
    parts: list[RenderableType] = [Text(heading(report), "bold"), figures]
    if report.omissions:
        parts += [Text(), _omissions(report)]
    verdict = Group(*_chart(report.limits), _remarks(report), Text(f"\n{CEILINGS}", "dim"))
    parts.append(Panel(verdict, box=ROUNDED, title=TITLE, title_align="left"))
    parts += [Text(f"note: {warning}", "yellow") for warning in report.warnings]
    return Group(*parts)


def _figures(report: "Report", is_wide: bool) -> Table:
    """Bars compare the times within a group: longer is slower."""
    table = Table("", box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
    columns = BAR_COLUMNS if is_wide else BAR_COLUMNS_NARROW
    for word in ("", ""):
        table.add_column(word, no_wrap=True)
    for word in _some(HEADINGS, is_wide):
        table.add_column(word, justify="right", no_wrap=True)
    for group, members in groupby(report.figures, attrgetter("group")):
        figures = list(members)
        longest = max(figure.ns for figure in figures)
        for index, figure in enumerate(figures):
            table.add_row(
                Text(group if index == 0 else "", "bold"),
                figure.label,
                Text(bar(figure.ns / longest, columns), "cyan"),
                *_some(_cells(figure), is_wide),
                end_section=index == len(figures) - 1,
            )
    return table


def _omissions(report: "Report") -> Table:
    table = Table.grid(padding=(0, 2))
    for omission in report.omissions:
        text = Text(omission.why).append(f"\n{omission.mend}", "bold")
        table.add_row(Text("left out", "yellow"), omission.what, text)
    return table


def _chart(limits: list[Limit]) -> Iterator[RenderableType]:
    """Where a packet's time goes, all cases on one scale."""
    stacked = [limit for limit in limits if limit.bytes]
    if not stacked:
        return
    longest = max(limit.ns for limit in stacked)
    table = Table.grid(padding=(0, 2))
    for limit in stacked:
        strip = Text()
        for step, ns in limit.steps:
            strip.append("█" * round(CHART_COLUMNS * ns / longest), STEP_STYLES[step])
        table.add_row(limit.case, strip, duration(limit.ns))
    legend = Text()
    for step, style in STEP_STYLES.items():
        legend.append("█ ", style).append(f"{step}  ")
    table.add_row("", legend, "")
    yield table
    yield Text()


def _remarks(report: "Report") -> Table:
    table = Table.grid(padding=(0, 2))
    for remark in report.remarks:
        table.add_row(
            Text(remark.case, "bold"), Text(remark.text).append(f"\n{remark.hint}", "dim")
        )
    return table
