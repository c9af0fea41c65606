/* What other workers of the hub handed on: copied into frames of our own, then worked on as if this
 * worker had received it. It is not handed on again. */
#include "hub_worker.h"

/* Copies up to a vector of what another worker handed on into frames of ours: frames into the
 * vector, inner packets into the list. What finds no frame waits in its ring. */
static uint32_t take_shared(struct m13_hub *hub, struct m13_ring *ring,
                            struct m13_tun_packet *inner, uint32_t *inner_count)
{
    const struct m13_shared_packet *shared;
    uint32_t frame, count = 0;
    hub->vector.count = *inner_count = 0;
    while (count < M13_VECTOR_PACKETS && (shared = m13_ring_peek(ring)) &&
           m13_slab_take(&hub->slab, &frame, 1)) {
        uint8_t *data = hub->config.umem + (uint64_t)frame * M13_FRAME_BYTES + M13_TUN_OFFSET;
        if (shared->is_inner) {
            inner[(*inner_count)++] = (struct m13_tun_packet){
                .frame = frame, .offset = M13_TUN_OFFSET, .bytes = (uint16_t)shared->bytes};
        } else {
            hub->vector.packets[hub->vector.count++] =
                (struct m13_packet){.frame = (void *)data,
                                    .index = frame,
                                    .bytes = shared->bytes,
                                    .peer = M13_PEER_NONE,
                                    .verdict = M13_TO_OPEN,
                                    .source = shared->source};
        }
        memcpy(data, shared->data, shared->bytes);
        m13_ring_release(ring);
        count++;
    }
    return count;
}

uint32_t m13_hub_work_on_shared(struct m13_hub *hub)
{
    struct m13_tun_packet inner[M13_VECTOR_PACKETS];
    uint32_t total = 0, inner_count;
    if (!hub->path.share)
        return 0;
    hub->path.may_hand_on = false;
    for (uint32_t from = 0; from < hub->path.share->workers; from++) {
        if (from == hub->path.config.worker)
            continue;
        total += take_shared(hub, m13_share_ring(&hub->path, from), inner, &inner_count);
        if (hub->vector.count)
            m13_hub_work_vector(hub, m13_clock_cycles());
        if (inner_count)
            m13_hub_send_inner(hub, inner, inner_count);
    }
    hub->path.may_hand_on = true;
    return total;
}

bool m13_hub_shared_waits(struct m13_hub *hub)
{
    struct m13_share *share = hub->path.share;
    for (uint32_t from = 0; share && from < share->workers; from++)
        if (from != hub->path.config.worker && m13_ring_count(m13_share_ring(&hub->path, from)))
            return true;
    return false;
}
