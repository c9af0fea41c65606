/* The hub's worker: a list of calls, turn after turn. */
#include "hub_worker.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>

#include "capability.h"
#include "fragment.h"

/* --- control frames ------------------------------------------------------------------------- */

static struct m13_wire_frame *take_frame(void *owner, uint32_t *index)
{
    struct m13_hub *hub = owner;
    if (!m13_slab_take(&hub->slab, index, 1))
        return NULL;
    return (void *)(m13_hub_frame_memory(hub, *index) + M13_TUN_OFFSET - M13_WIRE_FRAME_BYTES);
}

void m13_hub_queue_frame(struct m13_hub *hub, const struct m13_endpoint *to,
                         struct m13_wire_frame *frame, uint32_t bytes, bool critical)
{
    if (hub->path.config.hexdump)
        m13_report_frame(&hub->path, to, frame, bytes, true);
    uint32_t outer_bytes = m13_transmit_outer(&hub->path, to, frame, bytes);
    struct m13_sched_entry entry = {
        .offset = (uint32_t)((uint8_t *)frame - hub->config.umem - outer_bytes),
        .bytes = bytes + outer_bytes};
    if (!m13_sched_push(&hub->sched, critical, &entry, 1)) {
        uint32_t index = entry.offset / M13_FRAME_BYTES;
        m13_slab_give(&hub->slab, &index, 1);
        m13_stats_drop(hub->path.stats, M13_DROP_queue_full);
    }
}

static void send_control(void *owner, const struct m13_endpoint *to, uint32_t index, uint32_t bytes)
{
    struct m13_hub *hub = owner;
    uint8_t *frame = m13_hub_frame_memory(hub, index) + M13_TUN_OFFSET - M13_WIRE_FRAME_BYTES;
    m13_hub_queue_frame(hub, to, (void *)frame, bytes, true);
}

/* --- network: receive ------------------------------------------------------------------------ */

void m13_hub_refill(struct m13_hub *hub)
{
    uint32_t frames[M13_HUB_BATCH];
    uint32_t count = m13_xdp_reclaim(hub->config.xdp, frames, M13_HUB_BATCH);
    m13_slab_give(&hub->slab, frames, count);
    hub->transmit_outstanding -= count;

    uint32_t wanted = M13_HUB_FRAMES_RECEIVE - hub->fill_outstanding;
    uint32_t space = m13_xdp_refill_space(hub->config.xdp);
    if (wanted > space)
        wanted = space;
    /* small refills only when the kernel runs low */
    if (!wanted || (wanted < M13_VECTOR_PACKETS && wanted < M13_HUB_FRAMES_RECEIVE / 4))
        return;
    if (wanted > M13_HUB_BATCH)
        wanted = M13_HUB_BATCH;
    count = m13_slab_take(&hub->slab, frames, wanted);
    m13_xdp_refill(hub->config.xdp, frames, count);
    m13_xdp_wake_receive(hub->config.xdp);
    hub->fill_outstanding += count;
}

/* While the TUN is quiet a few packets are written here; many, or any that others are on their way
 * before, go to the TUN thread, as many as its share allows. A write may run TCP up to the next
 * burst, so under load it is not for this thread. */
static void pass_to_tun(struct m13_hub *hub, const struct m13_tun_packet *packets,
                        const uint8_t *origin, uint32_t count)
{
    bool is_quiet = !atomic_load_explicit(&hub->thread_reads, memory_order_relaxed);
    if (is_quiet && count <= M13_HUB_INLINE_WRITES && !hub->to_tun_outstanding) {
        m13_hub_tun_write(hub, hub->path.stats, packets, count);
        return;
    }
    uint32_t room = M13_HUB_FRAMES_TO_TUN - hub->to_tun_outstanding;
    uint32_t pushed = m13_ring_push(&hub->to_tun, packets, count < room ? count : room);
    hub->to_tun_outstanding += pushed;
    m13_hub_note_peak(&hub->to_tun_peak, m13_ring_count(&hub->to_tun));
    for (uint32_t i = 0; i < count; i++) {
        if (i < pushed)
            hub->vector.packets[origin[i]].verdict = M13_KEPT;
        else
            m13_drop(&hub->path, &hub->vector.packets[origin[i]], M13_DROP_tun_ring_full);
    }
    if (pushed)
        m13_doorbell_ring(&hub->tun_bell);
}

/* Every TO_NETWORK packet of the vector, once it is sealed. */
static void queue_sealed(struct m13_hub *hub)
{
    for (uint32_t i = 0; i < hub->vector.count; i++) {
        struct m13_packet *packet = &hub->vector.packets[i];
        if (packet->verdict != M13_TO_NETWORK)
            continue;
        packet->verdict = M13_KEPT;
        m13_hub_queue_frame(hub, &hub->path.peers.slots[packet->peer].endpoint, packet->frame,
                            packet->bytes, false);
    }
}

