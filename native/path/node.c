/* A node's life: creation, stopping, and the count of its buffers at the end. */
#include "node_worker.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

static void lay_out_arena(struct m13_node *node)
{
    node->receive_group =
        (struct m13_uring_group){.arena = node->config.arena,
                                 .buffer_bytes = M13_FRAME_BYTES,
                                 /* the inner packet of a datagram starts on a cache line */
                                 .buffer_offset = 2,
                                 .buffer_room = M13_FRAME_BYTES - 2,
                                 .entries = M13_NODE_FRAMES_RECEIVE,
                                 .id = 0};
    uint8_t *reads = node->config.arena + (uint64_t)M13_NODE_FRAMES * M13_FRAME_BYTES;
    uint8_t *trains = reads + (uint64_t)M13_NODE_READS * M13_NODE_READ_BYTES;
    node->tun_group =
        (struct m13_uring_group){.arena = reads,
                                 .buffer_bytes = M13_NODE_READ_BYTES,
                                 .buffer_room = M13_OFFLOAD_HEADER_BYTES + M13_OFFLOAD_PACKET_MAX,
                                 .entries = M13_NODE_READS,
                                 .id = 1};
    for (uint32_t index = 0; index < M13_NODE_TRAINS; index++)
        node->trains[index].memory = trains + (uint64_t)index * M13_NODE_TRAIN_BYTES;
}

int m13_node_create(struct m13_node **out, const struct m13_node_config *config)
{
    struct m13_node *node = aligned_alloc(alignof(struct m13_node), sizeof *node);
    if (!node)
        return -ENOMEM;
    memset(node, 0, sizeof *node);
    node->config = *config;
    node->stop_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    lay_out_arena(node);
    int error = node->stop_fd < 0 ? -errno : 0;
    if (!error)
        error = m13_path_init(&node->path, &config->path, 1, config->channel, config->page);
    else
        node->path.event_fd = -1;
    if (!error)
        error = m13_slab_init(&node->control, M13_NODE_FRAMES_CONTROL);
    if (!error)
        error = m13_slab_init(&node->trains_free, M13_NODE_TRAINS);
    if (!error)
        error = m13_slab_init(&node->writes_free, M13_NODE_WRITES);
    if (error) {
        m13_node_destroy(node);
        return error;
    }
    node->path.peers.slots[0].endpoint.address = config->hub.sin_addr.s_addr;
    node->path.peers.slots[0].endpoint.port = config->hub.sin_port;
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
    return M13_NODE_FRAMES - node->control.count_free - node->lent_receive + M13_NODE_READS -
           node->lent_reads + M13_NODE_TRAINS - node->trains_free.count_free + M13_NODE_WRITES -
           node->writes_free.count_free;
}
