# Mirror of capability.h.
from libc.stdint cimport uint64_t


cdef extern from "capability.h" nogil:
    struct m13_capability_sets:
        uint64_t permitted
        uint64_t effective
        uint64_t bounding

    int m13_capability_reduce(const m13_capability_sets *keep)
    int m13_capability_forgo()
    int m13_capability_number(const char *name)
