# Mirror of replay.h.
from libc.stdint cimport uint64_t

cdef extern from "<stdbool.h>":
    ctypedef bint bool

cdef extern from "replay.h" nogil:
    enum:
        M13_REPLAY_WINDOW

    struct m13_replay:
        uint64_t next

    void m13_replay_init(m13_replay *replay)
    bool m13_replay_check(const m13_replay *replay, uint64_t counter)
    bool m13_replay_advance(m13_replay *replay, uint64_t counter)
