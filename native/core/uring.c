/* Setting up the ring and its buffer groups, and the multishot requests. */
#include "uring.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <poll.h>

int m13_uring_init(struct m13_uring *uring, bool sqpoll)
{
    struct io_uring_params params = {.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_CQSIZE,
                                     .cq_entries = 8 * M13_URING_ENTRIES};
    memset(uring, 0, sizeof *uring);
    if (sqpoll) {
        params.flags |= IORING_SETUP_SQPOLL;
        params.sq_thread_idle = M13_URING_SQPOLL_IDLE_MS;
    } else {
        params.flags |= IORING_SETUP_DEFER_TASKRUN;
    }
    int error = io_uring_queue_init_params(M13_URING_ENTRIES, &uring->ring, &params);
    uring->sqpoll = sqpoll;
    uring->ready = !error;
    if (uring->ready)
        io_uring_register_ring_fd(&uring->ring); /* an optimisation: may be refused */
    return error;
}

void m13_uring_fini(struct m13_uring *uring)
{
    if (uring->ready)
        io_uring_queue_exit(&uring->ring);
    uring->ready = false;
}

static size_t group_bytes(const struct m13_uring_group *group)
{
    return group->entries * sizeof(struct io_uring_buf);
}

int m13_uring_group_init(struct m13_uring *uring, struct m13_uring_group *group)
{
    void *memory =
        mmap(NULL, group_bytes(group), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        return -errno;
    struct io_uring_buf_reg registration = {.ring_addr = (uint64_t)(uintptr_t)memory,
                                            .ring_entries = group->entries,
                                            .bgid = group->id};
    int error = io_uring_register_buf_ring(&uring->ring, &registration, 0);
    if (error) {
        munmap(memory, group_bytes(group));
        return error;
    }
    group->ring = memory;
    group->staged = 0;
    io_uring_buf_ring_init(group->ring);
    return 0;
}

void m13_uring_group_fini(struct m13_uring *uring, struct m13_uring_group *group)
{
    if (!group->ring)
        return;
    if (uring->ready)
        io_uring_unregister_buf_ring(&uring->ring, group->id);
    munmap(group->ring, group_bytes(group));
    group->ring = NULL;
}

struct io_uring_sqe *m13_uring_entry(struct m13_uring *uring)
{
    struct io_uring_sqe *entry = io_uring_get_sqe(&uring->ring);
    /* with SQPOLL the kernel thread empties the ring in its own time */
    for (int tries = 0; !entry && tries < 1000; tries++) {
        if (io_uring_submit(&uring->ring) < 0)
            break;
        if (uring->sqpoll)
            io_uring_sqring_wait(&uring->ring);
        entry = io_uring_get_sqe(&uring->ring);
    }
    return entry;
}

int m13_uring_receive_multishot(struct m13_uring *uring, int socket, struct msghdr *shape,
                                const struct m13_uring_group *group, uint64_t user_data)
{
    struct io_uring_sqe *entry = m13_uring_entry(uring);
    if (!entry)
        return -EBUSY;
    io_uring_prep_recvmsg_multishot(entry, socket, shape, 0);
    entry->flags |= IOSQE_BUFFER_SELECT | IOSQE_FIXED_FILE;
    entry->buf_group = group->id;
    io_uring_sqe_set_data64(entry, user_data);
    return 0;
}

int m13_uring_read(struct m13_uring *uring, int file, const struct m13_uring_group *group,
                   bool multishot, uint64_t user_data)
{
    struct io_uring_sqe *entry = m13_uring_entry(uring);
    if (!entry)
        return -EBUSY;
    io_uring_prep_rw(multishot ? M13_URING_OP_READ_MULTISHOT : IORING_OP_READ, entry, file, NULL,
                     multishot ? 0 : group->buffer_room, 0);
    entry->flags |= IOSQE_BUFFER_SELECT | IOSQE_FIXED_FILE;
    entry->buf_group = group->id;
    io_uring_sqe_set_data64(entry, user_data);
    return 0;
}

int m13_uring_poll_multishot(struct m13_uring *uring, int fd, uint64_t user_data)
{
    struct io_uring_sqe *entry = m13_uring_entry(uring);
    if (!entry)
        return -EBUSY;
    io_uring_prep_poll_multishot(entry, fd, POLLIN);
    io_uring_sqe_set_data64(entry, user_data);
    return 0;
}
