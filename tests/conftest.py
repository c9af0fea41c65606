"""What every test gets: the options for real network cards, and a check for left descriptors."""

import gc
import os
from pathlib import Path, PurePath

import pytest
from xdist.scheduler import LoadScopeScheduling

HERE = Path(__file__).parent
MACHINE = {"netns", "host", "core/test_xdp.py", "bench/test_measure.py"}


def pytest_addoption(parser):
    group = parser.getgroup("m13", "end-to-end tests on real network cards instead of veth pairs")
    group.addoption("--hub-iface", metavar="NAME", help="port of this machine for the hub")
    group.addoption("--node-iface", metavar="NAME", help="port of this machine for the node")
    group.addoption("--role", choices=["hub", "node"], help="which end this machine is")
    group.addoption("--soak-minutes", type=float, help="how long the endurance test runs")
    group.addoption("--peer-host", metavar="HOST", help="the machine that is the other end")


class ByMachineAndFile(LoadScopeScheduling):
    """Shares tests out among processes: those that change or compare what a machine has but once,
    such as its pool of huge pages, one after the other; all else by file. Of xdist's own ways none
    groups by what a file is about: `loadgroup` goes by names the tests' ids carry, and from
    pytest 9.2 on they no longer can."""

    def _split_scope(self, nodeid: str) -> str:
        path = PurePath(nodeid.partition("::")[0]).relative_to(HERE.name)
        return "machine" if MACHINE & {path.parts[0], str(path)} else str(path)


def pytest_xdist_make_scheduler(config, log):
    return ByMachineAndFile(config, log)


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
