# Mirror of frag.h.
from libc.stdint cimport uint8_t, uint32_t, uint64_t

cdef extern from "frag.h" nogil:
    enum:
        M13_FRAG_SLOTS
        M13_FRAGMENT_MESSAGE_BYTES

    const uint64_t M13_FRAG_STALE_NS

    size_t M13_FRAG_ARENA_BYTES(uint32_t slot_count, uint32_t message_bytes)

    struct m13_frag:
        pass

    enum m13_frag_verdict:
        M13_FRAG_INCOMPLETE
        M13_FRAG_COMPLETE
        M13_FRAG_REFUSED

    struct m13_frag_message:
        const uint8_t *bytes
        uint32_t length
        uint32_t chunk_bytes

    void m13_frag_init(m13_frag *frag, uint8_t *arena, uint32_t slot_count, uint32_t message_bytes)
    m13_frag_verdict m13_frag_feed(m13_frag *frag, uint64_t context, const uint8_t *payload,
                                   uint32_t payload_bytes, uint64_t now_ns, m13_frag_message *out)
    void m13_frag_reset(m13_frag *frag)
