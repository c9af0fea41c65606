# Mirror of siphash.h.
from libc.stdint cimport uint64_t

cdef extern from "siphash.h" nogil:
    struct m13_siphash_key:
        uint64_t words[2]

    uint64_t m13_siphash(const m13_siphash_key *key, const void *data, size_t bytes)
