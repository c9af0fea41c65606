/* A data plane on a UDP socket: one thread on one io_uring. A node always has one; a hub has one
 * where its socket carries more than AF_XDP does (hub/receive.py).
 *
 *   socket -> arrivals: many frames in one buffer -> vectors -> merges -> TUN
 *   socket <- trains: many frames in one buffer <- reads: one large packet <- TUN
 *
 * Each turn takes completions, opens what arrived vector by vector, cuts what the TUN gave, and
 * submits everything in one call. An arrival is lent to the kernel, or in our hands until the last
 * packet in it is done with; a read is lent, or waits to be cut; trains, writes and control frames
 * are in their slab, or named by what was submitted. */
#ifndef M13_REACTOR_H
#define M13_REACTOR_H

#include <stdatomic.h>

#include <netinet/in.h>
#include <sys/socket.h>

#include "offload.h"
#include "path.h"
#include "slab.h"
#include "thread.h"
#include "uring.h"

#define M13_REACTOR_CONTROLS 256 /* handshake and control frames on their way out */
#define M13_REACTOR_ARRIVALS 16  /* datagrams received, each perhaps many; power of two */
#define M13_REACTOR_READS    64  /* large packets read from the TUN; power of two */
#define M13_REACTOR_TRAINS   64  /* datagrams on their way out, many in one send */
#define M13_REACTOR_WRITES   256 /* large packets on their way to the TUN */
#define M13_REACTOR_WHOLES   256 /* packets put together from fragments, on their way there */
/* What one arrival may need of them: each frame its own; the kernel joins up to 128 datagrams
 * (UDP_MAX_SEGMENTS, include/linux/udp.h). */
#define M13_REACTOR_WRITES_ARRIVAL 128
#define M13_REACTOR_BUFFERS                                                                        \
    (M13_REACTOR_CONTROLS + M13_REACTOR_ARRIVALS + M13_REACTOR_READS + M13_REACTOR_TRAINS +        \
     M13_REACTOR_WRITES + M13_REACTOR_WHOLES)
/* the largest IPv4 packet and what the kernel puts before it, in pages */
#define M13_REACTOR_LARGE_BYTES    (17 * 4096)
#define M13_REACTOR_SEND_BYTES_MAX 65507 /* the largest UDP payload over IPv4 */
#define M13_REACTOR_ARENA_BYTES                                                                    \
    ((uint64_t)(M13_REACTOR_CONTROLS + M13_REACTOR_WHOLES) * M13_FRAME_BYTES +                     \
     (uint64_t)(M13_REACTOR_ARRIVALS + M13_REACTOR_READS + M13_REACTOR_TRAINS) *                   \
         M13_REACTOR_LARGE_BYTES)
#define M13_REACTOR_TURN_COMPLETIONS 128

/* Descriptors registered with the ring, by place. */
enum m13_reactor_file { M13_FILE_SOCKET, M13_FILE_TUN, M13_FILE_L2, M13_FILE_COUNT };

/* An address as the socket's family has it. */
union m13_reactor_name {
    struct sockaddr_in ipv4;
    struct sockaddr_in6 ipv6;
};

/* One send, and all the kernel reads of it until it completes: on a hub also from which of our
 * addresses (IP_PKTINFO, ip(7), or IPV6_PKTINFO, ipv6(7)), and for many datagrams at once their
 * size (UDP_SEGMENT, Linux 4.18). */
struct m13_reactor_send {
    struct msghdr message;
    struct iovec piece;
    union m13_reactor_name to;
    alignas(struct cmsghdr)
        uint8_t control[CMSG_SPACE(sizeof(struct in6_pktinfo)) + CMSG_SPACE(sizeof(uint16_t))];
};

/* Sealed frames of one peer one behind the other, of one length but the last: one send, which the
 * kernel or the NIC cuts into datagrams. */
struct m13_train {
    struct m13_reactor_send send;
    uint8_t *memory; /* M13_REACTOR_LARGE_BYTES */
    uint32_t frame_bytes;
    uint32_t bytes;
    uint16_t peer;
    bool closed; /* the last frame was a short one */
};

