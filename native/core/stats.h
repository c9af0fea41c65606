/* The telemetry page: counters in shared memory, one block of cache lines per writing thread.
 *
 * A writer adds with plain relaxed stores to its own block; readers may see a moment's mixture of
 * old and new counters, never a torn one. Names, texts and offsets come from the lists below and
 * are published by m13_stats_fields[], so Python declares nothing a second time. */
#ifndef M13_STATS_H
#define M13_STATS_H

#include <stdalign.h>
#include <stdint.h>

#include "drop.h"

#define M13_STATS_MAGIC   0x535441545333314Dull /* "M13STATS" */
#define M13_STATS_VERSION 3
/* For each worker of a hub: the worker (or a reactor) and its TUN thread. */
#define M13_STATS_WORKERS_MAX  8
#define M13_STATS_WRITERS      (2 * M13_STATS_WORKERS_MAX)
#define M13_STATS_PEERS_WORKER 320
#define M13_STATS_PEERS        (M13_STATS_PEERS_WORKER * M13_STATS_WORKERS_MAX)

/* Of the first worker; the others' follow in pairs. */
enum m13_stats_writer_index { M13_WRITER_WORKER, M13_WRITER_TUN, M13_WRITERS_WORKER };

#define M13_COUNTERS(_)                                                                            \
    _(received_packets, "frames taken from the network")                                           \
    _(received_bytes, "bytes of those frames")                                                     \
    _(sent_packets, "frames given to the network")                                                 \
    _(sent_bytes, "bytes of those frames")                                                         \
    _(tun_read_packets, "packets read from the TUN")                                               \
    _(tun_read_bytes, "bytes of those packets")                                                    \
    _(tun_written_packets, "packets written to the TUN")                                           \
    _(tun_written_bytes, "bytes of those packets")                                                 \
    _(tun_reads, "reads of the TUN that gave those packets")                                       \
    _(tun_writes, "writes to the TUN that took those packets")                                     \
    _(receives, "receives from the network that gave those frames")                                \
    _(sends, "sends to the network that took those frames")                                        \
    _(aead_ok, "frames opened")                                                                    \
    _(aead_failed, "frames whose tag did not verify")                                              \
    _(aead_sealed, "frames sealed")                                                                \
    _(registrations, "registrations and cleartext keepalives seen")                                \
    _(echoes, "echoes sent or received")                                                           \
    _(handshake_messages, "handshake messages completed by reassembly")                            \
    _(handshakes_started, "handshakes handed to the worker process")                               \
    _(handshakes_done, "sessions established")                                                     \
    _(handshakes_refused, "handshakes the worker process refused")                                 \
    _(handshake_resends, "handshake messages sent again")                                          \
    _(sessions_lost, "peers timed out")                                                            \
    _(feedback_sent, "reports of what arrived, to peers")                                          \
    _(feedback_received, "reports of what arrived, from peers")                                    \
    _(goodbyes_sent, "sessions ended by our FIN")                                                  \
    _(goodbyes_received, "sessions ended by the peer's FIN")                                       \
    _(reconnects, "sessions of peers that had one before")                                         \
    _(keepalives_received, "sealed keepalives opened")                                             \
    _(keepalives_sent, "sealed keepalives sent")                                                   \
    _(fragments_sent, "frames that carry a piece of an inner packet")                              \
    _(fragments_received, "such frames opened")                                                    \
    _(packets_reassembled, "inner packets put together from them")                                 \
    _(too_big_told, "packet-too-big messages to inner senders")                                    \
    _(path_probes_sent, "probes of the path MTU sent")                                             \
    _(path_probes_received, "probes of the path MTU that arrived")                                 \
    _(path_probes_answered, "probes of ours that the peer says arrived")                           \
    _(endpoint_changes, "peers that moved to another address")                                     \
    _(handed_on, "packets passed to the worker that has their peer")                               \
    _(relayed_packets, "packets from node to node that the hub's kernel did not see")              \
    _(loops, "turns of the thread's loop")                                                         \
    _(sleeps, "times the thread went to sleep")

#define M13_GAUGES(_)                                                                              \
    _(slab_free, "frames nobody owns")                                                             \
    _(slab_count, "frames of the slab")                                                            \
    _(ring_to_tun, "packets waiting for the TUN thread")                                           \
    _(ring_from_tun, "packets waiting for the worker")                                             \
    _(ring_frames_to_tun, "free frames waiting for the TUN thread")                                \
    _(ring_frames_from_tun, "used frames waiting for the worker")                                  \
    _(scheduler_critical, "frames waiting in the critical queue")                                  \
    _(scheduler_bulk, "frames waiting in the bulk queue")                                          \
    _(fill_outstanding, "frames lent to the receive side")                                         \
    _(transmit_outstanding, "frames lent to the transmit side")                                    \
    _(tun_outstanding, "frames lent to the TUN side")                                              \
    _(ring_to_tun_peak, "most packets that ever waited for the TUN thread")                        \
    _(ring_from_tun_peak, "most packets that ever waited for the worker")                          \
    _(scheduler_peak, "most frames that ever waited to be sent")                                   \
    _(fill_least, "fewest frames that were ever lent to the receive side")                         \
    _(peers_established, "peers with a session")                                                   \
    _(peers_pending, "peers in a handshake")

#define M13_STAGES(_)                                                                              \
    _(parse, "outer and M13 headers, peer lookup")                                                 \
    _(open, "replay window and AEAD")                                                              \
    _(classify, "what an authentic frame is")                                                      \
    _(deliver, "towards the TUN, control, handshake")                                              \
    _(collect, "from the TUN, peer by tunnel address")                                             \
    _(seal, "header and AEAD")                                                                     \
    _(transmit, "outer headers, scheduler, network")

