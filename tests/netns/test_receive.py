"""`m13-hub` without `--rx` finds out by itself how to serve, quickly and without a trace.

node up0 192.0.2.2 ─── 192.0.2.1 wan0 hub
"""

import os
import re
import signal
import time
from pathlib import Path

import pytest

from bench.bed import Bed
from bench.traffic import ping
from bench.tunnel import Keys, start_hub, start_node
from tests.netns.conftest import assert_all_frames_accounted

LINE = r"receive: UDP socket, \d+ ns a frame against \d+ by native XDP \(copy\)"


def test_a_veth_is_measured_and_served_by_a_socket(bed: Bed, keys: Keys) -> None:
    hub, node = start_hub(bed, keys), start_node(bed, keys)
    assert re.search(LINE, hub.log), hub.log
    assert hub.snapshot()["receive_mode"] == "UDP socket"
    assert ping(bed.node, "10.13.0.1")
    assert (node.stop(), hub.stop()) == (0, 0)
    assert_all_frames_accounted(hub)
    assert bed.changes() == []


def test_an_option_of_xdp_means_xdp(bed: Bed, keys: Keys) -> None:
    hub = start_hub(bed, keys, "--single-queue", "0")
    assert hub.snapshot()["receive_mode"] == "native XDP, copy"
    assert "receive:" not in hub.log
    assert hub.stop() == 0


def test_measuring_takes_a_quarter_of_a_second_at_most(bed: Bed, keys: Keys) -> None:
    def seconds(choice: str) -> float:
        begin = time.monotonic()
        hub = start_hub(bed, keys, "--rx", choice)
        ready = time.monotonic() - begin
        assert hub.stop() == 0
        return ready

    told, measured = zip(*[(seconds("udp"), seconds("auto")) for _ in range(5)], strict=True)
    print(f"told {min(told):.3f} s, measured {min(measured):.3f} s")
    assert min(measured) - min(told) < 0.25  # 0.13 s on a quiet machine


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_who_is_interrupted_while_measuring_leaves_nothing(
    bed: Bed, keys: Keys, number: signal.Signals
) -> None:
    hub = start_hub(bed, keys, wait=False)
    tasks = Path(f"/proc/{hub.process.pid}/task")
    until = time.monotonic() + 10
    while all(namespace_of(task) in (None, bed.hub.inode) for task in tasks.iterdir()):
        assert time.monotonic() < until, "no thread of its own measured"
    hub.process.send_signal(number)
    hub.process.wait(10)
    assert "ready" not in hub.log
    if number == signal.SIGKILL:
        assert start_hub(bed, keys, "--rx", "udp").stop() == 0
    assert bed.changes() == []


def namespace_of(task: Path) -> int | None:
    try:
        return os.stat(task / "ns/net").st_ino
    except OSError:
        return None
