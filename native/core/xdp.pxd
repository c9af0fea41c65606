# Mirror of xdp.h.
from libc.stdint cimport uint32_t, uint64_t
from native.core.umem cimport bool


cdef extern from "xdp.h" nogil:
    struct m13_xdp_frame:
        uint64_t address
        uint32_t length

    struct m13_xdp_config:
        const char *interface
        uint32_t queue
        void *umem
        uint64_t umem_bytes
        uint32_t frame_bytes
        uint32_t fill_slots
        uint32_t completion_slots
        uint32_t receive_slots
        uint32_t transmit_slots
        bool try_zero_copy
        bool generic
        m13_xdp *sharing
        uint64_t first_byte

    struct m13_xdp:
        uint32_t frame_shift
        int fd
        uint32_t transmit_budget
        bool zero_copy
        int zero_copy_error

    struct m13_xdp_statistics:
        uint64_t receive_dropped
        uint64_t receive_ring_full
        uint64_t fill_ring_empty
        uint64_t receive_invalid
        uint64_t transmit_invalid
        uint64_t transmit_ring_empty

    int m13_xdp_create(m13_xdp **out, const m13_xdp_config *config)
    void m13_xdp_destroy(m13_xdp *xdp)
    # A struct of the same name exists; C keeps the two apart, Cython needs another word.
    int m13_xdp_read_statistics "m13_xdp_statistics"(const m13_xdp *xdp, m13_xdp_statistics *out)
    uint32_t m13_xdp_frame_number(const m13_xdp *xdp, uint64_t address)
    uint32_t m13_xdp_receive(m13_xdp *xdp, m13_xdp_frame *out, uint32_t max)
    uint32_t m13_xdp_refill_space(m13_xdp *xdp)
    void m13_xdp_refill(m13_xdp *xdp, const uint32_t *frames, uint32_t count)
    uint32_t m13_xdp_reclaim(m13_xdp *xdp, uint32_t *frames, uint32_t max)
    uint32_t m13_xdp_transmit_space(m13_xdp *xdp)
    void m13_xdp_transmit(m13_xdp *xdp, const m13_xdp_frame *frames, uint32_t count)
    uint32_t m13_xdp_transmit_pending(const m13_xdp *xdp)
    int m13_xdp_kick(m13_xdp *xdp)
    void m13_xdp_wake_receive(m13_xdp *xdp)