/* A receive buffer: datagrams of one sender that the kernel joined (UDP_GRO, Linux 5.0), or one L2
 * frame. */
struct m13_arrival {
    uint8_t *frames; /* the first one */
    uint32_t bytes;
    uint32_t frame_bytes; /* of each but the last */
    uint32_t held;        /* packets of it that are not done with, and one while it is cut */
    struct m13_endpoint source;
};

struct m13_reactor_config {
    struct m13_path_config path;
    uint8_t *arena; /* M13_REACTOR_ARENA_BYTES, borrowed, as all below */
    struct m13_channel *channel;
    struct m13_stats_page *page;
    int tun_fd;    /* non-blocking, IFF_TUN | IFF_NO_PI | IFF_VNET_HDR */
    int socket_fd; /* UDP with UDP_GRO, not connected; on a hub with packet information, on a node
                      with a filter that lets only the hub in */
    int l2_fd;     /* with l2: AF_PACKET, SOCK_RAW, bound to the interface and M13's EtherType; else
                      -1, as socket_fd on a node with l2 */
    int family;    /* of the socket: AF_INET, or AF_INET6, which serves both on a hub */
    uint8_t hub_address[M13_ENDPOINT_ADDRESS_BYTES]; /* node: where it is */
    uint16_t hub_port;                               /* host order */
    int core;                                        /* -1: wherever the kernel likes */
    bool sqpoll;
};

struct m13_reactor {
    struct m13_path path;
    struct m13_reactor_config config;
    struct m13_uring uring;
    struct m13_uring_group arrival_group;
    struct m13_uring_group read_group;
    struct m13_slab controls_free;
    struct m13_slab trains_free;
    struct m13_slab writes_free;
    struct m13_slab wholes_free;
    struct msghdr receive_shape; /* of every receive: room for name and control data */
    struct m13_vector inward;
    struct m13_vector outward; /* the frames of the open train */
    uint32_t train;            /* the open one, when outward is not empty */
    bool splitting;            /* a read packet is being cut */
    struct m13_split split;
    struct m13_packet large;                /* its peer and session */
    uint8_t oversize[M13_FRAME_BYTES];      /* an inner packet that is to be fragmented */
    bool segmentation_off;                  /* the kernel refused UDP_SEGMENT: one frame a send */
    uint32_t arrived[M13_REACTOR_ARRIVALS]; /* received and not yet opened, a queue */
    uint32_t arrived_head;
    uint32_t arrived_tail;
    uint32_t reads[M13_REACTOR_READS]; /* read and not yet cut, a queue */
    uint32_t read_bytes[M13_REACTOR_READS];
    uint32_t reads_head;
    uint32_t reads_tail;
    uint32_t lent_arrivals;  /* buffers at home in their group */
    uint32_t least_arrivals; /* the fewest there ever were, for telemetry */
    uint32_t lent_reads;
    bool receive_armed;
    bool l2_armed;
    bool tun_armed;
    bool answers_armed;
    bool single_reads;         /* a kernel before 6.7: the read is asked for again each time */
    uint64_t receive_retry_ns; /* after an error the request is armed again, not at once */
    uint64_t tun_retry_ns;
    uint64_t next_tick_ns;
    struct m13_patience patience;
    int stop_fd; /* eventfd, wakes the reactor */
    _Atomic bool stop;
    struct m13_reactor_send controls[M13_REACTOR_CONTROLS];
    struct m13_arrival arrivals[M13_REACTOR_ARRIVALS];
    struct m13_train trains[M13_REACTOR_TRAINS];
    struct m13_merge writes[M13_REACTOR_WRITES];
};

/* What config names stays its owner's and must outlive the reactor. -errno: no memory, no
 * eventfd, no such AEAD. */
int m13_reactor_create(struct m13_reactor **out, const struct m13_reactor_config *config);
/* After m13_reactor_run() returned. */
void m13_reactor_destroy(struct m13_reactor *reactor);

