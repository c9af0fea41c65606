"""The hash map against a dictionary; deletion never hides an entry."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from native.map import BUCKETS, NONE, Map

LIMIT = BUCKETS // 4 * 3


@pytest.mark.parametrize("seed", range(5))
def test_deletion_hides_no_other_entry_in_a_full_map(seed):
    dice = random.Random(seed)
    table, model = Map(dice.getrandbits(64)), {}
    keys = dice.sample(range(1 << 48), LIMIT)
    for value, key in enumerate(keys):
        assert table.set(key, value)
        model[key] = value
    dice.shuffle(keys)
    for removed, key in enumerate(keys):
        table.remove(key, model.pop(key))
        assert table.find(key) == NONE
        if removed % 16 == 0:
            assert all(table.find(other) == value for other, value in model.items())
    assert len(table) == 0


def test_full_map_refuses_new_keys_and_still_replaces():
    table = Map(1)
    assert all(table.set(key, 0) for key in range(LIMIT))
    assert not table.set(LIMIT, 0)
    assert table.find(LIMIT) == NONE
    assert table.set(5, 9)
    assert (table.find(5), len(table)) == (9, LIMIT)
    table.remove(6, 0)
    assert table.set(LIMIT, 1)


def test_another_owners_entry_stays():
    table = Map(2)
    table.set(1, 10)
    table.remove(1, 11)
    assert table.find(1) == 10
    table.remove(3, 10)
    assert len(table) == 1


def test_the_value_that_means_nothing_is_refused():
    with pytest.raises(ValueError, match="none"):
        Map(0).set(1, NONE)


keys = st.one_of(st.integers(0, 40), st.integers(0, 2**64 - 1))
step = st.tuples(st.sampled_from(["set", "remove"]), keys, st.integers(0, 3))


@settings(max_examples=200, deadline=None)
@given(seed=st.integers(0, 2**64 - 1), steps=st.lists(step, max_size=200))
def test_map_behaves_like_a_dictionary(seed, steps):
    table, model = Map(seed), {}
    for verb, key, value in steps:
        if verb == "set":
            assert table.set(key, value)
            model[key] = value
        else:
            table.remove(key, value)
            if model.get(key) == value:
                del model[key]
        assert len(table) == len(model)
    for _, key, _ in steps:
        assert table.find(key) == model.get(key, NONE)
