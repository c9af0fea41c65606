/*
 * An AF_XDP socket on one queue of one interface, over packet memory the caller owns.
 *
 * Four rings carry frames between us and the kernel. A frame belongs to the kernel from
 * m13_xdp_refill until m13_xdp_receive, and from m13_xdp_transmit until m13_xdp_reclaim; never to
 * both rings at once. All calls after create belong to one thread.
 *
 * Received packets start XDP_PACKET_HEADROOM (256) bytes into their frame. Packets to send may
 * start anywhere in theirs, so an answer can be built in front of what was received.
 */
#ifndef M13_XDP_H
#define M13_XDP_H

#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <xdp/xsk.h>

/* A packet: where it starts in this socket's share of the packet memory, and its length. */
struct m13_xdp_frame {
    uint64_t address;
    uint32_t length;
};

struct m13_xdp_config {
    const char *interface;
    uint32_t queue;
    void *umem;
    uint64_t umem_bytes;  /* a multiple of frame_bytes */
    uint32_t frame_bytes; /* 2048 or 4096 */
    uint32_t fill_slots;  /* this and the next three: powers of two */
    uint32_t completion_slots;
    uint32_t receive_slots;
    uint32_t transmit_slots;
    bool try_zero_copy;
    bool generic; /* the program is attached in generic mode: zero-copy cannot work */
    /* Another queue's socket over the same umem, which it outlives this one; NULL: none. Frames are
     * numbered from `first_byte` of the umem, where this socket's share of it begins. */
    struct m13_xdp *sharing;
    uint64_t first_byte; /* a multiple of frame_bytes */
};

struct m13_xdp {
    /* hot: touched per packet by the owning thread */
    struct xsk_ring_cons receive;
    struct xsk_ring_prod fill;
    struct xsk_ring_prod transmit;
    struct xsk_ring_cons completion;
    uint32_t frame_shift;
    uint64_t first_byte; /* where frame 0 begins */
    int fd;
    /* cold: set at bring-up */
    uint32_t transmit_budget; /* packets one kick sends in copy mode */
    bool zero_copy;
    int zero_copy_error; /* why zero-copy was not had: 0 (had, or not tried) or -errno */
    struct xsk_socket *socket;
    struct xsk_umem *umem;
    bool owns_umem;
};

struct m13_xdp_statistics {
    uint64_t receive_dropped;
    uint64_t receive_ring_full;
    uint64_t fill_ring_empty;
    uint64_t receive_invalid;
    uint64_t transmit_invalid; /* each of these lost a frame: it never completes */
    uint64_t transmit_ring_empty;
};

/* 0 or -errno. -EBUSY: another socket holds the queue. */
int m13_xdp_create(struct m13_xdp **out, const struct m13_xdp_config *config);
/* All frames in the rings are the caller's again. NULL is fine. */
void m13_xdp_destroy(struct m13_xdp *xdp);
int m13_xdp_statistics(const struct m13_xdp *xdp, struct m13_xdp_statistics *out);

static inline uint32_t m13_xdp_frame_number(const struct m13_xdp *xdp, uint64_t address)
{
    return (uint32_t)(address >> xdp->frame_shift);
}

/* Takes up to `max` received packets over from the kernel. */
static inline uint32_t m13_xdp_receive(struct m13_xdp *xdp, struct m13_xdp_frame *out, uint32_t max)
{
    uint32_t first = 0;
    uint32_t count = xsk_ring_cons__peek(&xdp->receive, max, &first);

    for (uint32_t i = 0; i < count; i++) {
        const struct xdp_desc *slot = xsk_ring_cons__rx_desc(&xdp->receive, first + i);

        out[i] =
            (struct m13_xdp_frame){.address = slot->addr - xdp->first_byte, .length = slot->len};
    }
    if (count)
        xsk_ring_cons__release(&xdp->receive, count);
    return count;
}

static inline uint32_t m13_xdp_refill_space(struct m13_xdp *xdp)
{
    return xsk_prod_nb_free(&xdp->fill, xdp->fill.size);
}

