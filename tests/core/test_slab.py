"""The slab: each frame has at most one owner, all come back, and giving twice ends the process."""

import signal
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from native.slab import FRAMES_MAX, Slab


@pytest.mark.parametrize("frames", [0, FRAMES_MAX + 1, 2**32 - 1])
def test_impossible_sizes_are_refused(frames):
    with pytest.raises(OSError, match="Invalid argument"):
        Slab(frames)


@pytest.mark.parametrize("frames", [1, 63, 64, 65, FRAMES_MAX])
def test_every_frame_is_taken_once_and_then_no_more(frames):
    slab = Slab(frames)
    assert sorted(slab.take(frames + 5)) == list(range(frames))
    assert slab.take(1) == []
    slab.give(range(frames))
    assert slab.count_free == slab.count == frames


@settings(max_examples=200, deadline=None)
@given(
    frames=st.integers(1, 300),
    steps=st.lists(st.tuples(st.booleans(), st.integers(0, 100)), max_size=60),
    order=st.randoms(use_true_random=False),
)
def test_slab_behaves_like_a_set(frames, steps, order):
    slab, owned = Slab(frames), []
    for taking, count in steps:
        if taking:
            taken = slab.take(count)
            assert len(taken) == min(count, frames - len(owned))
            owned += taken
            assert len(set(owned)) == len(owned)
            assert all(0 <= number < frames for number in owned)
        else:
            order.shuffle(owned)
            slab.give(owned[:count])
            del owned[:count]
        assert slab.count_free == frames - len(owned)


@pytest.mark.parametrize(
    ("what", "gives"),
    [
        ("a frame given twice", "slab.give([7]); slab.give([7])"),
        ("a frame given twice at once", "slab.give([7, 7])"),
        ("a frame never taken", "slab.give([99])"),
        ("a frame beyond the slab", "slab.give([100])"),
        ("a frame beyond any slab", "slab.give([1 << 20])"),
    ],
)
def test_giving_what_one_does_not_own_aborts(what, gives):
    program = f"from native.slab import Slab; slab = Slab(100); slab.take(64); {gives}"
    child = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=60)
    assert child.returncode == -signal.SIGABRT, what
