# Mirror of stats.h.
from libc.stdint cimport uint32_t, uint64_t

cdef extern from "stats.h" nogil:
    enum:
        M13_STATS_VERSION
        M13_STATS_WRITERS
        M13_STATS_PEERS
        M13_STATS_PEERS_WORKER
        M13_COUNTER_COUNT
        M13_DROP_COUNT
        M13_GAUGE_COUNT
        M13_STAGE_COUNT
        M13_STATE_COUNT

    const uint64_t M13_STATS_MAGIC

    enum m13_stats_writer_index:
        M13_WRITER_WORKER
        M13_WRITER_TUN
        M13_WRITERS_WORKER

    struct m13_stats_writer:
        pass

    struct m13_stats_peer:
        pass

    struct m13_stats_page:
        pass

    struct m13_stats_field:
        const char *group
        const char *name
        const char *type
        uint32_t offset
        const char *text

    const m13_stats_field m13_stats_fields[]
    const uint32_t m13_stats_field_count
    const char *const m13_state_names[M13_STATE_COUNT]

    # Places within the structures, so that nobody declares them a second time.
    enum:
        M13_PAGE_WRITERS_OFFSET "offsetof(struct m13_stats_page, writers)"
        M13_PAGE_PEERS_OFFSET "offsetof(struct m13_stats_page, peers)"
        M13_WRITER_COUNTER_OFFSET "offsetof(struct m13_stats_writer, counter)"
        M13_WRITER_DROP_OFFSET "offsetof(struct m13_stats_writer, drop)"
        M13_WRITER_GAUGE_OFFSET "offsetof(struct m13_stats_writer, gauge)"
        M13_WRITER_STAGE_CYCLES_OFFSET "offsetof(struct m13_stats_writer, stage_cycles)"
        M13_WRITER_STAGE_PACKETS_OFFSET "offsetof(struct m13_stats_writer, stage_packets)"
