# Mirror of session.h.
from libc.stdint cimport uint8_t, uint64_t
from native.core.aead cimport m13_aead
from native.core.wire cimport m13_wire_direction, m13_wire_header

cdef extern from "<stdbool.h>":
    ctypedef bint bool

cdef extern from "session.h" nogil:
    struct m13_session:
        bool valid
        uint8_t version
        uint8_t key_phase
        uint64_t send_counter

    int m13_session_init(m13_session *session, m13_aead *aead, uint8_t version, uint8_t key_phase,
                         const uint8_t *send_secret, const uint8_t *receive_secret,
                         uint64_t now_ns)
    void m13_session_fini(m13_session *session, m13_aead *aead)
    bool m13_session_exhausted(const m13_session *session)
    void m13_session_number(m13_session *session, m13_wire_header *header,
                            m13_wire_direction direction)