/*
 * Hands `count` frames to the kernel to receive into; at most m13_xdp_refill_space of them, asked
 * every time: the kernel shows a received packet before it frees the fill slot that held its frame.
 */
static inline void m13_xdp_refill(struct m13_xdp *xdp, const uint32_t *frames, uint32_t count)
{
    uint32_t first = 0;
    uint32_t reserved = xsk_ring_prod__reserve(&xdp->fill, count, &first);

    assert(reserved == count);
    (void)reserved;
    for (uint32_t i = 0; i < count; i++)
        *xsk_ring_prod__fill_addr(&xdp->fill, first + i) =
            xdp->first_byte + ((uint64_t)frames[i] << xdp->frame_shift);
    xsk_ring_prod__submit(&xdp->fill, count);
}

/* Takes up to `max` sent frames back from the kernel. */
static inline uint32_t m13_xdp_reclaim(struct m13_xdp *xdp, uint32_t *frames, uint32_t max)
{
    uint32_t first = 0;
    uint32_t count = xsk_ring_cons__peek(&xdp->completion, max, &first);

    for (uint32_t i = 0; i < count; i++)
        frames[i] = m13_xdp_frame_number(
            xdp, *xsk_ring_cons__comp_addr(&xdp->completion, first + i) - xdp->first_byte);
    if (count)
        xsk_ring_cons__release(&xdp->completion, count);
    return count;
}

static inline uint32_t m13_xdp_transmit_space(struct m13_xdp *xdp)
{
    return xsk_prod_nb_free(&xdp->transmit, xdp->transmit.size);
}

/*
 * Hands `count` packets to the kernel to send; at most m13_xdp_transmit_space of them. An empty
 * packet, or one that crosses the end of its frame, would be skipped by the kernel and never
 * complete. Nothing leaves before m13_xdp_kick.
 */
static inline void m13_xdp_transmit(struct m13_xdp *xdp, const struct m13_xdp_frame *frames,
                                    uint32_t count)
{
    uint32_t first = 0;
    uint32_t reserved = xsk_ring_prod__reserve(&xdp->transmit, count, &first);

    assert(reserved == count);
    (void)reserved;
    for (uint32_t i = 0; i < count; i++) {
        struct xdp_desc *slot = xsk_ring_prod__tx_desc(&xdp->transmit, first + i);

        assert(frames[i].length > 0);
        assert(m13_xdp_frame_number(xdp, frames[i].address) ==
               m13_xdp_frame_number(xdp, frames[i].address + frames[i].length - 1));
        *slot =
            (struct xdp_desc){.addr = xdp->first_byte + frames[i].address, .len = frames[i].length};
    }
    xsk_ring_prod__submit(&xdp->transmit, count);
}

/* Packets handed over that the kernel has not begun to send. */
static inline uint32_t m13_xdp_transmit_pending(const struct m13_xdp *xdp)
{
    return *xdp->transmit.producer - __atomic_load_n(xdp->transmit.consumer, __ATOMIC_ACQUIRE);
}

/*
 * Makes the kernel send, when it does not by itself (in copy mode it never does). One call sends at
 * most transmit_budget packets: while m13_xdp_transmit_pending, call again, now or later. 0 also
 * when the device is busy. Other errors (-ENETDOWN while the link is down, -ENXIO when the device
 * is gone) lose nothing: the packets stay in the ring.
 */
static inline int m13_xdp_kick(struct m13_xdp *xdp)
{
    if (!xsk_ring_prod__needs_wakeup(&xdp->transmit))
        return 0;
    if (sendto(xdp->fd, NULL, 0, MSG_DONTWAIT, NULL, 0) >= 0)
        return 0;
    return errno == EAGAIN || errno == EBUSY || errno == ENOBUFS ? 0 : -errno;
}

/* After a refill: tells a zero-copy driver that ran out of frames to go on. Free in copy mode. */
static inline void m13_xdp_wake_receive(struct m13_xdp *xdp)
{
    if (xsk_ring_prod__needs_wakeup(&xdp->fill))
        recvfrom(xdp->fd, NULL, 0, MSG_DONTWAIT, NULL, NULL);
}

#endif
