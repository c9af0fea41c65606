# Mirror of umem.h.
from libc.stdint cimport uint64_t


cdef extern from "<stdbool.h>":
    ctypedef bint bool

cdef extern from "umem.h" nogil:
    int m13_umem_map(uint64_t bytes, void **memory, bool *huge)
    void m13_umem_populate(void *memory, uint64_t bytes)
    void m13_umem_unmap(void *memory, uint64_t bytes)
