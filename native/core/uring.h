/* A node's io_uring: one ring, and buffer groups the kernel picks receive buffers from.
 *
 * A buffer group is a ring of buffers shared with the kernel (IORING_REGISTER_PBUF_RING, Linux
 * 5.19). A buffer belongs to the kernel from m13_uring_lend() until a completion names it. Each
 * buffer has its number in the whole arena as its id. Everything is called by one thread, the one
 * that created the ring (IORING_SETUP_SINGLE_ISSUER). */
#ifndef M13_URING_H
#define M13_URING_H

#include <liburing.h>
#include <stdbool.h>
#include <stdint.h>

/* It spins so long after the last submission: many times what lies between two while packets flow,
 * and half a percent of a keepalive interval, so an idle tunnel costs its core nothing. */
#define M13_URING_SQPOLL_IDLE_MS 5
#define M13_URING_ENTRIES        512

/* Since Linux 6.7; the name is missing from older headers (include/uapi/linux/io_uring.h). */
#define M13_URING_OP_READ_MULTISHOT 49

struct m13_uring_group {
    struct io_uring_buf_ring *ring;
    uint8_t *arena;         /* memory of buffer 0 */
    uint32_t buffer_bytes;  /* distance between buffers */
    uint32_t buffer_offset; /* where in a buffer the kernel may write */
    uint32_t buffer_room;   /* how much it may write there */
    uint32_t entries;       /* power of two */
    uint32_t staged;        /* lent, not yet visible to the kernel */
    uint16_t id;
};

struct m13_uring {
    struct io_uring ring;
    bool sqpoll;
    bool ready;
};

/* sqpoll: a kernel thread submits, sleeping after 2000 ms of idleness; otherwise completions run
 * when we ask for them (DEFER_TASKRUN, Linux 6.1). 0 or -errno. */
int m13_uring_init(struct m13_uring *uring, bool sqpoll);
void m13_uring_fini(struct m13_uring *uring);

/* Registers an empty group; the fields from arena to id are set by the caller. */
int m13_uring_group_init(struct m13_uring *uring, struct m13_uring_group *group);
void m13_uring_group_fini(struct m13_uring *uring, struct m13_uring_group *group);

/* A submission entry; submits what is staged when the ring is full, so it is never NULL unless
 * the kernel refuses to take any. */
struct io_uring_sqe *m13_uring_entry(struct m13_uring *uring);

/* These keep delivering completions until one comes without IORING_CQE_F_MORE. socket and file are
 * places in the table of registered descriptors. A receive (Linux 6.0) lays out its buffer as
 * struct io_uring_recvmsg_out, name and control data of the sizes in shape, payload; shape stays
 * while the request does. A multishot read needs Linux 6.7 and fails with -EINVAL before; a single
 * one reads one packet. */
int m13_uring_receive_multishot(struct m13_uring *uring, int socket, struct msghdr *shape,
                                const struct m13_uring_group *group, uint64_t user_data);
int m13_uring_read(struct m13_uring *uring, int file, const struct m13_uring_group *group,
                   bool multishot, uint64_t user_data);
int m13_uring_poll_multishot(struct m13_uring *uring, int fd, uint64_t user_data);

/* Gives a buffer to the kernel; visible after m13_uring_publish(). */
static inline void m13_uring_lend(struct m13_uring_group *group, uint32_t buffer)
{
    uint8_t *memory = group->arena + (uint64_t)buffer * group->buffer_bytes;
    io_uring_buf_ring_add(group->ring, memory + group->buffer_offset, group->buffer_room,
                          (uint16_t)buffer, io_uring_buf_ring_mask(group->entries),
                          (int)group->staged++);
}

static inline void m13_uring_publish(struct m13_uring_group *group)
{
    if (group->staged)
        io_uring_buf_ring_advance(group->ring, (int)group->staged);
    group->staged = 0;
}

#endif