/* The last piece's own frame takes the whole packet: it has room for it. */
static void reassemble(struct m13_hub *hub, struct m13_packet *packet)
{
    struct m13_frag_message message;
    if (m13_reassemble(&hub->path, packet, &message))
        m13_reassembled(packet, packet->frame, &message);
}

static void deliver(struct m13_hub *hub)
{
    struct m13_tun_packet to_tun[M13_VECTOR_PACKETS];
    uint8_t origin[M13_VECTOR_PACKETS];
    uint32_t count = 0;
    bool relayed = false;
    for (uint32_t i = 0; i < hub->vector.count; i++) {
        struct m13_packet *packet = &hub->vector.packets[i];
        if (packet->verdict == M13_TO_REASSEMBLE)
            reassemble(hub, packet);
        bool is_data = packet->verdict == M13_TO_TUN || packet->verdict == M13_TO_RELAY;
        if (is_data && !m13_deliver_check(&hub->path, packet))
            continue;
        if (is_data && hub->path.config.relay && m13_relay(&hub->path, packet)) {
            relayed = true;
        } else if (is_data) {
            origin[count] = (uint8_t)i;
            to_tun[count++] = (struct m13_tun_packet){
                .frame = packet->index,
                .offset =
                    (uint16_t)(packet->frame->payload - m13_hub_frame_memory(hub, packet->index)),
                .bytes = (uint16_t)packet->frame->header.payload_bytes};
        } else if (packet->verdict == M13_TO_CONTROL) {
            m13_control_receive(&hub->path, packet);
        } else if (packet->verdict == M13_TO_REGISTER) {
            m13_hub_register(&hub->path, packet);
        } else if (packet->verdict == M13_TO_HANDSHAKE) {
            m13_hub_fragment(&hub->path, packet);
        }
    }
    if (count)
        pass_to_tun(hub, to_tun, origin, count);
    if (relayed) {
        m13_seal(&hub->path, &hub->vector);
        queue_sealed(hub);
    }
    m13_goodbye_settle(&hub->path);
}

void m13_hub_give_back(struct m13_hub *hub)
{
    uint32_t frames[M13_VECTOR_PACKETS], count = 0;
    for (uint32_t i = 0; i < hub->vector.count; i++)
        if (hub->vector.packets[i].verdict != M13_KEPT)
            frames[count++] = hub->vector.packets[i].index;
    m13_slab_give(&hub->slab, frames, count);
}

uint64_t m13_hub_stage_done(struct m13_hub *hub, enum m13_stage stage, uint64_t since)
{
    uint64_t now = m13_clock_cycles();
    m13_stats_stage(hub->path.stats, stage, now - since, hub->vector.count);
    return now;
}

static void fill_vector(struct m13_hub *hub, const struct m13_xdp_frame *frames, uint32_t count)
{
    uint64_t bytes = 0;
    hub->vector.count = count;
    for (uint32_t i = 0; i < count; i++) {
        struct m13_packet *packet = &hub->vector.packets[i];
        packet->index = m13_xdp_frame_number(hub->config.xdp, frames[i].address);
        if (i + 4 < count)
            __builtin_prefetch(hub->config.umem + frames[i + 4].address);
        m13_parse_outer(&hub->path, packet, hub->config.umem + frames[i].address, frames[i].length);
        bytes += frames[i].length;
    }
    m13_stats_add(hub->path.stats, M13_STAT_received_packets, count);
    m13_stats_add(hub->path.stats, M13_STAT_received_bytes, bytes);
}

void m13_hub_work_vector(struct m13_hub *hub, uint64_t cycles)
{
    m13_parse(&hub->path, &hub->vector);
    cycles = m13_hub_stage_done(hub, M13_STAGE_parse, cycles);
    m13_open(&hub->path, &hub->vector);
    cycles = m13_hub_stage_done(hub, M13_STAGE_open, cycles);
    m13_classify(&hub->path, &hub->vector);
    cycles = m13_hub_stage_done(hub, M13_STAGE_classify, cycles);
    deliver(hub);
    m13_hub_give_back(hub);
    (void)m13_hub_stage_done(hub, M13_STAGE_deliver, cycles);
}

static uint32_t receive(struct m13_hub *hub)
{
    struct m13_xdp_frame frames[M13_VECTOR_PACKETS];
    uint32_t total = 0, count;
    do {
        count = m13_xdp_receive(hub->config.xdp, frames, M13_VECTOR_PACKETS);
        if (!count)
            break;
        hub->fill_outstanding -= count;
        uint64_t cycles = m13_clock_cycles();
        fill_vector(hub, frames, count);
        m13_hub_work_vector(hub, cycles);
        total += count;
    } while (count == M13_VECTOR_PACKETS && total < M13_HUB_BATCH);
    if (hub->fill_outstanding < hub->fill_least)
        hub->fill_least = hub->fill_outstanding;
    return total;
}

/* --- network: send ---------------------------------------------------------------------------- */

