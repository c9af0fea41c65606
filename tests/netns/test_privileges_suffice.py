"""With the few capabilities that are left a tunnel mends, restarts and takes down all it must.

    node up0 192.0.2.2 ─── 192.0.2.1 wan0 hub ─── internet

The bed compares the machine before and after.
"""

import os
import signal
import time
from pathlib import Path

from bench.bed import Bed
from bench.traffic import ping
from bench.tunnel import Keys, Program, start_hub, start_node
from m13.host import firewall
from tests.netns.conftest import assert_all_frames_accounted
from tests.netns.test_privileges import NOTHING, capabilities, status

WAIT_S = 10
OWN_FILTER, WITH_PARENTS = 1, 2


def start_both(bed: Bed, keys: Keys, rx: str) -> tuple[Program, Program]:
    quick = ("--keepalive-ms", "100")
    hub = start_hub(bed, keys, "--rx", rx, *quick)
    return hub, start_node(bed, keys)


def wait_ping(bed: Bed) -> None:
    until = time.monotonic() + WAIT_S
    while not ping(bed.node, "10.13.0.1", wait_s=0.1):
        assert time.monotonic() < until, "the tunnel did not come back"


def confined_worker(program: Program, filters: int, unlike: int = 0) -> int:
    """Waits for a worker of another number that has given everything up."""
    children = Path(f"/proc/{program.process.pid}/task/{program.process.pid}/children")
    until = time.monotonic() + WAIT_S
    while time.monotonic() < until:
        for child in children.read_text().split():
            if int(child) != unlike and is_confined(Path(f"/proc/{child}"), filters):
                return int(child)
        time.sleep(0.02)
    raise AssertionError(program.log)


def is_confined(path: Path, filters: int) -> bool:
    told = status(path)
    user = told["Uid"].split() == told["Gid"].split() == ["65534"] * 4
    return user and capabilities(path) == NOTHING and int(told["Seccomp_filters"]) == filters


def test_a_worker_started_later_is_confined_as_well_and_serves(
    bed: Bed, keys: Keys, rx: str
) -> None:
    hub, node = start_both(bed, keys, rx)
    for program in (hub, node):
        before = confined_worker(program, OWN_FILTER)
        os.kill(before, signal.SIGKILL)
        program.wait_log("handshake worker was killed by SIGKILL: restarting")
        confined_worker(program, WITH_PARENTS, unlike=before)
    node.stop()
    node = start_node(bed, keys)
    assert ping(bed.node, "10.13.0.1")
    assert (node.stop(), hub.stop()) == (0, 0)


def test_trouble_with_interfaces_is_mended_and_undone_with_what_is_left(
    bed: Bed, keys: Keys, rx: str
) -> None:
    """The routes, the firewall tables and the way to the hub are put back while it serves, by the
    same few capabilities; the bed then finds the machine as it was."""
    hub, node = start_both(bed, keys, rx)
    for namespace in (bed.hub, bed.node):
        namespace.set_up("m13tun0", False)
        namespace.set_up("m13tun0")
        with namespace.inside():
            firewall.run("flush ruleset\n")
    hub.wait_log("masquerading was gone from the firewall and is back")
    node.wait_log("the IPv6 guard was gone from the firewall and is back")
    wait_ping(bed)
    assert (node.stop(), hub.stop()) == (0, 0)
    assert_all_frames_accounted(hub)


def test_what_a_killed_run_left_is_undone_by_the_next(bed: Bed, keys: Keys, rx: str) -> None:
    hub, node = start_both(bed, keys, rx)
    hub.kill()
    node.kill()
    hub, node = start_both(bed, keys, rx)
    assert "left by a previous run" in hub.log
    assert "left by a previous run" in node.log
    assert (node.stop(), hub.stop()) == (0, 0)
