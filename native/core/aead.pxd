# Mirror of aead.h.
from libc.stdint cimport uint8_t, uint32_t
from native.core.wire cimport m13_wire_header

cdef extern from "<stdbool.h>":
    ctypedef bint bool

cdef extern from "aead.h" nogil:
    enum:
        M13_AEAD_VECTOR

    struct m13_aead_key:
        pass

    struct m13_aead_job:
        m13_aead_key *key
        m13_wire_header *header
        uint32_t bytes
        bool authentic

    struct m13_aead_backend:
        const char *name

    struct m13_aead:
        const m13_aead_backend *backend

    const m13_aead_backend *const m13_aead_backends[]

    int m13_aead_create(m13_aead *aead, const char *name)
    void m13_aead_destroy(m13_aead *aead)
    int m13_aead_key_init(m13_aead *aead, m13_aead_key *key, const uint8_t *secret)
    void m13_aead_key_fini(m13_aead *aead, m13_aead_key *key)
    void m13_aead_seal(m13_aead *aead, m13_aead_job *jobs, uint32_t count)
    void m13_aead_open(m13_aead *aead, m13_aead_job *jobs, uint32_t count)
