"""The replay window: tables in the spirit of RFC 6479, and a model that keeps every counter."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from native.replay import WINDOW, Replay

STOP = 1 << 48

# name: counters in order, each with what advance() must answer
TABLE = {
    "in order": [(n, True) for n in range(300)],
    "first is not zero": [(5, True), (0, True), (4, True), (5, False), (0, False)],
    "each only once": [(0, True), (0, False), (1, True), (1, False), (0, False)],
    "reordered within a word": [(9, True), (8, True), (7, True), (8, False), (10, True)],
    "oldest inside the window": [(WINDOW, True), (1, True), (1, False)],
    "newest outside the window": [(WINDOW, True), (0, False)],
    "edge when the newest is the last of a word": [
        (WINDOW + 63, True), (64, True), (63, False), (62, False),
    ],
    "edge when the newest is the first of a word": [
        (WINDOW + 64, True), (65, True), (64, False), (65, False),
    ],
    "window moves by one": [(WINDOW - 1, True), (0, True), (WINDOW, True), (0, False), (1, True)],
    "jump of a whole window": [(0, True), (WINDOW, True), (WINDOW - 1, True), (0, False)],
    "jump of a whole bitmap": [
        (7, True), (7 + 2 * WINDOW, True), (7 + WINDOW, False), (8 + WINDOW, True),
        (7 + 2 * WINDOW, False),
    ],
    "jump that lands on old bits": [
        *[(n, True) for n in range(0, 2 * WINDOW, 61)],
        (1 << 40, True),
        *[((1 << 40) - n, True) for n in range(1, WINDOW, 61)],
        ((1 << 40) - WINDOW, False),
    ],
    "jump from the start to the end": [(STOP - 1, True), (STOP - WINDOW, True), (STOP - 1, False)],
    "hard stop": [(STOP, False), (STOP + 1, False), (2**64 - 1, False), (STOP - 1, True)],
    "hard stop does not move the window": [(0, True), (2**64 - 1, False), (1, True), (0, False)],
    "from the far end nothing old comes back": [(STOP - 1, True), (0, False), (STOP, False)],
    "a window in order leaves room for what came before it": [
        *[(n, True) for n in range(1, WINDOW)], (0, True), (0, False),
    ],
    "a window and one in order leaves none": [
        *[(n, True) for n in range(1, WINDOW + 1)], (0, False), (1, False),
    ],
    "a window backwards": [
        *[(n, True) for n in range(WINDOW - 1, -1, -1)],
        *[(n, False) for n in range(0, WINDOW, 97)],
        (WINDOW, True), (0, False),
    ],
    "backwards with the newest first": [
        (2 * WINDOW, True),
        *[(n, True) for n in range(2 * WINDOW - 1, WINDOW, -1)],
        (WINDOW, False), (WINDOW + 1, False),
    ],
    "every second, then those between": [
        *[(n, True) for n in range(0, WINDOW, 2)], *[(n, True) for n in range(1, WINDOW, 2)],
        *[(n, False) for n in range(0, WINDOW, 61)],
    ],
    "jumps of a word clear just that word": [
        step for n in range(0, 3 * WINDOW, 64) for step in ((n, True), (n, False), (n + 63, True))
    ],
}  # fmt: skip


@pytest.mark.parametrize("steps", TABLE.values(), ids=TABLE)
def test_window_answers_as_the_table_says(steps):
    replay = Replay()
    for step, (counter, fresh) in enumerate(steps):
        assert replay.check(counter) == fresh, (step, counter)
        assert replay.advance(counter) == fresh, (step, counter)


def test_window_is_8192_wide():
    assert WINDOW == 8192


def test_check_changes_nothing():
    replay = Replay()
    assert replay.check(1 << 40)
    assert replay.advance(0)
    assert not replay.check(0)
    assert replay.check(1)


class Model:
    """Remembers everything."""

    def __init__(self):
        self.seen = set()

    def advance(self, counter):
        newest = max(self.seen, default=0)
        fresh = counter < STOP and counter not in self.seen and counter + WINDOW > newest
        if fresh:
            self.seen.add(counter)
        return fresh


# Where words, the window and the bitmap, two windows long, end; and the first counters.
EDGES = sorted({0, 1} | {edge + near for edge in (64, WINDOW, 2 * WINDOW) for near in (-1, 0, 1)})


def test_every_order_of_four_counters_around_the_edges():
    for order in itertools.product(EDGES, repeat=4):
        replay, model = Replay(), Model()
        assert [replay.advance(n) for n in order] == [model.advance(n) for n in order], order


# Steps relative to the newest counter, mostly around the places where words and windows end.
near = st.sampled_from([0, 64, WINDOW, 2 * WINDOW]).flatmap(
    lambda edge: st.integers(edge - 66, edge + 66)
)
steps = st.lists(
    st.one_of(st.integers(-3, 3), near, near.map(lambda n: -n), st.integers(0, 1 << 46)),
    max_size=120,
)


@settings(max_examples=400, deadline=None)
@given(steps)
def test_window_agrees_with_a_model_that_remembers_everything(moves):
    replay, model = Replay(), Model()
    for move in moves:
        counter = min(max(max(model.seen, default=0) + move, 0), STOP + 3)
        expected = model.advance(counter)
        assert replay.check(counter) == expected
        assert replay.advance(counter) == expected
