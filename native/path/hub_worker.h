/* A hub's data plane: one worker on an AF_XDP queue, one thread on the TUN, four rings between.
 *
 * While little passes the worker serves the TUN itself; the thread and the rings are for much.
 *
 *   NIC -> XDP rx -> worker -> to_tun ----------> TUN thread -> kernel
 *                      ^  <--- frames_from_tun ---'  (written, to be freed)
 *   NIC <- XDP tx <- worker <- from_tun --------- TUN thread <- kernel
 *                      '---- frames_to_tun ------>'  (free, to be read into)
 *
 * All frames lie in one UMEM and are numbered by the slab, which the worker alone touches. A frame
 * is owned by exactly one of: the slab, XDP's fill side, XDP's transmit side, the scheduler, the
 * TUN thread with its rings, or the vector being worked on. The sum is m13_hub_frames(). */
#ifndef M13_HUB_WORKER_H
#define M13_HUB_WORKER_H

#include <stdatomic.h>

#include "offload.h"
#include "path.h"
#include "sched.h"
#include "share.h"
#include "slab.h"
#include "thread.h"
#include "xdp.h"

/* Shares of the slab; nobody lends more than its share. */
#define M13_HUB_FRAMES_RECEIVE  2048 /* XDP fill and receive rings */
#define M13_HUB_FRAMES_TRANSMIT 768  /* XDP transmit and completion rings */
#define M13_HUB_FRAMES_QUEUED   (M13_SCHED_CRITICAL_SLOTS + M13_SCHED_BULK_SLOTS)
#define M13_HUB_FRAMES_TO_TUN   2048 /* to_tun, frames_from_tun and the packet being written */
#define M13_HUB_FRAMES_FROM_TUN 1024 /* frames_to_tun, from_tun and the packet being read */
#define M13_HUB_FRAMES_IN_HAND  1024 /* vectors, control frames, slack against starvation */
#define M13_HUB_FRAMES          8192
_Static_assert(M13_HUB_FRAMES_RECEIVE + M13_HUB_FRAMES_TRANSMIT + M13_HUB_FRAMES_QUEUED +
                       M13_HUB_FRAMES_TO_TUN + M13_HUB_FRAMES_FROM_TUN + M13_HUB_FRAMES_IN_HAND ==
                   M13_HUB_FRAMES,
               "the slab is the sum of its holders");
#define M13_HUB_UMEM_BYTES     ((uint64_t)M13_HUB_FRAMES * M13_FRAME_BYTES)
#define M13_HUB_TUN_RING_SLOTS 2048
#define M13_HUB_XDP_RING_SLOTS                                                                     \
    4096                          /* fill and receive: larger than their share, never brim-full    \
                                   */
#define M13_HUB_INLINE_WRITES 8   /* packets of a vector the worker writes to the TUN itself */
#define M13_HUB_INLINE_READS  32  /* from so many at once on the TUN thread reads */
#define M13_HUB_BATCH         256 /* packets received per turn, in vectors of 64 */

/* An inner packet in the UMEM. */
struct m13_tun_packet {
    uint32_t frame;
    uint16_t offset; /* of the packet within its frame */
    uint16_t bytes;
};

struct m13_hub_config {
    struct m13_path_config path;
    struct m13_xdp *xdp; /* borrowed, as all below */
    uint8_t *umem;       /* M13_HUB_UMEM_BYTES */
    struct m13_channel *channel;
    struct m13_stats_page *page;
    int tun_fd;              /* non-blocking, IFF_TUN | IFF_NO_PI | IFF_VNET_HDR */
    struct m13_share *share; /* NULL: the only worker */
    int worker_core;         /* -1: wherever the kernel likes */
    int tun_core;
};

struct m13_hub {
    struct m13_path path; /* worker */
    struct m13_hub_config config;
    struct m13_slab slab;   /* worker */
    struct m13_sched sched; /* worker */
    uint32_t fill_outstanding;
    uint32_t transmit_outstanding;
    uint32_t to_tun_outstanding;   /* sent to the TUN thread and not yet returned */
    uint32_t from_tun_outstanding; /* lent for reading and not yet come back as packets */
    /* pressure, for telemetry: how far it ever went */
    uint32_t to_tun_peak;
    uint32_t from_tun_peak;
    uint32_t scheduler_peak;
    uint32_t fill_least;
    struct m13_patience patience; /* the worker's */
    struct m13_patience tun_patience;
    uint64_t next_tick_ns;
    uint64_t tick_ns;
    struct m13_vector vector;
    struct m13_ring to_tun;
    struct m13_ring from_tun;
    struct m13_ring frames_to_tun;
    struct m13_ring frames_from_tun;
    struct m13_doorbell worker_bell;
    struct m13_doorbell tun_bell;
    _Atomic bool thread_reads;          /* who reads the TUN, and owns what follows but merges */
    uint32_t spare[M13_VECTOR_PACKETS]; /* frames to read into */
    uint32_t spare_count;
    bool splitting; /* large holds a packet that is being cut */
    struct m13_split split;
    uint8_t large[M13_OFFLOAD_HEADER_BYTES + M13_OFFLOAD_PACKET_MAX];
    /* the TUN thread's while anything is on its way to it, else the worker's */
    struct m13_merge merges[M13_MERGE_FLOWS_MAX + 1];
    _Atomic bool stop;
    _Atomic bool tun_stop; /* the worker has left: nothing more will come for the TUN */
};

