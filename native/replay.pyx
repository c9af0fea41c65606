"""The anti-replay window."""

from libc.stdint cimport uint64_t
from native.core cimport replay as c

WINDOW = c.M13_REPLAY_WINDOW


cdef class Replay:
    """Which counters have been seen, back from the newest."""
    cdef c.m13_replay replay

    def __cinit__(self):
        c.m13_replay_init(&self.replay)

    def check(self, uint64_t counter):
        """True when the counter may be accepted; changes nothing."""
        return c.m13_replay_check(&self.replay, counter)

    def advance(self, uint64_t counter):
        """Marks the counter; False when check() would have refused it."""
        return c.m13_replay_advance(&self.replay, counter)
