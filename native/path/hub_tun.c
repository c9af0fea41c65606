/* The hub's TUN: read and written by the worker itself while little passes, because waking another
 * thread costs more than the system call it would save; by the TUN thread when much does. */
#include <errno.h>
#include <poll.h>
#include <sys/uio.h>
#include <unistd.h>

#include "capability.h"
#include "hub_worker.h"

#define GIVE_BACK_MS 2 /* a TUN this long without a packet is the worker's to read again */

static struct m13_stats_writer *stats_of(struct m13_hub *hub)
{
    uint32_t first = hub->config.path.worker * M13_WRITERS_WORKER;
    return &hub->config.page->writers[first + M13_WRITER_TUN];
}

static uint8_t *packet_memory(const struct m13_hub *hub, const struct m13_tun_packet *packet)
{
    return hub->config.umem + (uint64_t)packet->frame * M13_FRAME_BYTES + packet->offset;
}

/* --- by whoever has the role --------------------------------------------------------------------
 */

static void write_merge(struct m13_hub *hub, struct m13_stats_writer *stats,
                        struct m13_merge *merge)
{
    m13_merge_finish(merge);
    if (writev(hub->config.tun_fd, merge->pieces, (int)merge->count + 1) >= 0) {
        m13_stats_add(stats, M13_STAT_tun_written_packets, merge->count);
        m13_stats_add(stats, M13_STAT_tun_written_bytes, merge->bytes);
        m13_stats_add(stats, M13_STAT_tun_writes, 1);
    } else {
        for (uint32_t i = 0; i < merge->count; i++)
            m13_stats_drop(stats, M13_DROP_tun_write);
    }
}

void m13_hub_tun_write(struct m13_hub *hub, struct m13_stats_writer *stats,
                       const struct m13_tun_packet *packets, uint32_t count)
{
    struct m13_merge_set set = {.udp_stays_alone = !hub->config.path.large_udp};
    struct m13_merge *fresh = &hub->merges[M13_MERGE_FLOWS_MAX], *leaving;
    uint32_t unused = M13_MERGE_FLOWS_MAX;
    for (uint32_t i = 0; i < count; i++) {
        uint8_t *packet = packet_memory(hub, &packets[i]);
        if (m13_merge_join(&set, packet, packets[i].bytes, packets[i].frame))
            continue;
        leaving = m13_merge_open(&set, fresh, packet, packets[i].bytes, packets[i].frame);
        if (leaving)
            write_merge(hub, stats, leaving);
        fresh = leaving ? leaving : &hub->merges[--unused];
    }
    for (uint32_t i = 0; i < set.count; i++)
        write_merge(hub, stats, set.open[i]);
}

/* The next packet out of the kernel, to be cut; false when there is none. */
static bool read_large(struct m13_hub *hub, struct m13_stats_writer *stats)
{
    ssize_t got = read(hub->config.tun_fd, hub->large, sizeof hub->large);
    if (got <= 0)
        return false;
    m13_stats_add(stats, M13_STAT_tun_reads, 1);
    hub->splitting = m13_split_begin(&hub->split, hub->large, (uint32_t)got);
    if (!hub->splitting) {
        m13_stats_drop(stats, M13_DROP_inner_header);
    } else if (m13_split_next_bytes(&hub->split) > M13_FRAME_BYTES - M13_TUN_OFFSET) {
        /* what would not fit a frame cannot fit the tunnel */
        m13_stats_drop(stats, M13_DROP_tunnel_mtu);
        hub->splitting = false;
    }
    return true;
}

uint32_t m13_hub_tun_read(struct m13_hub *hub, struct m13_stats_writer *stats,
                          struct m13_tun_packet *packets)
{
    uint64_t total_bytes = 0;
    uint32_t count = 0, bytes;
    while (count < M13_VECTOR_PACKETS && hub->spare_count &&
           (hub->splitting || read_large(hub, stats))) {
        bytes = hub->splitting ? m13_split_next_bytes(&hub->split) : 0;
        hub->splitting = bytes;
        if (!bytes)
            continue;
        packets[count] = (struct m13_tun_packet){.frame = hub->spare[--hub->spare_count],
                                                 .offset = M13_TUN_OFFSET,
                                                 .bytes = (uint16_t)bytes};
        m13_split_next(&hub->split, packet_memory(hub, &packets[count++]));
        total_bytes += bytes;
    }
    m13_stats_add(stats, M13_STAT_tun_read_packets, count);
    m13_stats_add(stats, M13_STAT_tun_read_bytes, total_bytes);
    return count;
}

