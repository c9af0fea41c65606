"""A tunnel with --low-latency, and what the kernel is asked while packets flow.

node ── hub ── internet          the wish is the machine's: it has no namespace
"""

import os
import time

import pytest

from bench import traffic
from bench.bed import INTERNET_ADDRESS, Bed
from bench.tunnel import Keys, Program, start_hub, start_node
from m13.host.wakefulness import POLICIES, SMALL_MACHINE_CORES
from tests.host.test_wakefulness import asks

PATIENCE_S = 5


@pytest.mark.parametrize("on_hub", list(POLICIES))
def test_cores_are_kept_awake_by_traffic_where_that_is_wished(
    bed: Bed, keys: Keys, on_hub: str
) -> None:
    on_node = {"off": "on", "on": "off", "auto": "auto"}[on_hub]
    hub = start_hub(bed, keys, "--low-latency", on_hub)
    node = start_node(bed, keys, "--low-latency", on_node)
    asks_by_itself = (os.cpu_count() or 1) <= SMALL_MACHINE_CORES
    asked_for = {"on": True, "off": False, "auto": asks_by_itself}
    asked = {"hub": asked_for[on_hub], "node": asked_for[on_node]}
    assert asking(hub, node) == dict.fromkeys(asked, False)
    until = time.monotonic() + PATIENCE_S
    while asking(hub, node) != asked and time.monotonic() < until:
        assert traffic.ping(bed.node, INTERNET_ADDRESS, count=20)
    assert asking(hub, node) == asked
    assert (node.stop(), hub.stop()) == (0, 0)


def asking(*programs: Program) -> dict[str, bool]:
    return {program.role: asks(program.process.pid) for program in programs}
