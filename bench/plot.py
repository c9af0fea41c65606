"""Figures of a run, as SVG for a light and a dark page: python -m bench.plot RESULTS.json FOLDER

`bars` and `series` draw any figures of these two kinds; the rest knows the comparison's document.
Text stays text, so a browser uses its own font and a reader can search and select it.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple
from xml.sax.saxutils import escape

import click
import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator

from bench.report import OURS, QUESTIONS, short

# Okabe and Ito's colours for every kind of colour vision, those that show on white and on black.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#7A7A7A")
MARKERS = ("o", "s", "^", "D", "v")
OTHERS = "#8C959F"
INK, INK_ON_DARK = "#1F2328", "#E6EDF3"
GRID = "#8C959F55"
WIDTH_INCHES, PANEL_INCHES, BAR_INCHES, SERIES_INCHES = 8.0, 0.75, 0.24, 4.0
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "m13",  # the same figures give the same file
    "font.size": 9,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
}
FIGURES = {
    "tcp": ("TCP through the tunnel", "tcp "),
    "udp": ("UDP through the tunnel: highest rate that loses at most 0.1 %", "udp "),
    "ping": ("Ping through the tunnel: lower is better", "ping "),
}


class Spread(NamedTuple):
    median: float
    low: float
    high: float


class Panel(NamedTuple):
    """A bar a name from 0 to the median, a whisker from low to high; `note` stands below."""

    text: str
    values: Mapping[str, Spread]
    note: str = ""


def bars(path: Path, title: str, panels: Sequence[Panel], ours: str = OURS) -> None:
    """An SVG file with the panels two in a row, in each a bar for every name in any of them, in
    the order they are first met; a name without a value says so. `ours` stands out."""
    names = list(dict.fromkeys(name for panel in panels for name in panel.values))
    rows = (len(panels) + 1) // 2
    height = rows * (PANEL_INCHES + BAR_INCHES * len(names))
    with matplotlib.rc_context(STYLE):
        spaced = ConstrainedLayoutEngine(w_pad=0.1)
        figure = Figure(figsize=(WIDTH_INCHES, height), layout=spaced)
        grid = figure.subplots(rows, 2, squeeze=False, sharey=True)
        for axes, panel in zip(grid.flat, panels, strict=False):
            _bar_panel(axes, panel, names, ours)
        for axes in grid.flat[len(panels) :]:
            axes.set_visible(False)
        _write(figure, path, title)


def series(
    path: Path,
    title: str,
    x_text: str,
    y_text: str,
    lines: Mapping[str, Sequence[tuple[float, float]]],
    *,
    is_log_x: bool = False,
    is_log_y: bool = False,
) -> None:
    """An SVG file with a line of (x, y) points for every name, told apart by colour and by marker;
    at most five names. Without a logarithm the y axis begins at 0."""
    if len(lines) > len(COLOURS):
        raise ValueError(f"{len(lines)} lines, but only {len(COLOURS)} can be told apart")
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH_INCHES, SERIES_INCHES), layout="constrained")
        axes = figure.subplots()
        for (name, points), colour, marker in zip(lines.items(), COLOURS, MARKERS, strict=False):
            x, y = zip(*points, strict=True)
            axes.plot(x, y, color=colour, marker=marker, markersize=5, label=name)
        axes.set(xlabel=x_text, ylabel=y_text)
        if is_log_x:
            axes.set_xscale("log", base=2)
            ticks = sorted({x for points in lines.values() for x, _ in points})
            axes.set_xticks(ticks, labels=[f"{x:g}" for x in ticks], minor=False)
        if is_log_y:
            axes.set_yscale("log")
        else:
            axes.set_ylim(bottom=0)
        axes.grid(color=GRID, linewidth=0.6)
        axes.set_axisbelow(True)
        axes.legend(frameon=False)
        _write(figure, path, title)


def comparison(document: Mapping[str, Any], folder: Path) -> list[Path]:
    """A file for TCP, UDP and ping each, from the document of `python -m bench --json`; the paths.
    Its rivals and M13 are bars; what the bed carries without a tunnel stands below in words, for
    beside it nothing else could be seen."""
    tunnels = {OURS, *document["rivals"]}
    written = []
    for stem, (title, prefix) in FIGURES.items():
        panels = []
        for question, about in QUESTIONS.items():
            if question.startswith(prefix):
                found = {
                    name: _spread(samples, about.divisor)
                    for name in document["rounds"]
                    if (samples := [done["values"][question] for done in document["rounds"][name]])
                }
                drawn = {name: spread for name, spread in found.items() if name in tunnels}
                rest = [f"{n}: {short(s.median)}" for n, s in found.items() if n not in tunnels]
                note = f"without a tunnel, {', '.join(rest)}" if rest else ""
                panels.append(Panel(about.text, drawn, note))
        written.append(folder / f"{stem}.svg")
        bars(written[-1], title, panels)
    return written


def _spread(samples: Sequence[float], divisor: float) -> Spread:
    ordered = sorted(sample / divisor for sample in samples)
    middle = len(ordered) // 2
    median = (ordered[middle] + ordered[-middle - 1]) / 2
    return Spread(median, ordered[0], ordered[-1])


def _bar_panel(axes: Axes, panel: Panel, names: Sequence[str], ours: str) -> None:
    axes.set_title(panel.text, loc="left", fontsize=9, fontweight="bold")
    widest = max((spread.high for spread in panel.values.values()), default=1.0) or 1.0
    for row, name in enumerate(names):
        spread = panel.values.get(name)
        if spread is None:
            axes.text(widest * 0.02, row, "no result", va="center")
            continue
        axes.barh(row, spread.median, height=0.7, color=COLOURS[0] if name == ours else OTHERS)
        if spread.high > spread.low:
            axes.plot([spread.low, spread.high], [row, row], color=INK, linewidth=1)
            for end in (spread.low, spread.high):
                axes.plot([end, end], [row - 0.15, row + 0.15], color=INK, linewidth=1)
        axes.text(spread.high + widest * 0.02, row, short(spread.median), va="center")
    axes.set_yticks(range(len(names)), labels=names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xlim(0, widest * 1.2)
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.grid(axis="x", color=GRID, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(length=0)
    axes.spines["bottom"].set_visible(False)
    if panel.note:
        axes.set_xlabel(panel.note, loc="left", fontsize=8)


def _write(figure: Figure, path: Path, title: str) -> None:
    """With a title for those who are read to, and the colour of text on a dark page."""
    figure.suptitle(title, x=0.01, ha="left", fontsize=11)
    text = StringIO()
    nothing = {"Creator": None, "Date": None, "Format": None, "Type": None}
    figure.savefig(text, format="svg", transparent=True, metadata=nothing)
    head, opening, rest = text.getvalue().partition("<svg ")
    attributes, _, body = rest.partition(">")
    ink = INK.lower()
    rules = "".join(
        f'[style*="{what}: {ink}"] {{ {what}: {INK_ON_DARK} !important }}'
        for what in ("fill", "stroke")
    )
    style = f"<style>@media (prefers-color-scheme: dark) {{ {rules} }}</style>"
    named = f'{attributes} role="img"><title>{escape(title)}</title>{style}'
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{head}{opening}{named}{body}")


@click.command(help=__doc__)
@click.argument("results", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
def main(results: Path, folder: Path) -> None:
    try:
        written = comparison(json.loads(results.read_text()), folder)
    except (json.JSONDecodeError, KeyError) as error:
        raise click.ClickException(
            f"{results} is not from this version's python -m bench --json ({error})"
        ) from None
    for path in written:
        print(path)


if __name__ == "__main__":
    try:
        main(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
