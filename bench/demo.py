"""`make demo`: three namespaces, hub and node as a user starts them, traffic, a summary."""

import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from bench import traffic
from bench.bed import INTERNET_ADDRESS, Bed
from bench.namespace import Namespace
from bench.tunnel import Keys, Program, ProgramError, start_hub, start_node
from m13.errors import M13Error
from m13.monitor import log_line

TCP_SECONDS = 3
TCP_BYTES = 400_000_000  # without iperf3
DATAGRAMS = 20_000
HTTP_BYTES = 20_000_000
IPERF_PORT = 5201
HUB, NODE = "10.13.0.1", "10.13.0.2"
DRAWING = "node 192.0.2.2 ── 192.0.2.1 hub 198.51.100.1 ── 198.51.100.2 internet"


class DemoError(Exception):
    """A step did not give what it must."""


class Show:
    """Steps done, the one under way, and what hub and node count meanwhile."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._programs: tuple[Program, ...] = ()
        self._lines: list[Text] = [Text(DRAWING, style="cyan")]
        self._spinner: Spinner | None = None
        self._seen: dict[str, dict[str, Any]] = {}
        self._numbers: dict[str, str] = {}

    def watch(self, *programs: Program) -> None:
        self._programs = programs
        self._numbers.clear()

    def __rich__(self) -> Group:
        """Called by the live display a few times a second."""
        return Group(*self._lines, *filter(None, [self._spinner]), *self._monitor())

    @contextlib.contextmanager
    def step(self, what: str) -> Iterator[list[str]]:
        """The body appends what came of it."""
        self._spinner = Spinner("dots", what)
        results: list[str] = []
        try:
            yield results
        except BaseException:
            self._done(Text(f"✗ {what}", style="red"))
            raise
        finally:
            self._spinner = None
        self._done(Text.assemble(("✓ ", "green"), what, (f"  {', '.join(results)}", "bold")))

    def _done(self, line: Text) -> None:
        self._lines.append(line)
        if not self.console.is_terminal:
            self.console.print(line, *self._monitor(), sep="\n", soft_wrap=True)

    def _monitor(self) -> list[Text]:
        for program in self._programs:
            self._look_at(program)
        return [Text(f"  {role:<5}{line}", "dim") for role, line in self._numbers.items()]

    def _look_at(self, program: Program) -> None:
        with contextlib.suppress(M13Error, OSError):
            now = program.snapshot()
            before = self._seen.get(program.role)
            if before is None or now["sampled_ns"] - before["sampled_ns"] >= 1e9:
                self._numbers[program.role] = log_line(before, now)
                self._seen[program.role] = now


def main() -> int:
    console = Console(highlight=False)
    show = Show(console)
    try:
        if os.geteuid() != 0:
            raise DemoError("namespaces need root: run it as root (sudo make demo)")
        with (
            Live(show, console=console, refresh_per_second=8)
            if console.is_terminal
            else (contextlib.nullcontext())
        ):
            summary = run(show)
    except KeyboardInterrupt:
        console.print("m13-demo: interrupted; everything was taken down", style="yellow")
        return 130
    except (DemoError, ProgramError, M13Error, OSError) as error:
        console.print(f"m13-demo: {error}", style="red", markup=False)
        console.print("m13-demo: everything was taken down; 'm13 doctor' checks this machine")
        return 1
    table = Table(title="M13 on this machine", show_header=False, title_justify="left")
    for name, value in summary.items():
        table.add_row(name, value)
    console.print(table)
    return 0


def run(show: Show) -> dict[str, str]:
    begin = time.monotonic()
    with Bed() as bed:
        with show.step("identities of hub and node (m13 keygen)"):
            keys = Keys(bed.directory, ("hub", "node"))
        hub, node, summary = start(show, bed, keys)
        show.watch(hub, node)
        summary |= measure(show, bed)
        with show.step("stop both, and look for anything left") as results:
            show.watch()
            statuses = node.stop(), hub.stop()
            left = bed.changes()
            if any(statuses) or left:
                log = f"{node.log}{hub.log}"
                raise DemoError(f"exit status {statuses}, left behind: {left}\n{log}")
            results.append(hub.wait_log(r"frames: .*")[0])
    summary["whole demo"] = f"{time.monotonic() - begin:.1f} s"
    return summary


def start(show: Show, bed: Bed, keys: Keys) -> tuple[Program, Program, dict[str, str]]:
    with show.step("m13-hub wan0 --tunnel") as results:
        hub = start_hub(bed, keys)
        served = hub.snapshot()
        results.append(served["receive_mode"])
    with show.step("m13-node --hub 192.0.2.1:443 --tunnel") as results:
        node = start_node(bed, keys)
        joined = node.snapshot()
        results.append(f"session up after {joined['session_setup_ms']:.1f} ms")
    summary = {
        "time to session": f"{joined['session_setup_ms']:.1f} ms from the node's first frame",
        "hub receives by": served["receive_mode"],
        "node receives by": joined["receive_mode"],
        "AEAD": f"AES-256-GCM, {served['aead']}",
        "post-quantum": f"ML-KEM-1024 and ML-DSA-87, {served['pqc']}",
        "memory": served["memory"],
    }
    return hub, node, summary


def measure(show: Show, bed: Bed) -> dict[str, str]:
    summary = {}
    with show.step("ping") as results:
        times = traffic.ping(bed.node, HUB, 200)
        if len(times) < 200 or len(traffic.ping(bed.internet, NODE, 10)) < 10:
            raise DemoError(f"only {len(times)} of 200 pings came back")
        summary["round trip"] = f"{statistics.median(times):.2f} ms median"
        results.append(summary["round trip"])
    for name, reverse in (("TCP up", False), ("TCP down", True)):
        with show.step(f"{name}, node and internet") as results:
            summary[name] = f"{tcp_bits_per_second(bed, reverse) / 1e9:.2f} Gbit/s"
            results.append(summary[name])
    with show.step(f"UDP, {DATAGRAMS} datagrams each way") as results:
        check(traffic.udp(bed.node, bed.internet, INTERNET_ADDRESS, DATAGRAMS), "UDP up")
        check(traffic.udp(bed.internet, bed.node, NODE, DATAGRAMS), "UDP down")
        results.append("all arrived, SHA-256 the same")
    with show.step("HTTP download through NAT") as results:
        download = traffic.http_download(bed.node, bed.internet, INTERNET_ADDRESS, HTTP_BYTES)
        check(download, "HTTP")
        summary["HTTP through NAT"] = f"{download.bits_per_second / 1e9:.2f} Gbit/s"
        results.append(f"{summary['HTTP through NAT']}, server saw {download.seen_from}")
    return summary


def check(transfer: traffic.Transfer, what: str) -> None:
    if not transfer.is_intact:
        raise DemoError(f"{what}: what arrived is not what was sent")


def tcp_bits_per_second(bed: Bed, reverse: bool) -> float:
    if not shutil.which("iperf3"):
        ends = (
            (bed.internet, bed.node, NODE)
            if reverse
            else (bed.node, bed.internet, INTERNET_ADDRESS)
        )
        transfer = traffic.tcp(*ends, TCP_BYTES)
        check(transfer, "TCP")
        return transfer.bits_per_second
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    server = bed.internet.spawn(["iperf3", "-s", "-1", "-p", str(IPERF_PORT)], **quiet)
    try:
        wait_listening(bed.internet, IPERF_PORT)
        argv = [
            "iperf3",
            "-c",
            INTERNET_ADDRESS,
            "-p",
            str(IPERF_PORT),
            "-J",
            "-t",
            str(TCP_SECONDS),
        ]
        client = bed.node.spawn(argv + ["-R"] * reverse, stdout=subprocess.PIPE)
        answer = json.loads(client.communicate(timeout=TCP_SECONDS + 10)[0])
        if "error" in answer:
            raise DemoError(f"iperf3: {answer['error']}")
        return float(answer["end"]["sum_received"]["bits_per_second"])
    except subprocess.TimeoutExpired:
        raise DemoError("iperf3 did not end: does TCP pass the tunnel?") from None
    finally:
        server.kill()
        server.wait()


def wait_listening(namespace: Namespace, port: int) -> None:
    """Without connecting, which would count as iperf3's one client."""
    until = time.monotonic() + 5
    while True:
        with namespace.inside():
            tables = [Path("/proc/thread-self/net", name).read_text() for name in ("tcp", "tcp6")]
        if f":{port:04X} " in "".join(tables):
            return
        if time.monotonic() > until:
            raise DemoError("the iperf3 server does not listen")
        time.sleep(0.02)


if __name__ == "__main__":
    sys.exit(main())
