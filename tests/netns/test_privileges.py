"""What the processes of a running tunnel may still do.

    node up0 192.0.2.2 ─── 192.0.2.1 wan0 hub ─── internet

Read from /proc of the real processes, thread by thread.
"""

import os
from pathlib import Path

import pytest

from bench.tunnel import Program
from tests.netns.conftest import Tunnel

# linux/capability.h
KILL, SETGID, SETUID, SETPCAP, NET_ADMIN = (1 << number for number in (5, 6, 7, 8, 12))
PERMITTED = KILL | SETGID | SETUID | SETPCAP | NET_ADMIN
NOTHING = {"CapInh": 0, "CapPrm": 0, "CapEff": 0, "CapBnd": 0, "CapAmb": 0}
CONTROL = {
    "CapInh": 0,
    "CapPrm": PERMITTED,
    "CapEff": NET_ADMIN | KILL,
    "CapBnd": PERMITTED,
    "CapAmb": 0,
}


def status(path: Path) -> dict[str, str]:
    lines = (path / "status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def capabilities(path: Path) -> dict[str, int]:
    return {name: int(text, 16) for name, text in status(path).items() if name.startswith("Cap")}


def threads(pid: int) -> dict[int, Path]:
    return {int(path.name): path for path in Path(f"/proc/{pid}/task").iterdir()}


def worker_of(program: Program) -> int:
    """The handshake worker, the only child."""
    (child,) = (
        Path(f"/proc/{program.process.pid}/task/{program.process.pid}/children").read_text().split()
    )
    return int(child)


def limit(pid: int, name: str) -> list[str]:
    lines = Path(f"/proc/{pid}/limits").read_text().splitlines()
    return next(line for line in lines if line.startswith(name))[len(name) :].split()[:2]


@pytest.fixture(params=["hub", "node"])
def program(tunnel: Tunnel, request: pytest.FixtureRequest) -> Program:
    return getattr(tunnel, request.param)


def test_only_the_control_thread_has_capabilities_and_few(program: Program) -> None:
    pid = program.process.pid
    for thread, path in threads(pid).items():
        expected = CONTROL if thread == pid else NOTHING
        assert capabilities(path) == expected, status(path)["Name"]
    names = {status(path)["Name"] for path in threads(pid).values()}
    assert names & {"m13-worker", "m13-reactor"}


def test_every_thread_is_filtered_and_gains_nothing_by_exec(program: Program) -> None:
    for path in threads(program.process.pid).values():
        told = status(path)
        assert (told["NoNewPrivs"], told["Seccomp"]) == ("1", "2"), told["Name"]


def test_the_worker_has_nothing_at_all(program: Program) -> None:
    worker = worker_of(program)
    assert len(threads(worker)) == 1
    told = status(Path(f"/proc/{worker}"))
    assert told["Uid"].split() == told["Gid"].split() == ["65534"] * 4
    assert told["Groups"] == ""
    assert (told["NoNewPrivs"], told["Seccomp"]) == ("1", "2")
    assert capabilities(Path(f"/proc/{worker}")) == NOTHING


def test_no_process_can_be_dumped_or_swapped(program: Program) -> None:
    for pid in (program.process.pid, worker_of(program)):
        assert limit(pid, "Max core file size") == ["0", "0"]
        locked = int(status(Path(f"/proc/{pid}"))["VmLck"].split()[0]) > 0
        assert locked or "memory is not locked" in program.log
    # of a process that may be dumped these belong to its user
    assert os.stat(f"/proc/{worker_of(program)}/mem").st_uid == 0
