"""A session comes up fast and comes back by itself.

node up0 192.0.2.2 ─── 192.0.2.1 wan0 hub ─── internet
"""

import signal
import statistics
import time

import pytest

from bench.bed import INTERNET_ADDRESS, Bed
from bench.traffic import ping
from bench.tunnel import Keys, Program, ProgramError, start_hub, start_node
from tests.netns.conftest import assert_all_frames_accounted
from tests.sanitized import normal_build_only

STARTS = 20
SESSION_MS_MAX = 250
RECOVERY_S = 10
QUICK = ("--keepalive-ms", "100")


def wait_ping(bed: Bed, wait_s: float = RECOVERY_S) -> None:
    until = time.monotonic() + wait_s
    while not ping(bed.node, "10.13.0.1", wait_s=0.1):
        assert time.monotonic() < until, "the tunnel did not come back"


@normal_build_only
def test_median_of_twenty_starts_is_below_the_limit(bed: Bed, keys: Keys, rx: str) -> None:
    hub = start_hub(bed, keys, "--rx", rx)
    times = []
    for _ in range(STARTS):
        node = start_node(bed, keys)
        times.append(node.snapshot()["session_setup_ms"])
        assert node.stop() == 0
    times.sort()
    print(f"session up after {times[0]} .. {statistics.median(times)} .. {times[-1]} ms")
    assert statistics.median(times) < SESSION_MS_MAX
    assert hub.stop() == 0
    assert_all_frames_accounted(hub)


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_hub_restart_is_recovered_by_the_node(
    bed: Bed, keys: Keys, rx: str, ending: signal.Signals
) -> None:
    hub = start_hub(bed, keys, "--rx", rx, *QUICK)
    node = start_node(bed, keys)
    end(hub, ending)
    hub = start_hub(bed, keys, "--rx", rx, *QUICK)
    wait_ping(bed)
    if ending == signal.SIGKILL:
        assert "left by a previous run" in hub.log
    assert (node.stop(), hub.stop()) == (0, 0)
    assert_all_frames_accounted(hub)


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_node_restart_is_recovered_by_the_hub(
    bed: Bed, keys: Keys, rx: str, ending: signal.Signals
) -> None:
    hub = start_hub(bed, keys, "--rx", rx)
    end(start_node(bed, keys), ending)
    node = start_node(bed, keys)
    assert len(ping(bed.node, "10.13.0.1", 3)) == 3
    if ending == signal.SIGKILL:
        assert "left by a previous run" in node.log
    assert (node.stop(), hub.stop()) == (0, 0)
    assert_all_frames_accounted(hub)


@normal_build_only
def test_killed_node_is_a_peer_timeout_within_half_a_second(bed: Bed, keys: Keys, rx: str) -> None:
    hub = start_hub(bed, keys, "--rx", rx, *QUICK)
    node = start_node(bed, keys)
    time.sleep(0.5)  # some keepalives
    node.kill()
    killed = time.monotonic()
    hub.wait_log("E_PEER_TIMEOUT node")
    waited = time.monotonic() - killed
    assert waited < 0.5
    snapshot = hub.snapshot()
    assert snapshot["counters"]["sessions_lost"] == 1
    assert snapshot["peers"] == []
    clean_up(start_node(bed, keys))


def test_killed_hub_is_a_peer_timeout_at_the_node(bed: Bed, keys: Keys, rx: str) -> None:
    hub = start_hub(bed, keys, "--rx", rx, *QUICK)
    node = start_node(bed, keys)
    hub.kill()
    node.wait_log("E_PEER_TIMEOUT hub", 2)
    assert node.wait_state("Registering", 5)["counters"]["sessions_lost"] == 1
    clean_up(start_hub(bed, keys, "--rx", rx, *QUICK))


def test_a_rekey_loses_nothing(bed: Bed, keys: Keys, rx: str) -> None:
    start_hub(bed, keys, "--rx", rx)
    node = start_node(bed, keys, "--rekey-seconds", "5")
    sent = 0
    until = time.monotonic() + 11.5
    while time.monotonic() < until:
        assert len(ping(bed.node, INTERNET_ADDRESS, 50)) == 50
        sent += 50
    assert sent > 1000
    assert node.log.count("session renewed") >= 2
    assert node.snapshot()["peers"][0]["key_phase"] >= 2


def test_a_second_hub_or_node_here_is_refused(bed: Bed, keys: Keys, rx: str) -> None:
    start_hub(bed, keys, "--rx", rx)
    start_node(bed, keys)
    for start in (start_hub, start_node):
        with pytest.raises(ProgramError, match=r"error: .*(already running|cannot be had)"):
            start(bed, keys)
    assert ping(bed.node, "10.13.0.1")


def clean_up(program: Program) -> None:
    """The start after a kill puts everything back."""
    assert program.stop() == 0


def end(program: Program, number: signal.Signals) -> None:
    if number == signal.SIGKILL:
        program.kill()
    else:
        assert program.stop(number) == 0
