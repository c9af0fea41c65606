"""The run of `m13 bench`: order, time budget, report."""

import json
import socket
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from m13 import endpoint
from m13.bench import kernel, machine, processor, scratch, tunnel, xdp
from m13.bench.figure import Figure, Omission, Result
from m13.bench.machine import Machine, Usage
from m13.bench.tunnel import Findings
from m13.bench.verdict import Limit, Remark, judge, remarks
from m13.errors import M13Error, UsageError

NAMESPACE_UNITS = kernel.UNITS + xdp.UNITS
SCRATCH_PATIENCE_S = 30  # beyond what measuring takes: modules are loaded, links made
NOTABLE_CORES = 0.15


@dataclass
class Report:
    """Everything found, in the order it was measured."""

    machine: Machine
    figures: list[Figure] = field(default_factory=list)
    omissions: list[Omission] = field(default_factory=list)
    findings: Findings | None = None
    seconds: float = 0.0
    others_cores: float = 0.0
    stolen_cores: float = 0.0

    def take(self, result: Result) -> None:
        if isinstance(result, Figure):
            self.figures.append(result)
        else:
            self.omissions.append(result)

    @property
    def limits(self) -> list[Limit]:
        return judge({figure.key: figure for figure in self.figures}, self.machine)

    @property
    def remarks(self) -> list[Remark]:
        return remarks(self.limits, self.findings)

    @property
    def warnings(self) -> list[str]:
        found = []
        if self.others_cores > NOTABLE_CORES:
            used = f"{self.others_cores:.1f} of {self.machine.cores} cores"
            found.append(f"other programs kept {used} busy: on an idle machine figures are better")
        if self.stolen_cores > NOTABLE_CORES:
            found.append(f"the hypervisor took {self.stolen_cores:.1f} cores away meanwhile")
        return found

    def as_json(self) -> dict[str, object]:
        return {
            "machine": self.machine.as_json(),
            "seconds": round(self.seconds, 3),
            "others_cores": round(self.others_cores, 3),
            "stolen_cores": round(self.stolen_cores, 3),
            "figures": [figure.as_json() for figure in self.figures],
            "left_out": [omission._asdict() for omission in self.omissions],
            "limits": [limit.as_json() for limit in self.limits],
            "tunnel": self.findings.as_json() if self.findings else None,
            "verdict": [remark._asdict() for remark in self.remarks],
        }


def run_bench(hub: tuple[str, int] | None, seconds: float, as_json: bool) -> int:
    """Measure for about so many seconds and print; the exit status. UsageError when the hub's name
    cannot be resolved."""
    wanted = _endpoints(*hub) if hub else None
    report = Report(machine.look())
    with _progress(seconds) as tell:
        measure(report, wanted, seconds, tell)
    if as_json:
        print(json.dumps(report.as_json(), indent=2))
        return 0
    # here, because measuring needs none of it
    from m13.bench import view

    if sys.stdout.isatty():
        console = Console()
        console.print(view.draw(report, console.width))
    else:
        print("\n".join(view.lines(report)))
    return 0


def _endpoints(host: str, port: int) -> list[str]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)
    except OSError as error:
        raise UsageError(f"cannot find hub '{host}': {error.strerror}") from error
    return [endpoint.with_port(str(address[0]), int(address[1])) for *_, address in found]


def measure(report: Report, wanted: list[str] | None, seconds: float, tell: "Tell") -> None:
    """Fills in the report; `wanted` is where the hub may be, None for any."""
    unit_s = seconds / (processor.UNITS + NAMESPACE_UNITS + tunnel.UNITS)
    begun, usage = time.monotonic(), Usage.now()
    if not report.machine.is_io_uring_usable:
        report.take(Omission("io_uring", report.machine.io_uring, "m13 doctor tells what to do"))
    _take_all(report, processor.figures(unit_s), tell)
    _take_all(report, _in_namespace(unit_s), tell)
    elapsed, after = time.monotonic() - begun, Usage.now()
    # what the tunnel costs is not somebody else's
    report.others_cores = after.by_others(usage, elapsed)
    report.stolen_cores = after.stolen(usage, elapsed)
    _through_tunnel(report, wanted, unit_s, tell)
    report.seconds = time.monotonic() - begun


def _take_all(report: Report, results: Iterable[Result], tell: "Tell") -> None:
    for result in results:
        report.take(result)
        tell(f"{result.group}: {result.label}" if isinstance(result, Figure) else result.what)


def _in_namespace(unit_s: float) -> Iterator[Result]:
    def work() -> Iterator[Result]:
        yield from kernel.figures(unit_s)
        yield from xdp.figures(unit_s)

    try:
        yield from scratch.figures(work, unit_s * NAMESPACE_UNITS + SCRATCH_PATIENCE_S)
    except M13Error as error:
        yield Omission("TUN, UDP and AF_XDP", str(error), "sudo m13 bench")


def _through_tunnel(report: Report, wanted: list[str] | None, unit_s: float, tell: "Tell") -> None:
    try:
        through = tunnel.find(wanted)
        if isinstance(through, Omission):
            report.take(through)
            return
        tell(f"tunnel: {through.target}")
        for found in tunnel.measure(through, unit_s):
            if isinstance(found, Omission):
                report.take(found)
            else:
                report.findings = found
            tell(f"tunnel: {through.target}")
    except (M13Error, OSError) as error:
        report.take(Omission("tunnel", str(error), "sudo m13 bench, while the tunnel is up"))
    if report.findings:
        report.figures += report.findings.figures()


class Tell:
    """Shows on a terminal how far we are; says nothing elsewhere."""

    def __init__(self, progress: Progress | None, seconds: float) -> None:
        self._progress, self._begun = progress, time.monotonic()
        if progress:
            self._task = progress.add_task("measuring", total=seconds)

    def __call__(self, text: str) -> None:
        if self._progress:
            elapsed = time.monotonic() - self._begun
            self._progress.update(self._task, completed=elapsed, description=text)
            self._progress.refresh()


@contextmanager
def _progress(seconds: float) -> Iterator[Tell]:
    console = Console(stderr=True)
    if not console.is_terminal:
        yield Tell(None, seconds)
        return
    columns = BarColumn(bar_width=24), TextColumn("{task.description}")
    # no thread of its own: we fork
    with Progress(*columns, console=console, auto_refresh=False, transient=True) as progress:
        yield Tell(progress, seconds)
