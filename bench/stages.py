"""What M13's own code costs: python -m bench.stages, as root.

Seal and open against the library's own call, every stage of the datapath in cycles, the datapath
against the same one with encryption switched off (a bench-only build in build/clear), and that
against the kernel's bare interfaces (bench/raw_loop.c). Exit status: 0 the goals are met, 1 one is
missed, 2 something could not be measured.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import click
from pyroute2 import NetlinkError

from bench import machine, measure, stages_build, stages_measure
from bench.bed import Bed
from bench.contenders import Tunnel
from bench.stages_report import Findings, StagesReport
from bench.stages_tunnels import TRIOS, Clear, make
from bench.tunnel import ProgramError
from m13.errors import M13Error

MET, MISSED, FAILED = 0, 1, 2
FAILURES = (ProgramError, M13Error, NetlinkError, OSError, subprocess.SubprocessError)
KINDS = {kind.name: kind for trio in TRIOS.values() for kind in trio}
AEAD = "aead"
ROUNDS = 5


@click.command(help=__doc__)
@click.option("--rounds", type=click.IntRange(1), help="[default: 5, or 1 with --quick]")
@click.option("--quick", is_flag=True, help="Short rounds: does it work, roughly how fast.")
@click.option(
    "--only",
    type=click.Choice([AEAD, *KINDS]),
    multiple=True,
    help="This part or tunnel; repeatable, measured in the order given.",
)
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Every sample, a file.")
def main(rounds: int | None, quick: bool, only: tuple[str, ...], json_path: Path | None) -> None:
    if os.geteuid() != 0:
        raise click.ClickException("namespaces and tunnels need root: run it as root")
    found = Findings(machine.facts())
    kinds = [KINDS[name] for name in only or KINDS if name != AEAD]
    try:
        measure.build()
        repeats = stages_measure.AEAD_ROUNDS_QUICK if quick else stages_measure.AEAD_ROUNDS
        aead, found.cycles_per_ns = stages_measure.aead(repeats)
        found.aead = aead if not only or AEAD in only else {}
        if any(issubclass(kind, Clear) for kind in kinds):
            click.echo("building in the clear", err=True)
            stages_build.clear_tree()
        effort = measure.QUICK if quick else measure.FULL
        run_rounds(found, kinds, rounds or (1 if quick else ROUNDS), effort)
    except FAILURES as error:
        found.failures.append(str(error))
    sys.exit(conclude(found, json_path))


def run_rounds(
    found: Findings, kinds: list[type[Tunnel]], rounds: int, effort: measure.Effort
) -> None:
    """Every tunnel once a round, each on a fresh bed; every other round the other way round."""
    with tempfile.TemporaryDirectory(prefix="m13-stages-") as directory:
        tunnels = make(Path(directory), kinds)
        hints: dict[str, dict[str, float]] = {tunnel.name: {} for tunnel in tunnels}
        for number in range(1, rounds + 1):
            for tunnel in tunnels if number % 2 else reversed(tunnels):
                where = f"round {number} of {rounds}, {tunnel.name}"
                click.echo(where, err=True)
                try:
                    run_one(found, tunnel, effort, hints[tunnel.name])
                except FAILURES as error:
                    found.failures.append(f"{where}: {error}")


def run_one(
    found: Findings, tunnel: Tunnel, effort: measure.Effort, hints: dict[str, float]
) -> None:
    with Bed() as bed:
        try:
            tunnel.start(bed)
            values, costs = stages_measure.one_round(bed, tunnel, effort, hints)
        finally:
            tunnel.stop()
    found.add(tunnel.name, values, costs)


def conclude(found: Findings, json_path: Path | None) -> int:
    report = StagesReport.on_console()
    if found.aead:
        report.library(found)
    if found.costs:
        report.stages(found)
    report.datapath(found)
    shortfalls = found.shortfalls()
    for line in shortfalls:
        click.echo(f"missed: {line}")
    if noise := machine.warning(float(found.machine["load"])):
        click.echo(noise)
    for failure in found.failures:
        click.echo(f"failed: {failure}", err=True)
    if json_path:
        json_path.write_text(json.dumps(found.document(), indent=1) + "\n")
    return FAILED if found.failures else MISSED if shortfalls else MET


if __name__ == "__main__":
    try:
        main(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        print("bench.stages: interrupted, everything is taken down", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)
