/* From the TUN to the network on AF_XDP: what was read is collected, sealed and queued. */
#include "fragment.h"
#include "hub_worker.h"

void m13_hub_trade_with_tun(struct m13_hub *hub, bool thread_reads)
{
    uint32_t frames[M13_HUB_BATCH];
    uint32_t count = m13_ring_pop(&hub->frames_from_tun, frames, M13_HUB_BATCH);
    m13_slab_give(&hub->slab, frames, count);
    hub->to_tun_outstanding -= count;

    /* spare frames of our own may have carried the sum over the share */
    if (!thread_reads || hub->from_tun_outstanding > M13_HUB_FRAMES_FROM_TUN / 4 * 3)
        return;
    uint32_t wanted = M13_HUB_FRAMES_FROM_TUN - hub->from_tun_outstanding;
    if (wanted > M13_HUB_BATCH)
        wanted = M13_HUB_BATCH;
    count = m13_slab_take(&hub->slab, frames, wanted);
    uint32_t pushed = m13_ring_push(&hub->frames_to_tun, frames, count);
    m13_slab_give(&hub->slab, frames + pushed, count - pushed);
    hub->from_tun_outstanding += pushed;
    m13_doorbell_ring(&hub->tun_bell);
}

/* Up to a vector of packets out of the TUN. What the TUN thread read comes before what is read
 * here, so packets stay in order when the role changes. */
static uint32_t take_from_tun(struct m13_hub *hub, struct m13_tun_packet *packets)
{
    bool thread_reads = atomic_load_explicit(&hub->thread_reads, memory_order_acquire);
    m13_hub_trade_with_tun(hub, thread_reads);
    m13_hub_note_peak(&hub->from_tun_peak, m13_ring_count(&hub->from_tun));
    uint32_t count = m13_ring_pop(&hub->from_tun, packets, M13_VECTOR_PACKETS);
    if (!count && !thread_reads) {
        uint32_t wanted = M13_VECTOR_PACKETS - hub->spare_count;
        wanted = m13_slab_take(&hub->slab, hub->spare + hub->spare_count, wanted);
        hub->spare_count += wanted;
        hub->from_tun_outstanding += wanted;
        count = m13_hub_tun_read(hub, hub->path.stats, packets);
        if (count >= M13_HUB_INLINE_READS) {
            atomic_store_explicit(&hub->thread_reads, true, memory_order_release);
            m13_doorbell_ring(&hub->tun_bell);
        }
    }
    hub->from_tun_outstanding -= count;
    return count;
}

/* What was collected is sealed and queued. since: when collecting it began, in cycles. */
static void send_vector(struct m13_hub *hub, uint64_t since)
{
    uint64_t cycles = m13_hub_stage_done(hub, M13_STAGE_collect, since);
    m13_seal(&hub->path, &hub->vector);
    cycles = m13_hub_stage_done(hub, M13_STAGE_seal, cycles);
    for (uint32_t i = 0; i < hub->vector.count; i++) {
        struct m13_packet *packet = &hub->vector.packets[i];
        if (packet->verdict != M13_TO_NETWORK)
            continue;
        packet->verdict = M13_KEPT;
        m13_hub_queue_frame(hub, &hub->path.peers.slots[packet->peer].endpoint, packet->frame,
                            packet->bytes, false);
    }
    m13_hub_give_back(hub);
    (void)m13_hub_stage_done(hub, M13_STAGE_transmit, cycles);
    hub->vector.count = 0;
}

/* The last packet of the vector becomes several: the first stays where it is, its headers in front
 * of it, the others get frames of their own. */
static void fragment(struct m13_hub *hub, const uint8_t *inner, uint32_t inner_bytes)
{
    uint32_t frames[M13_TUNNEL_FRAGMENTS_MAX], last = hub->vector.count - 1;
    struct m13_packet *first = &hub->vector.packets[last];
    struct m13_peer *peer = &hub->path.peers.slots[first->peer];
    struct m13_fragments plan = m13_fragment_plan(peer, inner_bytes);
    uint32_t taken = m13_slab_take(&hub->slab, frames, plan.total - 1);
    if (taken < plan.total - 1) {
        m13_slab_give(&hub->slab, frames, taken);
        m13_drop(&hub->path, first, M13_DROP_no_frame);
        return;
    }
    m13_too_big_tell(&hub->path, peer, inner, inner_bytes);
    uint16_t id = (uint16_t)first->session->send_counter;
    for (uint32_t i = 0; i < last; i++)
        id += hub->vector.packets[i].session == first->session &&
              hub->vector.packets[i].verdict == M13_TO_NETWORK;
    for (uint32_t index = plan.total - 1; index; index--) {
        struct m13_packet *packet = &hub->vector.packets[last + index];
        *packet = *first;
        packet->index = frames[index - 1];
        packet->frame = (void *)(m13_hub_frame_memory(hub, packet->index) + M13_TUN_OFFSET -
                                 M13_WIRE_FRAME_BYTES);
        m13_fragment_write(packet, &plan, id, index, inner, inner_bytes);
    }
    first->frame = (void *)((uint8_t *)first->frame - sizeof(struct m13_wire_fragment));
    m13_fragment_write(first, &plan, id, 0, inner, inner_bytes);
    m13_fragment_count(&hub->path, peer, &plan);
    hub->vector.count += plan.total - 1;
}

/* The vector's room is for packets that need one frame; for others it may have to leave first. */
static void make_room(struct m13_hub *hub, uint64_t *since)
{
    if (hub->vector.count + M13_TUNNEL_FRAGMENTS_MAX <= M13_VECTOR_PACKETS)
        return;
    struct m13_packet held = hub->vector.packets[--hub->vector.count];
    send_vector(hub, *since);
    *since = m13_clock_cycles();
    hub->vector.packets[hub->vector.count++] = held;
}

void m13_hub_send_inner(struct m13_hub *hub, const struct m13_tun_packet *packets, uint32_t count)
{
    uint64_t since = m13_clock_cycles();
    hub->vector.count = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (hub->vector.count == M13_VECTOR_PACKETS) {
            send_vector(hub, since);
            since = m13_clock_cycles();
        }
        uint8_t *inner = m13_hub_frame_memory(hub, packets[i].frame) + packets[i].offset;
        struct m13_packet *packet = &hub->vector.packets[hub->vector.count++];
        *packet = (struct m13_packet){.frame = (void *)(inner - M13_WIRE_FRAME_BYTES),
                                      .index = packets[i].frame,
                                      .bytes = packets[i].bytes + M13_WIRE_FRAME_BYTES};
        m13_collect(&hub->path, packet, inner, packets[i].bytes, packets[i].bytes);
        if (packet->verdict == M13_TO_FRAGMENT) {
            make_room(hub, &since);
            fragment(hub, inner, packets[i].bytes);
        }
    }
    send_vector(hub, since);
}

uint32_t m13_hub_outward(struct m13_hub *hub)
{
    struct m13_tun_packet packets[M13_VECTOR_PACKETS];
    uint32_t count = take_from_tun(hub, packets);
    if (count)
        m13_hub_send_inner(hub, packets, count);
    return count;
}
