"""The path-MTU search against a table of paths, and against a twin that only remembers arrivals."""

import heapq
import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from native.pmtu import (
    FRAME_BYTES_MIN,
    RAISE_FIRST_NS,
    RAISE_MAX_NS,
    TRIES,
    TRIES_UNANSWERED,
    VERIFY_NS,
    Pmtu,
)

MS, S = 10**6, 10**9
TICK_NS = 100 * MS  # what a hub and a node look at their timers by
FULL = 1462  # the frame of a tunnel MTU of 1400


@dataclass
class Path:
    """A way that carries frames of some size, and what happened on it."""

    carries: Callable[[int], int]  # time in ns -> bytes
    rtt_ns: int = 20 * MS
    loss: float = 0.0
    answers: bool = True
    seed: int = 1
    probes: list[tuple[int, int]] = field(default_factory=list)  # time, bytes
    sizes: list[tuple[int, int]] = field(default_factory=list)  # time, frame_bytes as it changed
    arrived: list[tuple[int, int]] = field(default_factory=list)

    def run(self, pmtu: Pmtu, seconds: float, *, start_ns: int = S, packets: bool = True) -> Pmtu:
        chance = random.Random(self.seed)
        answers: list[tuple[int, int, int]] = []
        now, end = start_ns, start_ns + int(seconds * S)
        while now < end:
            while answers and answers[0][0] <= now:
                at, probe_id, size = heapq.heappop(answers)
                if pmtu.acknowledge(probe_id, size, at):
                    self.arrived.append((at, size))
                self.send(pmtu, at, answers, chance, packets)
            self.send(pmtu, now, answers, chance, packets)
            now += TICK_NS
        return pmtu

    def send(self, pmtu, now, answers, chance, packets):
        for probe_id, size in pmtu.due(now, now if packets else 0, chance.getrandbits(32)):
            self.probes.append((now, size))
            lost = size > self.carries(now) or chance.random() < self.loss
            if self.answers and not lost and chance.random() >= self.loss:
                heapq.heappush(answers, (now + self.rtt_ns, probe_id, size))
        if not self.sizes or self.sizes[-1][1] != pmtu.frame_bytes:
            self.sizes.append((now, pmtu.frame_bytes))


def begun(largest: int = FULL) -> Pmtu:
    pmtu = Pmtu()
    pmtu.begin(largest, S)
    return pmtu


def always(size: int) -> Callable[[int], int]:
    return lambda _now: size


@pytest.mark.parametrize("largest", [FRAME_BYTES_MIN, FRAME_BYTES_MIN + 1, 638, FULL, 3462])
@pytest.mark.parametrize(
    "size", [FRAME_BYTES_MIN, FRAME_BYTES_MIN + 1, 972, 1232, 1252, 1461, 1462, 1463, 9000]
)
def test_a_search_finds_the_size_to_the_byte(size: int, largest: int) -> None:
    path = Path(always(size))
    pmtu = path.run(begun(largest), 8)
    assert pmtu.frame_bytes == min(size, largest)
    assert pmtu.is_settled
    assert all(FRAME_BYTES_MIN <= probe <= largest for _, probe in path.probes)


def test_an_ordinary_path_costs_two_probes() -> None:
    path = Path(always(2000))
    pmtu = path.run(begun(), 4.9)
    assert path.probes == [(S, FULL), (S, FRAME_BYTES_MIN)]
    assert path.sizes == [(S, FULL)]
    assert pmtu.is_settled


def test_every_size_between_is_found() -> None:
    for size in range(FRAME_BYTES_MIN, FULL + 1):
        path = Path(always(size))
        assert path.run(begun(), 8).frame_bytes == size
        assert len(path.probes) <= 2 + 11 * TRIES


def test_from_the_first_answer_on_only_what_arrived_is_used() -> None:
    pmtu = begun()
    (full_id, full), (small_id, small) = pmtu.due(S, 0, 0)
    assert (full, small) == (FULL, FRAME_BYTES_MIN)
    assert pmtu.frame_bytes == FULL
    assert pmtu.acknowledge(small_id, small, S + MS)
    assert pmtu.frame_bytes == FRAME_BYTES_MIN
    assert pmtu.acknowledge(full_id, FULL, S + 2 * MS)
    assert pmtu.frame_bytes == FULL
    pmtu.restart(S + 3 * MS)
    assert pmtu.frame_bytes == FRAME_BYTES_MIN


