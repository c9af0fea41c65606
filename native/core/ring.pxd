# Mirror of ring.h.
from libc.stdint cimport uint32_t

cdef extern from "ring.h" nogil:
    struct m13_ring:
        uint32_t mask
        uint32_t element_bytes

    int m13_ring_init(m13_ring *ring, uint32_t slots, uint32_t element_bytes)
    void m13_ring_fini(m13_ring *ring)
    uint32_t m13_ring_count(const m13_ring *ring)
    uint32_t m13_ring_space(m13_ring *ring)
    uint32_t m13_ring_push(m13_ring *ring, const void *elements, uint32_t count)
    uint32_t m13_ring_pop(m13_ring *ring, void *elements, uint32_t count)

cdef extern from "<stdlib.h>" nogil:
    void *aligned_alloc(size_t alignment, size_t bytes)
