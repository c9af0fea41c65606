# Mirror of slab.h.
from libc.stdint cimport uint32_t

cdef extern from "slab.h" nogil:
    enum:
        M13_SLAB_FRAMES_MAX

    struct m13_slab:
        uint32_t count
        uint32_t count_free

    int m13_slab_init(m13_slab *slab, uint32_t frames)
    uint32_t m13_slab_take(m13_slab *slab, uint32_t *frames, uint32_t count)
    void m13_slab_give(m13_slab *slab, const uint32_t *frames, uint32_t count)