ANSWERS = {  # offset to the id of the large probe, size it claims: accepted
    "the probe": ((0, FULL), True),
    "one of the same moment": ((1, FRAME_BYTES_MIN), True),
    "one never sent": ((2, FULL), False),
    "one of long ago": ((-1, FULL), False),
    "smaller than any": ((0, FRAME_BYTES_MIN - 1), False),
    "larger than any": ((0, FULL + 1), False),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_only_answers_to_this_search_count(name: str) -> None:
    (offset, size), accepted = ANSWERS[name]
    pmtu = begun()
    large = pmtu.due(S, 0, 0)[0][0]
    assert pmtu.acknowledge((large + offset) % 65536, size, S + MS) == accepted
    assert pmtu.frame_bytes == (size if accepted else FULL)


def test_an_idle_one_does_nothing() -> None:
    pmtu = Pmtu()
    assert pmtu.due(S, 0, 0) == []
    assert not pmtu.acknowledge(0, FULL, S)
    pmtu.restart(S)
    assert pmtu.due(2 * S, 0, 0) == []
    assert not pmtu.is_settled


def test_a_black_hole_is_noticed_and_the_new_size_found() -> None:
    begin, drop = S, 31 * S
    path = Path(lambda now: 1252 if now >= drop else 2000)
    pmtu = path.run(begun(), 60)
    assert pmtu.frame_bytes == 1252
    smaller = next(at for at, size in path.sizes if at >= drop and size < FULL)
    assert smaller - drop < VERIFY_NS + 2 * S
    assert begin < drop


def test_while_nothing_is_sent_nothing_is_asked() -> None:
    path = Path(always(2000))
    path.run(begun(), 60, packets=False)
    assert len(path.probes) == 2
    busy = Path(always(2000))
    busy.run(begun(), 60)
    assert 10 <= len(busy.probes) <= 2 + 60 * S // VERIFY_NS


def test_a_path_that_grew_is_noticed_sooner_first_and_every_ten_minutes_later() -> None:
    for grows_after in (3, 100):
        path = Path(lambda now, at=grows_after * S: 2000 if now >= at else 972)
        pmtu = path.run(begun(), 3 * grows_after + 20)
        assert pmtu.frame_bytes == FULL
    still = Path(always(972))
    still.run(begun(), 4 * 3600, packets=False)
    tries = [at for at, size in still.probes if size == 973 and at > 10 * S]
    gaps = [later - at for at, later in itertools.pairwise(tries) if later - at > 5 * S]
    assert gaps[0] < 3 * RAISE_FIRST_NS
    assert RAISE_MAX_NS <= gaps[-1] < RAISE_MAX_NS + 10 * S


def test_a_peer_that_answers_no_probe_gets_whole_packets() -> None:
    path = Path(always(9000), answers=False)
    pmtu = path.run(begun(), 30)
    assert path.sizes == [(S, FULL)]
    assert not pmtu.is_settled
    assert len(path.probes) <= 4 * TRIES_UNANSWERED


def test_answers_that_come_after_their_size_was_given_up_still_count() -> None:
    path = Path(always(2000), rtt_ns=8 * S)
    assert path.run(begun(), 40).frame_bytes == FULL


@pytest.mark.parametrize("seed", range(20))
def test_a_third_of_all_packets_lost_still_leads_there(seed: int) -> None:
    path = Path(always(1252), loss=0.3, seed=seed)
    pmtu = path.run(begun(), 600)
    assert FRAME_BYTES_MIN < pmtu.frame_bytes <= 1252


def test_probes_are_few_whatever_the_path_does() -> None:
    chance = random.Random(7)
    path = Path(lambda _now: chance.choice((500, 800, 1252, 2000)), loss=0.1)
    path.run(begun(), 600)
    for start in range(0, 590, 10):
        within = [at for at, _ in path.probes if start * S <= at - S < (start + 10) * S]
        assert len(within) < 10 * 20


@settings(max_examples=300, deadline=None)
@given(
    st.integers(FRAME_BYTES_MIN, 3462),
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4000)), max_size=60),
)
def test_what_is_used_has_arrived(largest: int, steps: list[tuple[int, int]]) -> None:
    """Steps: time passes (the number in ms), or a waiting probe arrives, or the path is in doubt.
    The twin only remembers what arrived since."""
    pmtu, twin = begun(largest), set()
    now, waiting = S, []
    for kind, number in steps:
        if kind <= 1:
            now += number * MS
            probes = pmtu.due(now, number, number)
            assert all(FRAME_BYTES_MIN <= size <= largest for _, size in probes)
            waiting += probes
        elif kind == 2 and waiting:
            probe_id, size = waiting.pop(number % len(waiting))
            if pmtu.acknowledge(probe_id, size, now):
                twin.add(size)
        elif kind == 3:
            pmtu.restart(now)
            twin.clear()
        assert FRAME_BYTES_MIN <= pmtu.frame_bytes <= largest
        if twin:
            assert pmtu.frame_bytes in twin | {FRAME_BYTES_MIN}
