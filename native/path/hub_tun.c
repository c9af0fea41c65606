/* The hub's TUN thread: the only one that reads and writes the TUN device. */
#include <errno.h>
#include <poll.h>
#include <unistd.h>

#include "hub_worker.h"
#include "thread.h"

static struct m13_stats_writer *stats_of(struct m13_hub *hub)
{
    return &hub->config.page->writers[M13_WRITER_TUN];
}

static uint8_t *packet_memory(const struct m13_hub *hub, const struct m13_tun_packet *packet)
{
    return hub->config.umem + (uint64_t)packet->frame * M13_FRAME_BYTES + packet->offset;
}

/* worker -> kernel. Every frame goes back, written or not; its ring always has room, because no
 * more than its slots are ever outstanding. */
static uint32_t write_packets(struct m13_hub *hub)
{
    struct m13_tun_packet packets[M13_VECTOR_PACKETS];
    uint32_t frames[M13_VECTOR_PACKETS];
    struct m13_stats_writer *stats = stats_of(hub);
    uint64_t bytes = 0, written = 0;
    uint32_t count = m13_ring_pop(&hub->to_tun, packets, M13_VECTOR_PACKETS);
    for (uint32_t i = 0; i < count; i++) {
        frames[i] = packets[i].frame;
        if (write(hub->config.tun_fd, packet_memory(hub, &packets[i]), packets[i].bytes) >= 0) {
            bytes += packets[i].bytes;
            written++;
        } else {
            m13_stats_drop(stats, M13_DROP_tun_write);
        }
    }
    m13_ring_push(&hub->frames_from_tun, frames, count);
    m13_stats_add(stats, M13_STAT_tun_written_packets, written);
    m13_stats_add(stats, M13_STAT_tun_written_bytes, bytes);
    return count;
}

/* kernel -> worker, into frames the worker lent. */
static uint32_t read_packets(struct m13_hub *hub)
{
    struct m13_tun_packet packets[M13_VECTOR_PACKETS];
    struct m13_stats_writer *stats = stats_of(hub);
    uint64_t bytes = 0;
    uint32_t count = 0;
    if (!hub->spare_count)
        hub->spare_count = m13_ring_pop(&hub->frames_to_tun, hub->spare, M13_VECTOR_PACKETS);
    while (hub->spare_count) {
        struct m13_tun_packet packet = {.frame = hub->spare[hub->spare_count - 1],
                                        .offset = M13_TUN_OFFSET};
        ssize_t got =
            read(hub->config.tun_fd, packet_memory(hub, &packet), M13_FRAME_BYTES - M13_TUN_OFFSET);
        if (got <= 0)
            break;
        hub->spare_count--;
        packet.bytes = (uint16_t)got;
        packets[count++] = packet;
        bytes += (uint64_t)got;
    }
    if (!count)
        return 0;
    m13_ring_push(&hub->from_tun, packets, count);
    m13_doorbell_ring(&hub->worker_bell);
    m13_stats_add(stats, M13_STAT_tun_read_packets, count);
    m13_stats_add(stats, M13_STAT_tun_read_bytes, bytes);
    return count;
}

static void wait_for_work(struct m13_hub *hub)
{
    m13_doorbell_arm(&hub->tun_bell);
    bool may_read = hub->spare_count || m13_ring_count(&hub->frames_to_tun);
    struct pollfd watched[] = {
        {.fd = hub->tun_bell.fd, .events = POLLIN},
        /* without a frame to read into, the TUN must not wake us */
        {.fd = may_read ? hub->config.tun_fd : -1, .events = POLLIN},
    };
    if (!m13_ring_count(&hub->to_tun) && !atomic_load(&hub->stop)) {
        m13_stats_add(stats_of(hub), M13_STAT_sleeps, 1);
        /* a TUN that went down reports POLLERR at once and for ever: look only now and then */
        if (poll(watched, 2, 1000) > 0 && (watched[1].revents & (POLLERR | POLLHUP)))
            poll(watched, 1, 10);
    }
    m13_doorbell_disarm(&hub->tun_bell);
}

int m13_hub_run_tun(struct m13_hub *hub)
{
    m13_thread_begin("m13-tun", hub->config.tun_core);
    while (!atomic_load_explicit(&hub->stop, memory_order_relaxed)) {
        m13_stats_add(stats_of(hub), M13_STAT_loops, 1);
        uint32_t work = write_packets(hub);
        work += read_packets(hub);
        if (!work)
            wait_for_work(hub);
    }
    return 0;
}
