"""M13 beside other tunnels on this machine, in one run: make bench, or python -m bench."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import click
from pyroute2 import NetlinkError
from rich.console import Console
from rich.status import Status

from bench import aead, machine, measure
from bench.bed import Bed
from bench.contenders import M13, Raw, Tunnel
from bench.report import OURS, Report, Results
from bench.rivals import RIVALS
from bench.tunnel import ProgramError
from m13.errors import M13Error
from native.aead import VECTOR

KINDS: tuple[type[Tunnel], ...] = (M13, *RIVALS, Raw)
TUNNELS = [kind for kind in KINDS if kind.is_possible()]
NAMES = [kind.name for kind in TUNNELS]
FAILURES = (ProgramError, M13Error, NetlinkError, OSError, subprocess.SubprocessError)
Tell = Callable[[str], None]


@click.command(help=__doc__)
@click.option("--rounds", type=click.IntRange(1), default=5, show_default=True)
@click.option("--quick", is_flag=True, help="One short round: does it work, roughly how fast.")
@click.option("--only", type=click.Choice(NAMES), multiple=True, help="This tunnel; repeatable.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Every sample, a file.")
def main(rounds: int, quick: bool, only: tuple[str, ...], json_path: Path | None) -> None:
    if os.geteuid() != 0:
        raise click.ClickException("namespaces and tunnels need root: run it as root")
    kinds = [kind for kind in TUNNELS if not only or kind.name in only]
    measure.build()
    console = Console(stderr=True)
    with tempfile.TemporaryDirectory(prefix="m13-bench-") as directory:
        results, tunnels = _prepare(kinds, Path(directory))
        effort = measure.QUICK if quick else measure.FULL
        with console.status("") as status:
            _run_rounds(results, tunnels, 1 if quick else rounds, effort, _teller(console, status))
            status.update("AEAD backends")
            results.aead = aead.measure()
    _print(results)
    if json_path:
        json_path.write_text(json.dumps(results.document(), indent=1) + "\n")
    sys.exit(1 if results.failures else 0)


def _prepare(kinds: list[type[Tunnel]], directory: Path) -> tuple[Results, list[Tunnel]]:
    """Keys are made once; a tunnel whose program is missing fails here and stays in the table."""
    results = Results(machine.facts(), {}, set(), {kind.name: [] for kind in kinds})
    tunnels = []
    for kind in kinds:
        if kind.is_rival:
            results.rivals.add(kind.name)
        own = directory / kind.name.replace(" ", "-")
        own.mkdir()
        try:
            tunnel = kind(own)
            results.versions[kind.name] = tunnel.version()
            tunnels.append(tunnel)
        except (ProgramError, OSError) as error:
            results.failures.append(f"{kind.name}: {error}")
    return results, tunnels


def _run_rounds(
    results: Results, tunnels: list[Tunnel], rounds: int, effort: measure.Effort, tell: Tell
) -> None:
    """Every tunnel once a round, each on a fresh bed, so that a slow minute of the machine hits
    all of them."""
    hints: dict[str, dict[str, float]] = {tunnel.name: {} for tunnel in tunnels}
    begin, turns = time.monotonic(), rounds * len(tunnels)
    for number in range(1, rounds + 1):
        for index, tunnel in enumerate(tunnels):
            where = f"round {number} of {rounds}, {tunnel.name}"
            left = _left(time.monotonic() - begin, (number - 1) * len(tunnels) + index, turns)

            def step(what: str, where: str = where + left) -> None:
                tell(f"{where}: {what}")

            try:
                with Bed() as bed:
                    step("start")
                    tunnel.start(bed)
                    done = measure.measure(bed, tunnel, effort, hints[tunnel.name], step)
                    tunnel.stop()
                results.rounds[tunnel.name].append(done)
            except FAILURES as error:
                results.failures.append(f"{where}: {error}")


def _left(seconds: float, done: int, turns: int) -> str:
    """How much longer, once there is something to judge it by."""
    return f", {(turns - done) * seconds / done // 60 + 1:.0f} min left" if done else ""


def _teller(console: Console, status: Status) -> Tell:
    """One line that changes on a terminal, a line a tunnel elsewhere."""

    def tell(text: str) -> None:
        if console.is_terminal:
            status.update(text)
        elif text.endswith(": start"):
            console.print(text.removesuffix(": start"), highlight=False)

    return tell


def _print(results: Results) -> None:
    report = Report.on_console()
    report.machine(results)
    report.comparison(results)
    report.aead(results.aead, VECTOR)
    if ours := results.rounds.get(OURS):
        report.stages(ours)
        report.drops(ours)
    report.processors(results)
    others = max((done.others_percent for r in results.rounds.values() for done in r), default=0)
    noise = machine.warning(float(results.machine["load"])), machine.disturbance(others)
    for words in filter(None, noise):
        report.console.print(f"\n{words}", highlight=False)
    for failure in results.failures:
        report.console.print(f"failed: {failure}", highlight=False, markup=False)


if __name__ == "__main__":
    try:
        main(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        print("bench: interrupted, everything is taken down", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)
