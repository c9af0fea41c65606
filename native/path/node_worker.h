/* A node's data plane: one reactor thread on one io_uring.
 *
 * Each turn takes completions in three passes: drain and sort them, open what was received as one
 * batch, then dispatch. Buffers have a home: the receive group, the TUN group, or the slab of
 * control frames; whoever finishes with a buffer sends it home. Owners are the kernel (lent to a
 * group, or named by a submitted send or write) or the vector being worked on. */
#ifndef M13_NODE_WORKER_H
#define M13_NODE_WORKER_H

#include <stdatomic.h>

#include <netinet/in.h>
#include <sys/socket.h>

#include "offload.h"
#include "path.h"
#include "slab.h"
#include "uring.h"

#define M13_NODE_FRAMES_CONTROL 256  /* handshake and control, numbered from 0 */
#define M13_NODE_FRAMES_RECEIVE 1024 /* datagrams; power of two */
#define M13_NODE_READS          64   /* large packets read from the TUN; power of two */
#define M13_NODE_TRAINS         64   /* datagrams on their way out, many in one send */
#define M13_NODE_WRITES         128  /* large packets on their way to the TUN */
#define M13_NODE_FRAMES         (M13_NODE_FRAMES_CONTROL + M13_NODE_FRAMES_RECEIVE)
#define M13_NODE_READ_BYTES     (17 * 4096) /* a TUN header and the largest IPv4 packet, in pages */
#define M13_NODE_TRAIN_BYTES    65536
#define M13_NODE_SEND_BYTES_MAX 65507 /* the largest UDP payload over IPv4 */
#define M13_NODE_ARENA_BYTES                                                                       \
    ((uint64_t)M13_NODE_FRAMES * M13_FRAME_BYTES +                                                 \
     (uint64_t)M13_NODE_READS * M13_NODE_READ_BYTES +                                              \
     (uint64_t)M13_NODE_TRAINS * M13_NODE_TRAIN_BYTES)
#define M13_NODE_CQE_BATCH 128 /* completions per turn */

/* Sealed frames one behind the other, of one length but the last: one send, which the kernel or
 * the NIC cuts into datagrams (UDP_SEGMENT, Linux 4.18). */
struct m13_train {
    struct msghdr message;
    struct iovec piece;
    alignas(struct cmsghdr) uint8_t control[CMSG_SPACE(sizeof(uint16_t))];
    uint8_t *memory; /* M13_NODE_TRAIN_BYTES */
    uint32_t frame_bytes;
    uint32_t bytes;
    bool closed; /* the last frame was a short one */
};

/* A frame of the control slab on its way; the kernel may read this until it completes. */
struct m13_control_send {
    struct msghdr message;
    struct iovec piece;
};

struct m13_node_config {
    struct m13_path_config path;
    uint8_t *arena; /* M13_NODE_ARENA_BYTES, borrowed, as all below */
    struct m13_channel *channel;
    struct m13_stats_page *page;
    int tun_fd;    /* blocking, IFF_TUN | IFF_NO_PI | IFF_VNET_HDR */
    int socket_fd; /* UDP, not connected, with a filter that lets only the hub in */
    struct sockaddr_in hub;
    int core; /* -1: wherever the kernel likes */
    bool sqpoll;
};

struct m13_node {
    struct m13_path path;
    struct m13_node_config config;
    struct m13_uring uring;
    struct m13_uring_group receive_group;
    struct m13_uring_group tun_group;
    struct m13_slab control; /* frames */
    struct m13_slab trains_free;
    struct m13_slab writes_free;
    struct m13_vector inward;
    struct m13_vector outward; /* the frames of the open train */
    uint32_t train;            /* the open one, when outward is not empty */
    bool splitting;            /* a read packet is being cut */
    struct m13_split split;
    struct m13_packet large;        /* its peer and session */
    bool segmentation_off;          /* the kernel refused UDP_SEGMENT: one datagram a send */
    uint32_t reads[M13_NODE_READS]; /* read and not yet cut, a queue */
    uint32_t read_bytes[M13_NODE_READS];
    uint32_t reads_head;
    uint32_t reads_tail;
    uint32_t lent_receive; /* buffers at home in their group */
    uint32_t lent_reads;
    bool receive_armed;
    bool tun_armed;
    bool answers_armed;
    bool single_reads;         /* a kernel before 6.7: the read is asked for again each time */
    uint64_t receive_retry_ns; /* after an error the request is armed again, not at once */
    uint64_t tun_retry_ns;
    uint64_t next_tick_ns;
    int stop_fd; /* eventfd, wakes the reactor */
    _Atomic bool stop;
    struct m13_control_send control_sends[M13_NODE_FRAMES_CONTROL];
    struct m13_train trains[M13_NODE_TRAINS];
    struct m13_merge writes[M13_NODE_WRITES];
};

int m13_node_create(struct m13_node **out, const struct m13_node_config *config);
/* After m13_node_run() returned. */
void m13_node_destroy(struct m13_node *node);

/* The reactor; returns after m13_node_stop(). 0 or -errno (-ENOSYS, -EINVAL: the kernel lacks
 * what it needs). */
int m13_node_run(struct m13_node *node);

/* Any thread. */
void m13_node_stop(struct m13_node *node);

/* --- the reactor's own parts -------------------------------------------------------------------
 */

enum m13_node_tag {
    M13_TAG_RECEIVE,
    M13_TAG_READ,
    M13_TAG_WRITE,
    M13_TAG_SEND,
    M13_TAG_TRAIN,
    M13_TAG_ANSWERS,
    M13_TAG_STOP,
};
#define M13_TAG(kind, index) ((uint64_t)(kind) << 32 | (index))

static inline uint8_t *m13_node_frame(const struct m13_node *node, uint32_t index)
{
    return node->config.arena + (uint64_t)index * M13_FRAME_BYTES;
}

/* A frame nobody needs any more, back to the slab or the receive group. */
void m13_node_send_home(struct m13_node *node, uint32_t index);

/* Packets out of the TUN: a completion of the read request, then as many as trains are free for
 * are cut, sealed and sent. */
void m13_node_read(struct m13_node *node, const struct io_uring_cqe *completion);
void m13_node_outward(struct m13_node *node);
/* Room for one more inner packet in the open train, which outward then holds; NULL: none free. */
struct m13_wire_frame *m13_node_append(struct m13_node *node, uint32_t inner_bytes,
                                       const struct m13_packet *like);
void m13_node_train_sent(struct m13_node *node, uint32_t index, int32_t result);

/* Packets into the TUN: every TO_TUN packet of inward, joined by flow, KEPT afterwards. */
void m13_node_write(struct m13_node *node);
void m13_node_written(struct m13_node *node, uint32_t index, int32_t result);

/* After m13_node_run() returned: buffers that came home neither before nor by the ring's end. */
uint32_t m13_node_settle(const struct m13_node *node);

#endif
