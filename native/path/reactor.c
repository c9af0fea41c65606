/* A reactor's life: creation, stopping, and the count of its buffers at the end. */
#include "reactor.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

static void lay_out_arena(struct m13_reactor *reactor)
{
    uint8_t *arrivals = reactor->config.arena +
                        (uint64_t)(M13_REACTOR_CONTROLS + M13_REACTOR_WHOLES) * M13_FRAME_BYTES;
    uint8_t *reads = arrivals + (uint64_t)M13_REACTOR_ARRIVALS * M13_REACTOR_LARGE_BYTES;
    uint8_t *trains = reads + (uint64_t)M13_REACTOR_READS * M13_REACTOR_LARGE_BYTES;
    reactor->arrival_group = (struct m13_uring_group){.arena = arrivals,
                                                      .buffer_bytes = M13_REACTOR_LARGE_BYTES,
                                                      .buffer_room = M13_REACTOR_LARGE_BYTES,
                                                      .entries = M13_REACTOR_ARRIVALS,
                                                      .id = 0};
    reactor->read_group =
        (struct m13_uring_group){.arena = reads,
                                 .buffer_bytes = M13_REACTOR_LARGE_BYTES,
                                 .buffer_room = M13_OFFLOAD_HEADER_BYTES + M13_OFFLOAD_PACKET_MAX,
                                 .entries = M13_REACTOR_READS,
                                 .id = 1};
    for (uint32_t index = 0; index < M13_REACTOR_TRAINS; index++)
        reactor->trains[index].memory = trains + (uint64_t)index * M13_REACTOR_LARGE_BYTES;
}

static int init_parts(struct m13_reactor *reactor)
{
    const struct m13_reactor_config *config = &reactor->config;
    uint32_t peers = config->path.is_hub ? M13_PEER_SLOTS : 1;
    int error = m13_path_init(&reactor->path, &config->path, peers, config->channel, config->page);
    if (!error)
        error = m13_slab_init(&reactor->controls_free, M13_REACTOR_CONTROLS);
    if (!error)
        error = m13_slab_init(&reactor->trains_free, M13_REACTOR_TRAINS);
    if (!error)
        error = m13_slab_init(&reactor->writes_free, M13_REACTOR_WRITES);
    if (!error)
        error = m13_slab_init(&reactor->wholes_free, M13_REACTOR_WHOLES);
    return error;
}

int m13_reactor_create(struct m13_reactor **out, const struct m13_reactor_config *config)
{
    struct m13_reactor *reactor = aligned_alloc(alignof(struct m13_reactor), sizeof *reactor);
    if (!reactor)
        return -ENOMEM;
    memset(reactor, 0, sizeof *reactor);
    reactor->config = *config;
    reactor->path.event_fd = -1;
    reactor->stop_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    lay_out_arena(reactor);
    m13_reactor_address_shape(reactor);
    int error = reactor->stop_fd < 0 ? -errno : init_parts(reactor);
    if (error) {
        m13_reactor_destroy(reactor);
        return error;
    }
    if (config->path.l2 && !config->path.is_hub) {
        m13_endpoint_set_l2(&reactor->path.peers.slots[0].endpoint, config->path.l2_hub);
    } else if (!config->path.is_hub) {
        static const uint8_t any[M13_ENDPOINT_ADDRESS_BYTES]; /* the kernel chooses */
        struct m13_peers *peers = &reactor->path.peers;
        m13_endpoint_set_udp(&peers->slots[0].endpoint, &peers->secret, config->hub_address, any,
                             htons(config->hub_port));
    }
    *out = reactor;
    return 0;
}

void m13_reactor_destroy(struct m13_reactor *reactor)
{
    if (!reactor)
        return;
    m13_path_fini(&reactor->path);
    if (reactor->stop_fd >= 0)
        close(reactor->stop_fd);
    free(reactor);
}

void m13_reactor_stop(struct m13_reactor *reactor)
{
    uint64_t one = 1;
    atomic_store(&reactor->stop, true);
    if (write(reactor->stop_fd, &one, sizeof one) < 0)
        return; /* already full: it wakes just as well */
}

uint32_t m13_reactor_settle(const struct m13_reactor *reactor)
{
    return M13_REACTOR_BUFFERS - reactor->controls_free.count_free - reactor->lent_arrivals -
           reactor->lent_reads - reactor->trains_free.count_free - reactor->writes_free.count_free -
           reactor->wholes_free.count_free;
}