/* The thread's life; returns after m13_reactor_stop(). 0 or -errno (-ENOSYS, -EINVAL: the kernel
 * lacks what it needs). */
int m13_reactor_run(struct m13_reactor *reactor);

/* Any thread. */
void m13_reactor_stop(struct m13_reactor *reactor);

/* After m13_reactor_run() returned: buffers that came home neither before nor by the ring's end. */
uint32_t m13_reactor_settle(const struct m13_reactor *reactor);

/* --- the reactor's own parts -------------------------------------------------------------------
 */

enum m13_reactor_tag {
    M13_TAG_RECEIVE,
    M13_TAG_RECEIVE_L2,
    M13_TAG_READ,
    M13_TAG_WRITE,
    M13_TAG_CONTROL,
    M13_TAG_TRAIN,
    M13_TAG_ANSWERS,
    M13_TAG_STOP,
};
#define M13_TAG(kind, index) ((uint64_t)(kind) << 32 | (index))

static inline uint8_t *m13_reactor_control_frame(const struct m13_reactor *reactor, uint32_t index)
{
    return reactor->config.arena + (uint64_t)index * M13_FRAME_BYTES;
}

/* The frame a packet put together from fragments lies in; it has M13_FRAME_BYTES. */
static inline uint8_t *m13_reactor_whole_frame(const struct m13_reactor *reactor, uint32_t index)
{
    return reactor->config.arena + (uint64_t)(M13_REACTOR_CONTROLS + index) * M13_FRAME_BYTES;
}

/* Requests of the group's buffers, which stay armed, and what they answer (reactor_inward.c). */
void m13_reactor_received(struct m13_reactor *reactor, const struct io_uring_cqe *completion);
void m13_reactor_received_l2(struct m13_reactor *reactor, const struct io_uring_cqe *completion);
/* Opens what arrived and delivers or consumes it, as far as writes are free; completing writes wake
 * us for the rest. */
void m13_reactor_inward(struct m13_reactor *reactor);
void m13_reactor_written(struct m13_reactor *reactor, uint32_t index, int32_t result);

/* Endpoints and what the socket's family makes of them (reactor_address.c): room for a received
 * datagram's, then its source and how long its frames are; a send's destination, which on L2 is in
 * the frame, and which of our files sends. */
void m13_reactor_address_shape(struct m13_reactor *reactor);
void m13_reactor_address_read(struct m13_reactor *reactor, struct m13_arrival *arrival,
                              struct io_uring_recvmsg_out *out);
enum m13_reactor_file m13_reactor_address_write(const struct m13_reactor *reactor,
                                                struct m13_reactor_send *send,
                                                const struct m13_endpoint *to,
                                                uint16_t segment_bytes);

/* Packets out of the TUN: a completion of the read request, then as many as trains are free for
 * are cut, sealed and sent (reactor_outward.c). */
void m13_reactor_read(struct m13_reactor *reactor, const struct io_uring_cqe *completion);
void m13_reactor_outward(struct m13_reactor *reactor);
/* Counts and gives up what was read and not yet cut. */
void m13_reactor_drop_reads(struct m13_reactor *reactor);
/* Whether trains enough are free for the packet in oversize; it leaves as sealed fragments. */
bool m13_reactor_may_fragment(const struct m13_reactor *reactor);
void m13_reactor_fragment(struct m13_reactor *reactor, uint32_t inner_bytes,
                          const struct m13_packet *like);
/* Room for one more inner packet in an open train, which outward then holds; NULL: none free. */
struct m13_wire_frame *m13_reactor_append(struct m13_reactor *reactor, uint32_t inner_bytes,
                                          const struct m13_packet *like);
void m13_reactor_train_sent(struct m13_reactor *reactor, uint32_t index, int32_t result);

/* The outlet of control frames, and their completion. */
struct m13_wire_frame *m13_reactor_take_control(void *owner, uint32_t *index);
void m13_reactor_send_control(void *owner, const struct m13_endpoint *to, uint32_t index,
                              uint32_t bytes);
void m13_reactor_control_sent(struct m13_reactor *reactor, uint32_t index, int32_t result);

#endif
