/* Packets that one worker of a hub took and another's peer is meant by.
 *
 * Each worker owns the peers that shook hands with it, and all of its frames. A packet for another
 * worker's peer is copied into a ring between the two, in the clear side of the path where it was
 * noticed: a frame from the network before it is opened, an inner packet before it is sealed. So
 * no frame, session or counter ever has two owners. It is the exception: the NIC brings a peer's
 * frames to the same queue, and the kernel a flow's packets to the TUN queue it came from. */
#ifndef M13_SHARE_H
#define M13_SHARE_H

#include "directory.h"
#include "doorbell.h"
#include "path.h"

#define M13_WORKERS_MAX        M13_STATS_WORKERS_MAX
#define M13_SHARE_SLOTS        256 /* packets on their way from one worker to another */
#define M13_SHARE_PACKET_BYTES (M13_FRAME_BYTES - M13_TUN_OFFSET)
_Static_assert(M13_SHARE_PACKET_BYTES >= M13_WIRE_FRAME_BYTES + M13_TUNNEL_MTU_MAX,
               "the largest sealed frame");

struct m13_shared_packet {
    uint32_t bytes;
    bool is_inner;              /* an inner packet; else a frame from its inner Ethernet header */
    struct m13_endpoint source; /* of a frame */
    uint8_t data[M13_SHARE_PACKET_BYTES];
};

struct m13_share {
    uint32_t workers;
    struct m13_siphash_key secret; /* one for all: a frame's source is handed on with its key */
    struct m13_directory directory;
    struct m13_doorbell *bells[M13_WORKERS_MAX];
    struct m13_ring rings[M13_WORKERS_MAX][M13_WORKERS_MAX]; /* from, to */
};

/* workers: 2..M13_WORKERS_MAX. 0 or -errno. */
int m13_share_create(struct m13_share **out, uint32_t workers);
/* After every worker's thread returned. NULL is fine. */
void m13_share_destroy(struct m13_share *share);

/* Before the threads start: this path is its worker's, and the bell wakes it. */
void m13_share_join(struct m13_share *share, struct m13_path *path, struct m13_doorbell *bell);

/* The owning worker's thread. A frame from an unknown place whose MAC another worker knows, or an
 * inner packet to an address another has: true when it was handed on (or dropped and counted
 * because that worker is behind), and there is nothing left to do here. */
bool m13_share_give_frame(struct m13_path *path, struct m13_packet *packet);
bool m13_share_give_inner(struct m13_path *path, struct m13_packet *packet, const uint8_t *inner,
                          uint32_t bytes);

/* The ring that brings what `from` had for this path's worker. */
static inline struct m13_ring *m13_share_ring(struct m13_path *path, uint32_t from)
{
    return &path->share->rings[from][path->config.worker];
}

#endif
