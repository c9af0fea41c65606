# Mirror of loss.h.
from libc.stdint cimport uint32_t, uint64_t

cdef extern from "<stdbool.h>":
    ctypedef bint bool

cdef extern from "loss.h" nogil:
    struct m13_replay:
        uint64_t next

    void m13_replay_init(m13_replay *replay)
    bool m13_replay_advance(m13_replay *replay, uint64_t counter)

    enum:
        M13_LOSS_MOMENTS

    struct m13_loss_report:
        uint64_t highest
        uint64_t made_ns
        uint32_t delivered
        uint64_t delivered_ns
        uint32_t missing
        uint64_t missing_of_last

    struct m13_loss:
        uint64_t rtt_ns
        uint64_t rtt_deviation_ns
        uint32_t per_million

    enum m13_loss_verdict:
        M13_LOSS_TAKEN
        M13_LOSS_OLD
        M13_LOSS_FALSE

    uint64_t m13_loss_missing(const m13_replay *replay)
    m13_loss_report m13_loss_describe(const m13_replay *replay, uint64_t began_ns,
                                      uint64_t heard_ns, uint64_t now_ns)
    uint64_t m13_loss_note(m13_loss *loss, uint64_t counter, uint64_t now_ns)
    m13_loss_verdict m13_loss_learn(m13_loss *loss, const m13_loss_report *report,
                                    uint64_t next, uint64_t now_ns)
    void m13_loss_renew(m13_loss *loss)
    uint64_t m13_loss_total(const m13_loss *loss)
