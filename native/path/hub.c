/* A hub's life: creation, stopping, and the proof at the end that no frame is missing. */
#include "hub_worker.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>

#define FLUSH_NS (20 * M13_MILLISECOND_NS)

static int init_rings(struct m13_hub *hub)
{
    struct m13_ring *frames[] = {&hub->frames_to_tun, &hub->frames_from_tun};
    struct m13_ring *packets[] = {&hub->to_tun, &hub->from_tun};
    int error = m13_sched_init(&hub->sched);
    for (uint32_t i = 0; i < 2 && !error; i++) {
        error = m13_ring_init(frames[i], M13_HUB_TUN_RING_SLOTS, sizeof(uint32_t));
        if (!error)
            error =
                m13_ring_init(packets[i], M13_HUB_TUN_RING_SLOTS, sizeof(struct m13_tun_packet));
    }
    return error;
}

int m13_hub_create(struct m13_hub **out, const struct m13_hub_config *config)
{
    struct m13_hub *hub = aligned_alloc(alignof(struct m13_hub), sizeof *hub);
    if (!hub)
        return -ENOMEM;
    memset(hub, 0, sizeof *hub);
    hub->config = *config;
    hub->worker_bell.fd = hub->tun_bell.fd = -1;
    hub->patience.core = config->worker_core;
    hub->tun_patience.core = config->tun_core;
    /* timers are looked at ten times per keepalive interval */
    hub->tick_ns = config->path.keepalive_ms * M13_MILLISECOND_NS / 10;
    if (hub->tick_ns > 100 * M13_MILLISECOND_NS)
        hub->tick_ns = 100 * M13_MILLISECOND_NS;
    int error =
        m13_path_init(&hub->path, &config->path, M13_PEER_SLOTS, config->channel, config->page);
    if (!error)
        error = m13_slab_init(&hub->slab, M13_HUB_FRAMES);
    if (!error)
        error = init_rings(hub);
    if (!error)
        error = m13_doorbell_init(&hub->worker_bell);
    if (!error)
        error = m13_doorbell_init(&hub->tun_bell);
    if (!error && config->share)
        m13_share_join(config->share, &hub->path, &hub->worker_bell);
    if (error) {
        m13_hub_destroy(hub);
        return error;
    }
    /* ready for the first packet before the worker runs */
    while (hub->fill_outstanding < M13_HUB_FRAMES_RECEIVE && m13_xdp_refill_space(config->xdp))
        m13_hub_refill(hub);
    hub->fill_least = hub->fill_outstanding;
    *out = hub;
    return 0;
}

void m13_hub_destroy(struct m13_hub *hub)
{
    if (!hub)
        return;
    m13_path_fini(&hub->path);
    m13_sched_fini(&hub->sched);
    m13_ring_fini(&hub->to_tun);
    m13_ring_fini(&hub->from_tun);
    m13_ring_fini(&hub->frames_to_tun);
    m13_ring_fini(&hub->frames_from_tun);
    m13_doorbell_fini(&hub->worker_bell);
    m13_doorbell_fini(&hub->tun_bell);
    free(hub);
}

void m13_hub_stop(struct m13_hub *hub)
{
    atomic_store(&hub->stop, true);
    m13_doorbell_force(&hub->worker_bell);
}

void m13_hub_leave(struct m13_hub *hub)
{
    struct m13_path *path = &hub->path;
    struct pollfd network = {.fd = hub->config.xdp->fd, .events = POLLIN};
    /* a FIN is critical: it would overtake what waits, and nobody would open that any more */
    path->now_ns = m13_clock_now_ns();
    uint64_t until_ns = path->now_ns + FLUSH_NS;
    while (m13_sched_count(&hub->sched) && path->now_ns < until_ns)
        (void)m13_hub_turn(hub, true);
    m13_goodbye_begin(path);
    while (m13_goodbye_goes_on(path)) {
        (void)m13_hub_turn(hub, true);
        (void)poll(&network, 1, 1);
    }
    (void)m13_hub_turn(hub, true);
    atomic_store(&hub->tun_stop, true);
    m13_doorbell_force(&hub->tun_bell);
}