/* --- the thread ---------------------------------------------------------------------------------
 */

/* worker -> kernel. Every frame goes back, written or not; its ring always has room, because no
 * more than its slots are ever outstanding. */
static uint32_t write_packets(struct m13_hub *hub)
{
    struct m13_tun_packet packets[M13_VECTOR_PACKETS];
    uint32_t frames[M13_VECTOR_PACKETS];
    uint32_t count = m13_ring_pop(&hub->to_tun, packets, M13_VECTOR_PACKETS);
    if (!count)
        return 0;
    m13_hub_tun_write(hub, stats_of(hub), packets, count);
    for (uint32_t i = 0; i < count; i++)
        frames[i] = packets[i].frame;
    (void)m13_ring_push(&hub->frames_from_tun, frames, count);
    return count;
}

/* kernel -> worker, into frames the worker lent; a packet half cut goes on in the next turn. */
static uint32_t read_packets(struct m13_hub *hub)
{
    struct m13_tun_packet packets[M13_VECTOR_PACKETS];
    if (!atomic_load_explicit(&hub->thread_reads, memory_order_acquire) ||
        atomic_load_explicit(&hub->stop, memory_order_relaxed))
        return 0;
    if (!hub->spare_count)
        hub->spare_count = m13_ring_pop(&hub->frames_to_tun, hub->spare, M13_VECTOR_PACKETS);
    uint32_t count = m13_hub_tun_read(hub, stats_of(hub), packets);
    if (!count)
        return 0;
    (void)m13_ring_push(&hub->from_tun, packets, count);
    m13_doorbell_ring(&hub->worker_bell);
    return count;
}

static void wait_for_work(struct m13_hub *hub)
{
    m13_doorbell_arm(&hub->tun_bell);
    bool reads =
        atomic_load_explicit(&hub->thread_reads, memory_order_acquire) && !atomic_load(&hub->stop);
    bool has_frames = reads && (hub->spare_count || m13_ring_count(&hub->frames_to_tun));
    struct pollfd watched[] = {
        {.fd = hub->tun_bell.fd, .events = POLLIN},
        /* without a frame to read into, the TUN must not wake us */
        {.fd = has_frames ? hub->config.tun_fd : -1, .events = POLLIN},
    };
    bool may_go_on = has_frames && hub->splitting;
    if (!m13_ring_count(&hub->to_tun) && !may_go_on && !atomic_load(&hub->tun_stop)) {
        m13_stats_add(stats_of(hub), M13_STAT_sleeps, 1);
        int ready = poll(watched, 2, reads ? GIVE_BACK_MS : 1000);
        if (!ready && has_frames) {
            atomic_store_explicit(&hub->thread_reads, false, memory_order_release);
            m13_doorbell_ring(&hub->worker_bell);
        }
        /* a TUN that went down reports POLLERR at once and for ever: look only now and then */
        if (ready > 0 && (watched[1].revents & (POLLERR | POLLHUP)))
            poll(watched, 1, 10);
    }
    m13_doorbell_disarm(&hub->tun_bell);
}

int m13_hub_run_tun(struct m13_hub *hub)
{
    m13_thread_begin("m13-tun", hub->config.tun_core);
    int error = m13_capability_forgo();
    while (!error && !atomic_load_explicit(&hub->tun_stop, memory_order_acquire)) {
        m13_stats_add(stats_of(hub), M13_STAT_loops, 1);
        uint32_t work = write_packets(hub);
        work += read_packets(hub);
        if (m13_patience_is_over(&hub->tun_patience, work, m13_clock_now_ns()))
            wait_for_work(hub);
    }
    while (!error && write_packets(hub)) {
    }
    return error;
}
