# Mirror of offload.h.
from libc.stdint cimport uint8_t, uint16_t, uint32_t

cdef extern from "<sys/uio.h>" nogil:
    struct iovec:
        void *iov_base
        size_t iov_len

cdef extern from "offload.h" nogil:
    enum:
        M13_OFFLOAD_HEADER_BYTES
        M13_OFFLOAD_PACKET_MAX
        M13_MERGE_PACKETS_MAX
        M13_MERGE_FLOWS_MAX

    struct m13_split:
        pass

    bint m13_split_begin(m13_split *split, const uint8_t *data, uint32_t bytes)
    uint32_t m13_split_next_bytes(const m13_split *split)
    void m13_split_next(m13_split *split, uint8_t *out)

    struct m13_merge:
        uint32_t count
        uint32_t bytes
        iovec pieces[M13_MERGE_PACKETS_MAX + 1]
        uint32_t origin[M13_MERGE_PACKETS_MAX]

    struct m13_merge_set:
        bint udp_stays_alone
        uint32_t count
        m13_merge *open[M13_MERGE_FLOWS_MAX]

    bint m13_merge_join(m13_merge_set *set, uint8_t *packet, uint32_t bytes, uint32_t origin)
    m13_merge *m13_merge_open(m13_merge_set *set, m13_merge *fresh, uint8_t *packet,
                              uint32_t bytes, uint32_t origin)
    void m13_merge_finish(m13_merge *merge)
