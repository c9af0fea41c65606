"""The search for the highest rate, and the load generators against a firewall that loses an exact
share:

    node ─── hub, drops every tenth ─── internet
"""

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from pyroute2 import Ethtool

from bench import measure
from bench.bed import Bed
from bench.contenders import Raw
from bench.measure import (
    RATE_FIRST,
    RATE_MOST,
    RESOLUTION,
    STEP_AGAIN,
    STEP_FIRST,
    Trial,
    highest_rate,
)
from bench.namespace import DIRECTORY
from m13.host import firewall

PACKETS = 20_000
EVERY_TENTH = """table ip lossy {
    chain tenth {
        type filter hook forward priority 0;
        icmp type echo-reply accept
        numgen inc mod 10 == 0 drop
    }
}"""


def carrier(limit: float, sender_limit: float = 1e12) -> tuple[list[float], object]:
    """A tunnel that carries up to `limit` and nothing whole beyond; what it was asked."""
    asked: list[float] = []

    def attempt(rate: float) -> Trial:
        asked.append(rate)
        sent = min(rate, sender_limit)
        return Trial(min(sent, limit), sent <= limit)

    return asked, attempt


@pytest.mark.parametrize("limit", [3_000, 49_999, 50_000, 123_456, 2_000_000, 40_000_000])
@pytest.mark.parametrize(
    ("before", "step", "trials_max"),
    [(None, STEP_FIRST, 18), (0.7, STEP_AGAIN, 10), (1.0, STEP_AGAIN, 6), (1.3, STEP_AGAIN, 10)],
)
def test_the_limit_is_found_within_the_resolution(
    limit: float, before: float | None, step: float, trials_max: int
) -> None:
    """Also when the round before found something else, and cheaper the nearer it was."""
    asked, attempt = carrier(limit)
    best = highest_rate(attempt, limit * before if before else RATE_FIRST, step)
    assert limit / RESOLUTION <= best.rate <= limit
    assert len(asked) <= trials_max


def test_a_sender_that_is_the_limit_ends_the_search() -> None:
    asked, attempt = carrier(1e12, sender_limit=700_000)
    assert highest_rate(attempt, RATE_FIRST, STEP_FIRST).rate == 700_000
    assert max(asked) < 4 * 700_000


def test_a_hiccup_below_the_limit_is_asked_again() -> None:
    asked, attempt = carrier(1_000_000)

    def once_unlucky(rate: float) -> Trial:
        trial = attempt(rate)
        return Trial(0.0, False) if len(asked) == 4 else trial

    best = highest_rate(once_unlucky, RATE_FIRST, STEP_FIRST)
    assert best.rate >= 1_000_000 / RESOLUTION


def test_no_more_is_asked_than_the_load_generator_takes() -> None:
    asked, attempt = carrier(1e12)
    assert highest_rate(attempt, RATE_FIRST, STEP_FIRST).rate == max(asked) == RATE_MOST


@pytest.mark.parametrize("number", range(1, 9))
def test_a_sender_that_was_kept_from_the_processor_once_does_not_end_the_search(
    number: int,
) -> None:
    asked, attempt = carrier(1_000_000)

    def once_held(rate: float) -> Trial:
        trial = attempt(rate)
        return trial._replace(rate=trial.rate * 0.8) if len(asked) == number else trial

    best = highest_rate(once_held, RATE_FIRST, STEP_FIRST)
    assert best.rate >= 1_000_000 / RESOLUTION


def test_a_tunnel_that_carries_nothing_whole_has_no_rate() -> None:
    best = highest_rate(lambda _: Trial(5.0, False), RATE_FIRST, STEP_FIRST)
    assert (best.rate, best.is_whole) == (0.0, False)


@pytest.fixture
def bed(tmp_path: Path) -> Iterator[Bed]:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    measure.build()
    with Bed() as bed:
        Raw(tmp_path).start(bed)
        yield bed


def udp(bed: Bed, payload_bytes: int) -> dict[str, float]:
    """PACKETS in 200 ms from node to internet."""
    ends = [DIRECTORY / space.name for space in (bed.node, bed.internet)]
    rate = [str(payload_bytes), str(PACKETS * 5), "200"]
    argv = [measure.BUILT / "udp_load", *ends, Raw.far, *rate]
    seen = json.loads(subprocess.run(argv, capture_output=True, text=True, check=True).stdout)
    assert PACKETS / 2 < seen["sent"] <= PACKETS  # less where others have the processors
    return seen


@pytest.mark.netns
@pytest.mark.parametrize("payload_bytes", [16, 64, 1200])
@pytest.mark.parametrize("is_joined", [True, False])
def test_every_datagram_is_counted_joined_or_single(
    bed: Bed, payload_bytes: int, is_joined: bool
) -> None:
    with bed.node.inside(), closing(Ethtool()) as ethtool:
        features = ethtool.get_features("up0")
        features.features["tx-udp-segmentation"].enable = is_joined
        ethtool.set_features("up0", features)
    seen = udp(bed, payload_bytes)
    assert seen["received"] == seen["sent"]
    with bed.hub.inside():
        firewall.run(EVERY_TENTH)
    seen = udp(bed, payload_bytes)
    lost = seen["sent"] - seen["received"]
    # joined ones are lost together, up to 64 at a time
    assert lost == pytest.approx(seen["sent"] / 10, abs=400 if is_joined else 1)


@pytest.mark.netns
def test_pings_that_are_lost_are_missing_and_the_others_timed(bed: Bed) -> None:
    def trips(count: int, interval_us: int = 200) -> list[int]:
        netns = str(DIRECTORY / bed.node.name)
        argv = [measure.BUILT / "ping_times", netns, Raw.far, str(count), str(interval_us)]
        done = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=30)
        seen = json.loads(done.stdout)
        assert seen["sent"] == count
        return list(seen["trips_ns"])

    whole = trips(1000)
    assert len(whole) == 1000
    assert 500 < min(whole) <= max(whole) < 1e9
    with bed.hub.inside():
        firewall.run(EVERY_TENTH)
    assert len(trips(1000)) == 900
