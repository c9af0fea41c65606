/* A node's data plane: one reactor thread on one io_uring.
 *
 * Each turn takes completions in three passes: drain and sort them, open what was received as one
 * batch, then dispatch. Buffers have a home: the receive group, the TUN group, or the slab of
 * control frames; whoever finishes with a buffer sends it home. Owners are the kernel (lent to a
 * group, or named by a submitted send or write) or the vector being worked on. */
#ifndef M13_NODE_WORKER_H
#define M13_NODE_WORKER_H

#include <stdatomic.h>

#include "path.h"
#include "slab.h"
#include "uring.h"

#define M13_NODE_FRAMES_CONTROL 256  /* handshake and control, numbered from 0 */
#define M13_NODE_FRAMES_RECEIVE 1024 /* datagrams; power of two */
#define M13_NODE_FRAMES_TUN     512  /* packets read from the TUN; power of two */
#define M13_NODE_FRAMES         (M13_NODE_FRAMES_CONTROL + M13_NODE_FRAMES_RECEIVE + M13_NODE_FRAMES_TUN)
#define M13_NODE_ARENA_BYTES    ((uint64_t)M13_NODE_FRAMES * M13_FRAME_BYTES)
#define M13_NODE_CQE_BATCH      128 /* completions per turn */

struct m13_node_config {
    struct m13_path_config path;
    uint8_t *arena; /* M13_NODE_ARENA_BYTES, borrowed, as all below */
    struct m13_channel *channel;
    struct m13_stats_page *page;
    int tun_fd;    /* blocking, IFF_TUN | IFF_NO_PI */
    int socket_fd; /* UDP, connected to the hub */
    int core;      /* -1: wherever the kernel likes */
    bool sqpoll;
};

struct m13_node {
    struct m13_path path;
    struct m13_node_config config;
    struct m13_uring uring;
    struct m13_uring_group receive_group;
    struct m13_uring_group tun_group;
    struct m13_slab control;
    struct m13_vector inward;
    struct m13_vector outward;
    uint32_t lent_receive; /* buffers at home in their group */
    uint32_t lent_tun;
    bool receive_armed;
    bool tun_armed;
    bool answers_armed;
    uint64_t receive_retry_ns; /* after an error the request is armed again, not at once */
    uint64_t tun_retry_ns;
    uint64_t next_tick_ns;
    int stop_fd; /* eventfd, wakes the reactor */
    _Atomic bool stop;
};

int m13_node_create(struct m13_node **out, const struct m13_node_config *config);
/* After m13_node_run() returned. */
void m13_node_destroy(struct m13_node *node);

/* The reactor; returns after m13_node_stop(). 0 or -errno (-ENOSYS, -EINVAL: the kernel lacks
 * what it needs). */
int m13_node_run(struct m13_node *node);

/* Any thread. */
void m13_node_stop(struct m13_node *node);

/* After m13_node_run() returned: buffers that came home neither before nor by the ring's end. */
uint32_t m13_node_settle(const struct m13_node *node);

#endif
