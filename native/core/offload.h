/* Segmentation and coalescing at the TUN: one large packet to or from the kernel stands for many.
 *
 * A TUN with IFF_VNET_HDR puts a struct virtio_net_hdr (include/uapi/linux/virtio_net.h) before
 * every packet. Reading, the kernel may leave checksums and segmentation to us: m13_split cuts such
 * a packet into the ones a kernel without offloads would have sent. Writing, m13_merge joins
 * packets of one flow that follow each other exactly, so that cutting them again gives the same
 * packets; whatever does not fit stays alone and unchanged. TCP and UDP, over IPv4 and IPv6;
 * nothing else is ever cut or joined. */
#ifndef M13_OFFLOAD_H
#define M13_OFFLOAD_H

#include <linux/virtio_net.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#define M13_OFFLOAD_GSO_UDP_L4   5 /* VIRTIO_NET_HDR_GSO_UDP_L4 of Linux 6.2 */
#define M13_OFFLOAD_HEADER_BYTES ((uint32_t)sizeof(struct virtio_net_hdr))
#define M13_OFFLOAD_PACKET_MAX                                                                     \
    65535                        /* total length field of IPv4; IPv6 may be 40 more, and need not */
#define M13_MERGE_PACKETS_MAX 64 /* joined into one write */
#define M13_MERGE_FLOWS_MAX   8  /* flows of a vector that are joined side by side */

/* --- cutting --------------------------------------------------------------------------------- */

struct m13_split {
    const uint8_t *packet; /* from its IP header */
    uint32_t bytes;
    uint32_t header_bytes;   /* IP and TCP or UDP header; 0: not cut */
    uint32_t ip_bytes;       /* of them the IP header, with its options or extensions */
    uint32_t segment_bytes;  /* payload of each but the last */
    uint32_t done;           /* payload handed out */
    uint32_t index;          /* segments handed out */
    uint16_t checksum_start; /* where an unfinished checksum begins; 0: it is finished */
    uint16_t checksum_offset;
    uint8_t protocol;
    bool is_ipv6;
    uint64_t ip_sum;        /* of the headers, without what differs from packet to packet */
    uint64_t transport_sum; /* with the pseudo header's addresses and protocol */
};

/* Begins with what was read from the TUN: a header and a packet. False when the two contradict
 * each other; nothing is to be handed out then. The buffer must stay until the end. */
bool m13_split_begin(struct m13_split *split, const uint8_t *data, uint32_t bytes);

/* Bytes of the next packet, 0 at the end. */
uint32_t m13_split_next_bytes(const struct m13_split *split);

/* Writes the next packet, complete with checksums; out holds m13_split_next_bytes(). */
void m13_split_next(struct m13_split *split, uint8_t *out);

/* --- joining --------------------------------------------------------------------------------- */

/* One write to the TUN: pieces[0] is the header below, pieces[1] the first packet, the others the
 * payloads of those that follow it. */
struct m13_merge {
    struct virtio_net_hdr header;
    uint32_t count;        /* packets */
    uint32_t bytes;        /* of the joined packet */
    uint8_t *packet;       /* the first one */
    uint32_t header_bytes; /* 0: nothing can follow */
    uint32_t ip_bytes;     /* of them the IP header */
    uint32_t segment_bytes;
    uint32_t next_sequence; /* TCP: what must follow */
    uint16_t next_id;
    uint8_t protocol;
    bool closed; /* a short or PSH segment was the last */
    struct iovec pieces[M13_MERGE_PACKETS_MAX + 1];
    uint32_t origin[M13_MERGE_PACKETS_MAX]; /* the caller's names of the packets */
};

/* The merges that are open side by side, one a flow, oldest first. */
struct m13_merge_set {
    bool udp_stays_alone; /* the kernel takes no large UDP packets (before Linux 6.2) */
    uint32_t count;
    struct m13_merge *open[M13_MERGE_FLOWS_MAX];
};

/* Joins the packet to the open merge of its flow; false: it must begin one. */
bool m13_merge_join(struct m13_merge_set *set, uint8_t *packet, uint32_t bytes, uint32_t origin);

/* Begins fresh with the packet. Answers the merge that leaves the set for it and is to be written
 * now, or NULL. */
struct m13_merge *m13_merge_open(struct m13_merge_set *set, struct m13_merge *fresh,
                                 uint8_t *packet, uint32_t bytes, uint32_t origin);

/* Completes header and lengths; then pieces[0..count] can be written. */
void m13_merge_finish(struct m13_merge *merge);

#endif
