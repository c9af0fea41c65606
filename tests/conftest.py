"""What every test gets: the options for real network cards, and a check for left descriptors."""

import gc
import os
import time
from pathlib import Path, PurePath

import pytest
from xdist.scheduler import LoadScopeScheduling

from bench.bed import huge_pages
from bench.namespace import PATIENCE_S

HERE = Path(__file__).parent
MACHINE = {"netns", "host", "test_sharing.py", "test_doctor.py"}
MACHINE |= {"core/test_xdp.py", "core/test_umem.py", "bench/test_measure.py"}
ON_SOCKETS = "rx=udp"
HUGE_PAGES = pytest.StashKey[int]()


def pytest_addoption(parser):
    group = parser.getgroup("m13", "end-to-end tests on real network cards instead of veth pairs")
    group.addoption("--hub-iface", metavar="NAME", help="port of this machine for the hub")
    group.addoption("--node-iface", metavar="NAME", help="port of this machine for the node")
    group.addoption("--role", choices=["hub", "node"], help="which end this machine is")
    group.addoption("--soak-minutes", type=float, help="how long the endurance test runs")
    group.addoption("--peer-host", metavar="HOST", help="the machine that is the other end")


class ByMachineAndFile(LoadScopeScheduling):
    """Shares tests out among processes. Those that change what a machine has but once, such as its
    pool of huge pages, run one after the other; so do, beside them, those whose hub is on sockets,
    which has no part in that; all else by file. Of xdist's own ways none groups so: `loadgroup`
    goes by names that it adds to the tests' ids, and from pytest 9.2 on it no longer can."""

    def _split_scope(self, nodeid: str) -> str:
        path = PurePath(nodeid.partition("::")[0]).relative_to(HERE.name)
        if not MACHINE & {path.parts[0], str(path)}:
            return str(path)
        return "on sockets" if ON_SOCKETS in nodeid else "machine"


def pytest_xdist_make_scheduler(config, log):
    return ByMachineAndFile(config, log)


def pytest_sessionstart(session):
    session.config.stash[HUGE_PAGES] = huge_pages()


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session):
    """Here and not in a fixture: of tests that run side by side only the last end may be judged."""
    if hasattr(session.config, "workerinput"):
        return
    before, until = session.config.stash[HUGE_PAGES], time.monotonic() + PATIENCE_S
    # the kernel frees the pages of who just ended in its own time
    while (after := huge_pages()) != before and time.monotonic() < until:
        time.sleep(0.05)
    if after != before:
        terminal = session.config.get_terminal_writer()
        terminal.line(f"\nhuge pages: {before} -> {after}", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def descriptors() -> dict[str, str]:
    found = {}
    for number in os.listdir("/proc/self/fd"):
        try:
            found[number] = os.readlink(f"/proc/self/fd/{number}")
        except FileNotFoundError:  # the listing's own descriptor
            continue
    return found


@pytest.fixture(autouse=True)
def no_descriptor_is_left():
    before = descriptors()
    yield
    if descriptors() != before:
        gc.collect()  # what only a cycle still holds is not leaked
    left = {number: what for number, what in descriptors().items() if before.get(number) != what}
    assert not left, f"descriptors left open: {left}"
