"""The SPSC ring: order and completeness between two real threads, and its edges."""

import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from native.ring import Ring

COUNT = 1_000_000


@pytest.mark.parametrize(
    ("slots", "push_batch", "pop_batch"), [(2, 1, 1), (2048, 64, 64), (64, 7, 64), (64, 64, 5)]
)
def test_a_million_numbers_cross_two_threads_in_order(slots, push_batch, pop_batch):
    ring = Ring(slots, 8)
    producer = threading.Thread(target=ring.produce, args=(COUNT, push_batch))
    producer.start()
    in_order = ring.consume(COUNT, pop_batch)
    producer.join()
    assert in_order == COUNT
    assert len(ring) == 0


@pytest.mark.parametrize("slots", [0, 1, 3, 6, 2047, 2049, 2**31, 2**32 - 1])
def test_slots_must_be_a_power_of_two(slots):
    with pytest.raises(OSError, match="Invalid argument"):
        Ring(slots, 8)


def test_elements_must_have_a_size():
    with pytest.raises(OSError, match="Invalid argument"):
        Ring(2, 0)


def test_a_full_ring_takes_what_fits_and_keeps_what_it_has():
    ring = Ring(4, 1)
    assert (ring.push(b"abcdef"), ring.push(b"g")) == (4, 0)
    assert (ring.pop(2), ring.push(b"hij"), ring.pop(9), ring.pop(1)) == (b"ab", 2, b"cdhi", b"")


@settings(max_examples=200, deadline=None)
@given(
    slots=st.sampled_from([2, 4, 8, 64]),
    size=st.integers(1, 13),
    steps=st.lists(st.tuples(st.booleans(), st.integers(0, 70)), max_size=60),
)
def test_ring_behaves_like_a_list(slots, size, steps):
    ring, model, number = Ring(slots, size), [], 0
    for pushing, count in steps:
        if pushing:
            elements = [bytes([(number + i) % 256]) * size for i in range(count)]
            fitted = min(count, slots - len(model))
            assert ring.push(b"".join(elements)) == fitted
            model += elements[:fitted]
            number += fitted
        else:
            assert ring.pop(count) == b"".join(model[:count])
            del model[:count]
        assert (len(ring), ring.space) == (len(model), slots - len(model))
