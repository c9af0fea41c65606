# Mirror of checksum.h.
from libc.stdint cimport uint16_t, uint32_t, uint64_t

cdef extern from "checksum.h" nogil:
    uint64_t m13_checksum_add(uint64_t sum, const void *data, uint32_t bytes)
    uint16_t m13_checksum_fold(uint64_t sum)
