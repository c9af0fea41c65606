"""What a tunnel takes while nothing passes, and how long a node takes to the first packet."""

import contextlib
import os
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench.bed import INTERNET_ADDRESS, Bed
from bench.tunnel import Keys, Program, start_hub, start_node

ECHO_REQUEST, ECHO_REPLY = 8, 0
ECHO = struct.Struct("!BBHHH")
PING_EVERY_S = 0.0005
PATIENCE_S = 15
SETTLE_S = 3  # a node loads what its log lines need after its first packets
IPV4_HEADER_BYTES = 20
MEBIBYTE_KIB = 1024
MILESTONES = ("main()", "first frame", "session", "first ping echoed")
WHEN_MAIN = "import time, node.cli; print(time.monotonic_ns())"


@dataclass
class Memory:
    """MiB of one process."""

    resident: float
    proportional: float
    huge: float  # huge pages, which the others do not count


def memory(pid: int) -> Memory:
    sizes: dict[str, int] = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        name, _, rest = line.partition(":")
        sizes[name] = int(rest.split()[0])
    huge = sizes["Private_Hugetlb"] + sizes["Shared_Hugetlb"]
    return Memory(*(size / MEBIBYTE_KIB for size in (sizes["Rss"], sizes["Pss"], huge)))


def family(program: Program) -> dict[str, int]:
    """The program's processes by role; its only child is the handshake worker."""
    pid = program.process.pid
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    found = {"control": pid}
    for child in children:
        found["handshake worker"] = int(child)
    return found


def idle_percent(programs: dict[str, Program], seconds: float) -> dict[str, float]:
    """Percent of a core that each and its children use while nothing is asked of them."""
    before = {name: _processor_ns(program) for name, program in programs.items()}
    begin = time.monotonic_ns()
    time.sleep(seconds)
    passed = time.monotonic_ns() - begin
    return {
        name: 100 * (_processor_ns(program) - before[name]) / passed
        for name, program in programs.items()
    }


def _processor_ns(program: Program) -> int:
    spent = 0
    for pid in family(program).values():
        for task in Path(f"/proc/{pid}/task").iterdir():
            spent += int((task / "schedstat").read_text().split()[0])
    return spent


def idle_pair(directory: Path, seconds: float) -> dict[str, float]:
    """A hub and one node as a user starts them, keepalives and all."""
    keys = Keys(directory, ("hub", "node"))
    with Bed() as bed:
        hub = start_hub(bed, keys)
        node = start_node(bed, keys)
        time.sleep(SETTLE_S)
        found = idle_percent({"hub": hub, "node": node}, seconds)
        for program in (node, hub):
            program.stop()
    return found


def start_times(directory: Path, count: int, tell: Callable[[str], None]) -> dict[str, list[float]]:
    """Milliseconds from the exec of m13-node to each milestone, for each of COUNT starts."""
    keys = Keys(directory, ("hub", "node"))
    times: dict[str, list[float]] = {name: [] for name in MILESTONES}
    with Bed() as bed:
        hub = start_hub(bed, keys)
        for number in range(1, count + 1):
            tell(f"start {number} of {count}")
            times["main()"].append(_main_ms())
            began = time.monotonic_ns()
            node = start_node(bed, keys, wait=False)
            echoed = _first_echo(bed)
            snapshot = node.snapshot()
            up_ns = snapshot["sampled_ns"] - int(snapshot["up_seconds"] * 1e9)
            frame_ns = up_ns - int(snapshot["session_setup_ms"] * 1e6)
            for name, when in zip(MILESTONES[1:], (frame_ns, up_ns, echoed), strict=True):
                times[name].append((when - began) / 1e6)
            node.stop()
        hub.stop()
    return times


def _main_ms() -> float:
    """Until the interpreter has imported the command line and would call main()."""
    began = time.monotonic_ns()
    done = subprocess.run([sys.executable, "-c", WHEN_MAIN], capture_output=True, check=True)
    return (int(done.stdout) - began) / 1e6


def _first_echo(bed: Bed) -> int:
    """When the first echo came back, by the node's own routes. None can come beside the tunnel:
    the internet's side knows no way to the node but through it."""
    request = _echo_request()
    with bed.node.inside():
        probe = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
    until = time.monotonic() + PATIENCE_S
    with probe:
        probe.settimeout(PING_EVERY_S)
        while time.monotonic() < until:
            with contextlib.suppress(OSError):
                probe.sendto(request, (INTERNET_ADDRESS, 0))
                if probe.recv(256)[IPV4_HEADER_BYTES] == ECHO_REPLY:
                    return time.monotonic_ns()
                continue
            time.sleep(PING_EVERY_S)
    raise TimeoutError("no echo through the tunnel")


def _echo_request() -> bytes:
    identity = os.getpid() & 0xFFFF
    plain = ECHO.pack(ECHO_REQUEST, 0, 0, identity, 1)
    total = sum(struct.unpack("!4H", plain))
    return ECHO.pack(ECHO_REQUEST, 0, ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF, identity, 1)