/* The worker: keeps the highest of what it is told. */
static inline void m13_hub_note_peak(uint32_t *peak, uint32_t now)
{
    if (now > *peak)
        *peak = now;
}

/* What config names stays its owner's and must outlive the hub. -errno: no memory, no
 * eventfd, no such AEAD. */
int m13_hub_create(struct m13_hub **out, const struct m13_hub_config *config);
/* After both threads returned. */
void m13_hub_destroy(struct m13_hub *hub);

/* Each runs in a thread of its own until m13_hub_stop(). 0 or -errno. */
int m13_hub_run_worker(struct m13_hub *hub);
int m13_hub_run_tun(struct m13_hub *hub);

/* Any thread. */
void m13_hub_stop(struct m13_hub *hub);

/* The worker's, once it is to stop: goodbyes to all peers, then the TUN thread's end. */
void m13_hub_leave(struct m13_hub *hub);
/* One turn of the worker; leaving: it only receives, and sends what waits. How much there was. */
uint32_t m13_hub_turn(struct m13_hub *hub, bool leaving);

/* Any one thread at a time: tells the worker a peer's next hop. False: too many waiting. */
bool m13_hub_command(struct m13_hub *hub, const struct m13_command *command);

/* Whoever has the TUN: see hub_tun.c. write joins what it can and keeps nothing; read fills up to
 * 64 packets into spare frames and answers how many. */
void m13_hub_tun_write(struct m13_hub *hub, struct m13_stats_writer *stats,
                       const struct m13_tun_packet *packets, uint32_t count);
uint32_t m13_hub_tun_read(struct m13_hub *hub, struct m13_stats_writer *stats,
                          struct m13_tun_packet *packets);

/* The worker's vector of frames that lie behind their outer headers: parse to deliver; cycles: when
 * the work on them began. And inner packets in frames of ours: each finds its peer, is sealed and
 * queued. Both take the frames over. */
void m13_hub_work_vector(struct m13_hub *hub, uint64_t cycles);
void m13_hub_send_inner(struct m13_hub *hub, const struct m13_tun_packet *packets, uint32_t count);

/* The worker's turn with what other workers handed on; how much it was, and whether more waits. */
uint32_t m13_hub_work_on_shared(struct m13_hub *hub);
bool m13_hub_shared_waits(struct m13_hub *hub);

/* The worker's turn with XDP's completion and fill rings; also fills them at creation. */
void m13_hub_refill(struct m13_hub *hub);

/* The worker's gauges, and telemetry rows of its peers. */
void m13_hub_report(struct m13_hub *hub);
/* The worker's turn with what the TUN gave (hub_outward.c): up to a vector of packets, sealed and
 * queued. How many. */
uint32_t m13_hub_outward(struct m13_hub *hub);
/* Frames the TUN thread is done with come back; while it reads, it is lent new ones. */
void m13_hub_trade_with_tun(struct m13_hub *hub, bool thread_reads);
/* Outer headers, then the queue; a frame the queue refuses goes back to the slab. */
void m13_hub_queue_frame(struct m13_hub *hub, const struct m13_endpoint *to,
                         struct m13_wire_frame *frame, uint32_t bytes, bool critical);
/* Frames of the vector that no stage handed on go back to the slab. */
void m13_hub_give_back(struct m13_hub *hub);
/* Counts a stage's cycles since then for the vector's packets; the present cycles. */
uint64_t m13_hub_stage_done(struct m13_hub *hub, enum m13_stage stage, uint64_t since);

static inline uint8_t *m13_hub_frame_memory(const struct m13_hub *hub, uint32_t frame)
{
    return hub->config.umem + (uint64_t)frame * M13_FRAME_BYTES;
}

/* After both threads returned: takes every frame back and returns how many are unaccounted for;
 * anything but 0 is a leak. */
uint32_t m13_hub_settle(struct m13_hub *hub);

#endif