bool m13_hub_command(struct m13_hub *hub, const struct m13_command *command)
{
    if (command->peer >= hub->path.peers.count || !m13_ring_push(&hub->path.commands, command, 1))
        return false;
    m13_doorbell_ring(&hub->worker_bell);
    return true;
}

void m13_hub_report(struct m13_hub *hub)
{
    struct m13_stats_writer *stats = hub->path.stats;
    m13_stats_gauge(stats, M13_GAUGE_slab_free, hub->slab.count_free);
    m13_stats_gauge(stats, M13_GAUGE_slab_count, hub->slab.count);
    m13_stats_gauge(stats, M13_GAUGE_ring_to_tun, m13_ring_count(&hub->to_tun));
    m13_stats_gauge(stats, M13_GAUGE_ring_from_tun, m13_ring_count(&hub->from_tun));
    m13_stats_gauge(stats, M13_GAUGE_ring_frames_to_tun, m13_ring_count(&hub->frames_to_tun));
    m13_stats_gauge(stats, M13_GAUGE_ring_frames_from_tun, m13_ring_count(&hub->frames_from_tun));
    m13_stats_gauge(stats, M13_GAUGE_scheduler_critical, m13_ring_count(&hub->sched.critical));
    m13_stats_gauge(stats, M13_GAUGE_scheduler_bulk, m13_ring_count(&hub->sched.bulk));
    m13_stats_gauge(stats, M13_GAUGE_fill_outstanding, hub->fill_outstanding);
    m13_stats_gauge(stats, M13_GAUGE_transmit_outstanding, hub->transmit_outstanding);
    m13_stats_gauge(stats, M13_GAUGE_tun_outstanding,
                    hub->to_tun_outstanding + hub->from_tun_outstanding);
    m13_stats_gauge(stats, M13_GAUGE_ring_to_tun_peak, hub->to_tun_peak);
    m13_stats_gauge(stats, M13_GAUGE_ring_from_tun_peak, hub->from_tun_peak);
    m13_stats_gauge(stats, M13_GAUGE_scheduler_peak, hub->scheduler_peak);
    m13_stats_gauge(stats, M13_GAUGE_fill_least, hub->fill_least);
    m13_report_peers(&hub->path);
}

static void settle_ring(struct m13_hub *hub, struct m13_ring *ring, bool packets)
{
    struct m13_tun_packet packet;
    uint32_t frame;
    while (m13_ring_pop(ring, packets ? (void *)&packet : (void *)&frame, 1))
        m13_slab_give(&hub->slab, packets ? &packet.frame : &frame, 1);
}

static void settle_transmit(struct m13_hub *hub)
{
    struct m13_sched_entry entry;
    while (m13_sched_pop(&hub->sched, &entry, 1)) {
        uint32_t frame = entry.offset / M13_FRAME_BYTES;
        m13_slab_give(&hub->slab, &frame, 1);
        m13_stats_drop(hub->path.stats, M13_DROP_shutdown);
    }
    /* completions of what was sent last arrive within moments; a dead link keeps its frames */
    uint64_t until = m13_clock_now_ns() + 50 * M13_MILLISECOND_NS;
    while (hub->transmit_outstanding && m13_clock_now_ns() < until) {
        uint32_t frames[M13_VECTOR_PACKETS];
        (void)m13_xdp_kick(hub->config.xdp);
        uint32_t count = m13_xdp_reclaim(hub->config.xdp, frames, M13_VECTOR_PACKETS);
        m13_slab_give(&hub->slab, frames, count);
        hub->transmit_outstanding -= count;
    }
}

uint32_t m13_hub_settle(struct m13_hub *hub)
{
    settle_ring(hub, &hub->to_tun, true);
    settle_ring(hub, &hub->from_tun, true);
    settle_ring(hub, &hub->frames_to_tun, false);
    settle_ring(hub, &hub->frames_from_tun, false);
    m13_slab_give(&hub->slab, hub->spare, hub->spare_count);
    hub->spare_count = 0;
    settle_transmit(hub);
    /* the rest must be exactly what the kernel's XDP rings hold */
    return hub->slab.count - hub->slab.count_free - hub->fill_outstanding -
           hub->transmit_outstanding;
}
