/* A node's life: creation, stopping, and the count of its buffers at the end. */
#include "node_worker.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

static void describe_groups(struct m13_node *node)
{
    node->receive_group =
        (struct m13_uring_group){.arena = node->config.arena,
                                 .buffer_bytes = M13_FRAME_BYTES,
                                 /* the inner packet of a datagram starts on a cache line */
                                 .buffer_offset = 2,
                                 .buffer_room = M13_FRAME_BYTES - 2,
                                 .entries = M13_NODE_FRAMES_RECEIVE,
                                 .id = 0};
    node->tun_group = (struct m13_uring_group){.arena = node->config.arena,
                                               .buffer_bytes = M13_FRAME_BYTES,
                                               .buffer_offset = M13_TUN_OFFSET,
                                               .buffer_room = M13_FRAME_BYTES - M13_TUN_OFFSET,
                                               .entries = M13_NODE_FRAMES_TUN,
                                               .id = 1};
}

int m13_node_create(struct m13_node **out, const struct m13_node_config *config)
{
    struct m13_node *node = aligned_alloc(alignof(struct m13_node), sizeof *node);
    if (!node)
        return -ENOMEM;
    memset(node, 0, sizeof *node);
    node->config = *config;
    node->stop_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    describe_groups(node);
    int error = node->stop_fd < 0 ? -errno : 0;
    if (!error)
        error = m13_path_init(&node->path, &config->path, 1, config->channel, config->page);
    else
        node->path.event_fd = -1;
    if (!error)
        error = m13_slab_init(&node->control, M13_NODE_FRAMES_CONTROL);
    if (error) {
        m13_node_destroy(node);
        return error;
    }
    *out = node;
    return 0;
}

void m13_node_destroy(struct m13_node *node)
{
    if (!node)
        return;
    m13_path_fini(&node->path);
    if (node->stop_fd >= 0)
        close(node->stop_fd);
    free(node);
}

void m13_node_stop(struct m13_node *node)
{
    uint64_t one = 1;
    atomic_store(&node->stop, true);
    if (write(node->stop_fd, &one, sizeof one) < 0)
        return; /* already full: it wakes just as well */
}

uint32_t m13_node_settle(const struct m13_node *node)
{
    return M13_NODE_FRAMES - node->control.count_free - node->lent_receive - node->lent_tun;
}
