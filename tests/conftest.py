"""What every test gets: the options for real network cards, and a check for left descriptors."""

import gc
import os

import pytest


def pytest_addoption(parser):
    group = parser.getgroup("m13", "end-to-end tests on real network cards instead of veth pairs")
    group.addoption("--hub-iface", metavar="NAME", help="port of this machine for the hub")
    group.addoption("--node-iface", metavar="NAME", help="port of this machine for the node")
    group.addoption("--role", choices=["hub", "node"], help="which end this machine is")
    group.addoption("--soak-minutes", type=float, help="how long the endurance test runs")
    group.addoption("--peer-host", metavar="HOST", help="the machine that is the other end")


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