#define M13_STATS_ENUM(name, text) M13_STAT_##name,
enum m13_counter { M13_COUNTERS(M13_STATS_ENUM) M13_COUNTER_COUNT };
#undef M13_STATS_ENUM
#define M13_STATS_ENUM(name, text) M13_GAUGE_##name,
enum m13_gauge { M13_GAUGES(M13_STATS_ENUM) M13_GAUGE_COUNT };
#undef M13_STATS_ENUM
#define M13_STATS_ENUM(name, text) M13_STAGE_##name,
enum m13_stage { M13_STAGES(M13_STATS_ENUM) M13_STAGE_COUNT };
#undef M13_STATS_ENUM

struct m13_stats_writer {
    alignas(64) uint64_t counter[M13_COUNTER_COUNT];
    alignas(64) uint64_t drop[M13_DROP_COUNT];
    alignas(64) uint64_t gauge[M13_GAUGE_COUNT];
    alignas(64) uint64_t stage_cycles[M13_STAGE_COUNT];
    uint64_t stage_packets[M13_STAGE_COUNT];
};

/* Node states, and states of a hub's peer: one vocabulary for logs, monitor and tests. */
#define M13_STATES(_)                                                                              \
    _(Disconnected)                                                                                \
    _(Registering)                                                                                 \
    _(Handshaking)                                                                                 \
    _(Established)
#define M13_STATE_ENUM(name) M13_STATE_##name,
enum m13_state { M13_STATES(M13_STATE_ENUM) M13_STATE_COUNT };
#undef M13_STATE_ENUM

struct m13_stats_peer {
    alignas(64) uint32_t state; /* enum m13_state; Disconnected: the row is free */
    uint32_t generation;
    uint8_t address[16]; /* of the outer endpoint, as in struct m13_endpoint */
    uint16_t port;       /* host order */
    uint8_t handshake_version;
    uint8_t key_phase;
    uint8_t tunnel_address[4]; /* network order */
    uint8_t endpoint_kind;     /* enum m13_endpoint_kind */
    uint32_t rtt_us;           /* smoothed; 0: unknown */
    uint64_t received_packets;
    uint64_t received_bytes; /* of inner packets */
    uint64_t sent_packets;
    uint64_t sent_bytes;
    uint64_t lost_frames;      /* of ours, that it did not get */
    uint64_t missing_frames;   /* of its, that we did not get */
    uint32_t loss_per_million; /* of ours, of late */
    uint32_t path_mtu_bytes;   /* outer packets that reach it whole, IP header included */
    uint64_t last_heard_ns;    /* CLOCK_MONOTONIC of the last authentic frame */
    uint64_t established_ns;   /* CLOCK_MONOTONIC of the present session */
    uint64_t handshakes;
    uint8_t fingerprint[32];
    char name[32]; /* zero padded */
};

struct m13_stats_page {
    /* written once by the control process before the threads start */
    uint64_t magic;
    uint32_t version;
    uint32_t page_bytes;
    uint32_t pid;
    uint32_t keepalive_ms;
    uint64_t started_ns; /* CLOCK_MONOTONIC */
    char role[16];
    char interface_name[16];
    char tun_name[16];
    char receive_mode[32]; /* hub: XDP mode; node: io_uring mode */
    char aead_backend[16];
    char pqc_provider[32];
    char memory[32]; /* huge pages or not */
    /* written by the worker, once a tick */
    alignas(64) uint32_t state; /* node; a hub's follows from its peers */
    uint32_t reserved;
    uint64_t tick_ns;
    uint64_t session_up_ns;  /* node: CLOCK_MONOTONIC of the first session's establishment */
    uint64_t first_frame_ns; /* node: CLOCK_MONOTONIC of the first frame of the present attempt */
    struct m13_stats_writer writers[M13_STATS_WRITERS];
    struct m13_stats_peer peers[M13_STATS_PEERS];
};

/* A row of the self-description: group is "page", "counter", "drop", "gauge", "stage" or "peer".
 * For "page" and "peer" offset is in bytes within their structure and type as Python's struct has
 * it; for the others it is the index within the writer's array. */
struct m13_stats_field {
    const char *group;
    const char *name;
    const char *type;
    uint32_t offset;
    const char *text;
};
extern const struct m13_stats_field m13_stats_fields[];
extern const uint32_t m13_stats_field_count;
extern const char *const m13_state_names[M13_STATE_COUNT];

static inline void m13_stats_add(struct m13_stats_writer *writer, enum m13_counter counter,
                                 uint64_t amount)
{
    uint64_t *cell = &writer->counter[counter];
    __atomic_store_n(cell, *cell + amount, __ATOMIC_RELAXED);
}

static inline void m13_stats_drop(struct m13_stats_writer *writer, enum m13_drop reason)
{
    uint64_t *cell = &writer->drop[reason];
    __atomic_store_n(cell, *cell + 1, __ATOMIC_RELAXED);
}

static inline void m13_stats_gauge(struct m13_stats_writer *writer, enum m13_gauge gauge,
                                   uint64_t value)
{
    __atomic_store_n(&writer->gauge[gauge], value, __ATOMIC_RELAXED);
}

static inline void m13_stats_stage(struct m13_stats_writer *writer, enum m13_stage stage,
                                   uint64_t cycles, uint32_t packets)
{
    __atomic_store_n(&writer->stage_cycles[stage], writer->stage_cycles[stage] + cycles,
                     __ATOMIC_RELAXED);
    __atomic_store_n(&writer->stage_packets[stage], writer->stage_packets[stage] + packets,
                     __ATOMIC_RELAXED);
}

#endif
