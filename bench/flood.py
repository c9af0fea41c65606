"""What a flood of spoofed handshakes costs a tunnel that is up, and a node that comes meanwhile.

The same flood goes to the hub's port and to a closed one in turns: what the machine spends on
receiving it at all is in both. Run as root: python -m bench.flood.
"""

import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from bench.bed import HUB_ADDRESS, INTERNET_ADDRESS, Bed
from bench.measure import BUILT, build
from bench.namespace import DIRECTORY, Namespace
from bench.tunnel import PORT, Keys, ProgramError, start_hub, start_node

RATE, CLOSED_PORT = 50_000, 9
KEPT_MIN, CONNECT_S_MAX = 0.95, 2.0
RUN_S, OMIT_S, LEAD_S = 3, 1, 0.3
ROUNDS, ROUNDS_QUICK = 5, 2
CONNECTS, CONNECTS_QUICK = 5, 2
RATE_REACHED = 0.9
TRIES = 4
KINDS = ("hello", "bare", "registration")


class FloodTooSmallError(ProgramError):
    """The machine was too busy to send as many packets as asked."""


@contextlib.contextmanager
def flood(
    source: Namespace, kind: str = "hello", rate: int = RATE, seconds: float = 60, port: int = PORT
) -> Iterator[subprocess.Popen[str]]:
    """While the block runs, `seconds` at most."""
    argv = [str(BUILT / "flood_load"), str(DIRECTORY / source.name), HUB_ADDRESS, str(port), kind]
    argv += [str(rate), str(int(seconds * 1000))]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def goodput(bed: Bed, kind: str, port: int) -> float:
    """Bits per second of TCP through the tunnel, up, while the flood goes to that port."""
    seconds = LEAD_S + OMIT_S + RUN_S + 1
    with flood(bed.node, kind, RATE, seconds, port) as process:
        time.sleep(LEAD_S)
        argv = ["iperf3", "--json", "--client", INTERNET_ADDRESS]
        argv += ["--time", str(RUN_S), "--omit", str(OMIT_S)]
        with bed.node.inside():
            done = subprocess.run(argv, capture_output=True, text=True, timeout=30)
        sent = json.loads(process.communicate(timeout=seconds)[0])
    if sent["sent"] < RATE_REACHED * RATE * sent["seconds"]:
        raise FloodTooSmallError(
            f"the flood was only {sent['sent'] / sent['seconds']:.0f} a second"
        )
    answer = json.loads(done.stdout)
    if "sum_received" not in answer["end"]:
        raise ProgramError(f"iperf3: {answer.get('error', 'no reason given')}")
    return float(answer["end"]["sum_received"]["bits_per_second"])


def reached(bed: Bed, kind: str, port: int) -> float:
    """A run in which the flood was as large as it should be: another program may have been in its
    way."""
    for left in reversed(range(TRIES)):
        try:
            return goodput(bed, kind, port)
        except FloodTooSmallError:
            if not left:
                raise
    raise AssertionError("unreachable")


def throughput(rx: str, kind: str, rounds: int) -> dict[str, Any]:
    """Medians of interleaved runs: to the hub's port, to a closed port, and their ratio."""
    runs: dict[str, list[float]] = {"open": [], "closed": []}
    with Bed() as bed:
        keys = Keys(bed.directory)
        hub = start_hub(bed, keys, "--rx", rx)
        start_node(bed, keys)
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        bed.internet.spawn(["iperf3", "--server"], **quiet)
        time.sleep(LEAD_S)
        for _ in range(rounds):
            runs["closed"].append(reached(bed, kind, CLOSED_PORT))
            runs["open"].append(reached(bed, kind, PORT))
        hub.stop()
    medians = {name: statistics.median(values) for name, values in runs.items()}
    return {"runs": runs, **medians, "kept": medians["open"] / medians["closed"]}


def connects(rx: str, kind: str, count: int) -> list[float]:
    """Seconds from a node's start to its tunnel, under the flood."""
    times = []
    with Bed() as bed:
        keys = Keys(bed.directory)
        start_hub(bed, keys, "--rx", rx)
        with flood(bed.node, kind):
            for _ in range(count):
                begin = time.monotonic()
                node = start_node(bed, keys)
                times.append(time.monotonic() - begin)
                node.stop()
    return times


@click.command(help=__doc__)
@click.option("--quick", is_flag=True, help="Fewer rounds.")
@click.option(
    "--rx", type=click.Choice(["xdp", "udp"]), multiple=True, help="This data plane only."
)
@click.option("--kind", type=click.Choice(KINDS), default="hello", show_default=True)
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Every sample, a file.")
def main(quick: bool, rx: tuple[str, ...], kind: str, json_path: Path | None) -> None:
    if os.geteuid() != 0:
        raise click.ClickException("namespaces and tunnels need root: run it as root")
    tempfile.tempdir = "/dev/shm"  # journals, as in service: on a disk each change waits for it
    build()
    console, document, is_well = Console(), {}, True
    for plane in rx or ("xdp", "udp"):
        try:
            found = throughput(plane, kind, ROUNDS_QUICK if quick else ROUNDS)
        except ProgramError as error:
            raise click.ClickException(f"{plane}: {error}") from error
        found["connects_s"] = connects(plane, kind, CONNECTS_QUICK if quick else CONNECTS)
        document[plane] = found
        slowest = max(found["connects_s"])
        is_well &= found["kept"] >= KEPT_MIN and slowest <= CONNECT_S_MAX
        console.print(
            f"{plane}: {found['open'] / 1e9:.2f} of {found['closed'] / 1e9:.2f} Gb/s,"
            f" {found['kept']:.1%} kept; a node connects within {slowest:.2f} s",
            highlight=False,
        )
    if json_path:
        json_path.write_text(json.dumps(document, indent=1) + "\n")
    sys.exit(0 if is_well else 1)


if __name__ == "__main__":
    main()
