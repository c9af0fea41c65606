# Mirror of pmtu.h.
from libc.stdint cimport uint16_t, uint32_t, uint64_t

cdef extern from "pmtu.h" nogil:
    enum:
        M13_PMTU_FRAME_BYTES_MIN
        M13_PMTU_TRIES
        M13_PMTU_TRIES_UNANSWERED
        M13_PMTU_PROBES_MAX

    const uint64_t M13_PMTU_VERIFY_NS
    const uint64_t M13_PMTU_RAISE_FIRST_NS
    const uint64_t M13_PMTU_RAISE_MAX_NS

    struct m13_pmtu:
        uint16_t frame_bytes
        bint confirmed
        uint64_t due_ns

    struct m13_pmtu_probe:
        uint16_t id
        uint16_t frame_bytes

    void m13_pmtu_begin(m13_pmtu *pmtu, uint16_t frame_bytes_max, uint64_t now_ns)
    void m13_pmtu_restart(m13_pmtu *pmtu, uint64_t now_ns)
    uint32_t m13_pmtu_due(m13_pmtu *pmtu, uint64_t now_ns, uint64_t sent_packets, uint32_t random,
                          m13_pmtu_probe *probes)
    bint m13_pmtu_acknowledge(m13_pmtu *pmtu, uint16_t id, uint16_t frame_bytes, uint64_t now_ns)
    bint m13_pmtu_is_settled(const m13_pmtu *pmtu)
