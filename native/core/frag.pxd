# Mirror of frag.h.
from libc.stdint cimport uint8_t, uint32_t, uint64_t

cdef extern from "frag.h" nogil:
    enum:
        M13_FRAG_SLOTS
        M13_FRAG_ARENA_BYTES

    const uint64_t M13_FRAG_STALE_NS

    struct m13_frag:
        pass

    enum m13_frag_verdict:
        M13_FRAG_INCOMPLETE
        M13_FRAG_COMPLETE
        M13_FRAG_REFUSED

    struct m13_frag_message:
        const uint8_t *bytes
        uint32_t length

    void m13_frag_init(m13_frag *frag, uint8_t *arena)
    m13_frag_verdict m13_frag_feed(m13_frag *frag, uint8_t flags, const uint8_t *payload,
                                   uint32_t payload_bytes, uint64_t now_ns, m13_frag_message *out)
    void m13_frag_reset(m13_frag *frag)