static void transmit(struct m13_hub *hub)
{
    struct m13_sched_entry entries[M13_HUB_BATCH];
    struct m13_xdp_frame frames[M13_HUB_BATCH];
    uint32_t room = M13_HUB_FRAMES_TRANSMIT - hub->transmit_outstanding;
    uint32_t space = m13_xdp_transmit_space(hub->config.xdp);
    uint64_t bytes = 0;
    m13_hub_note_peak(&hub->scheduler_peak, m13_sched_count(&hub->sched));
    if (room > space)
        room = space;
    uint32_t count =
        m13_sched_pop(&hub->sched, entries, room < M13_HUB_BATCH ? room : M13_HUB_BATCH);
    for (uint32_t i = 0; i < count; i++) {
        frames[i] =
            (struct m13_xdp_frame){.address = entries[i].offset, .length = entries[i].bytes};
        bytes += entries[i].bytes;
    }
    if (count) {
        m13_xdp_transmit(hub->config.xdp, frames, count);
        hub->transmit_outstanding += count;
        m13_stats_add(hub->path.stats, M13_STAT_sent_packets, count);
        m13_stats_add(hub->path.stats, M13_STAT_sent_bytes, bytes);
    }
    /* a link that is down keeps its packets; the next turn tries again */
    if (m13_xdp_transmit_pending(hub->config.xdp) && m13_xdp_kick(hub->config.xdp))
        m13_stats_drop(hub->path.stats, M13_DROP_send_failed);
}

/* --- time ------------------------------------------------------------------------------------ */

static void tick(struct m13_hub *hub)
{
    if (hub->path.now_ns < hub->next_tick_ns)
        return;
    hub->next_tick_ns = hub->path.now_ns + hub->tick_ns;
    m13_hub_tick(&hub->path);
    m13_hub_report(hub);
}

/* Sleeps until the network, the TUN thread, the handshake worker or the next tick wants a turn. */
static void wait_for_work(struct m13_hub *hub)
{
    m13_doorbell_arm(&hub->worker_bell);
    bool thread_reads = atomic_load_explicit(&hub->thread_reads, memory_order_acquire);
    struct pollfd watched[] = {
        {.fd = hub->config.xdp->fd, .events = POLLIN},
        {.fd = hub->worker_bell.fd, .events = POLLIN},
        {.fd = hub->path.channel->answer_fd, .events = POLLIN},
        {.fd = thread_reads ? -1 : hub->config.tun_fd, .events = POLLIN},
    };
    if (!m13_ring_count(&hub->from_tun) && !m13_hub_shared_waits(hub) && !atomic_load(&hub->stop)) {
        uint64_t now = m13_clock_now_ns();
        uint64_t wait = hub->next_tick_ns > now ? hub->next_tick_ns - now : 0;
        /* packets the link did not take yet are offered again soon */
        if (hub->transmit_outstanding && wait > M13_MILLISECOND_NS)
            wait = M13_MILLISECOND_NS;
        struct timespec timeout = {.tv_sec = (time_t)(wait / M13_SECOND_NS),
                                   .tv_nsec = (long)(wait % M13_SECOND_NS)};
        m13_stats_add(hub->path.stats, M13_STAT_sleeps, 1);
        ppoll(watched, 4, &timeout, NULL);
        /* a TUN that is down reports POLLERR at once and for ever: look only at each tick */
        if (watched[3].revents & (POLLERR | POLLHUP))
            ppoll(watched, 3, &timeout, NULL);
        m13_thread_drain(watched[2].revents ? hub->path.channel->answer_fd : -1);
    }
    m13_doorbell_disarm(&hub->worker_bell);
}

uint32_t m13_hub_turn(struct m13_hub *hub, bool leaving)
{
    uint32_t work = 0;
    hub->path.now_ns = m13_clock_now_ns();
    m13_stats_add(hub->path.stats, M13_STAT_loops, 1);
    m13_hub_refill(hub);
    if (leaving) {
        m13_hub_trade_with_tun(hub, false);
    } else {
        work += m13_hub_outward(hub);
        tick(hub);
    }
    work += receive(hub);
    work += m13_hub_work_on_shared(hub);
    if (!leaving)
        work += m13_hub_answers(&hub->path);
    transmit(hub);
    return work;
}

int m13_hub_run_worker(struct m13_hub *hub)
{
    m13_thread_begin("m13-worker", hub->config.worker_core);
    int error = m13_capability_forgo();
    hub->path.outlet = (struct m13_outlet){
        .owner = hub, .take = take_frame, .send = send_control, .tun_fd = hub->config.tun_fd};
    while (!error && !atomic_load_explicit(&hub->stop, memory_order_relaxed)) {
        uint32_t work = m13_hub_turn(hub, false);
        /* what waits for a link that is down must not keep us from sleeping */
        bool stuck = hub->transmit_outstanding >= M13_HUB_FRAMES_TRANSMIT;
        bool worked = work || (!stuck && m13_sched_count(&hub->sched));
        if (m13_patience_is_over(&hub->patience, worked, hub->path.now_ns))
            wait_for_work(hub);
    }
    if (!error)
        m13_hub_leave(hub);
    return error;
}
