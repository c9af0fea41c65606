/* Inner packets that do not fit the path: cut before sealing, put together after opening (§3). */
#include "fragment.h"

#define FRAGMENT_BYTES (M13_WIRE_FRAME_BYTES + (uint32_t)sizeof(struct m13_wire_fragment))
_Static_assert(M13_TUNNEL_MTU_MAX <=
                   M13_TUNNEL_FRAGMENTS_MAX * (M13_PMTU_FRAME_BYTES_MIN - FRAGMENT_BYTES),
               "so many are enough");
_Static_assert(M13_TUNNEL_FRAGMENTS_MAX <= M13_FRAGMENT_TOTAL_MAX, "receivers take so many");

/* Equal chunks, so that no frame is nearly empty and a train need not end after each packet. */
struct m13_fragments m13_fragment_plan(const struct m13_peer *peer, uint32_t inner_bytes)
{
    uint32_t frame_bytes = peer->pmtu.frame_bytes;
    if (frame_bytes < M13_PMTU_FRAME_BYTES_MIN)
        frame_bytes = M13_PMTU_FRAME_BYTES_MIN;
    uint32_t chunk_bytes = frame_bytes - FRAGMENT_BYTES;
    if (chunk_bytes > M13_FRAGMENT_CHUNK_BYTES)
        chunk_bytes = M13_FRAGMENT_CHUNK_BYTES;
    uint32_t total = (inner_bytes + chunk_bytes - 1) / chunk_bytes;
    return (struct m13_fragments){.total = total, .chunk_bytes = (inner_bytes + total - 1) / total};
}

void m13_fragment_write(struct m13_packet *packet, const struct m13_fragments *plan, uint16_t id,
                        uint32_t index, const uint8_t *inner, uint32_t inner_bytes)
{
    uint32_t offset = index * plan->chunk_bytes, left = inner_bytes - offset;
    uint32_t chunk_bytes = left < plan->chunk_bytes ? left : plan->chunk_bytes;
    const struct m13_wire_fragment header = {.id = id,
                                             .index = (uint8_t)index,
                                             .total = (uint8_t)plan->total,
                                             .offset = (uint16_t)offset,
                                             .bytes = (uint16_t)chunk_bytes};
    uint8_t *chunk = packet->frame->payload + sizeof header;
    if (chunk != inner + offset)
        memcpy(chunk, inner + offset, chunk_bytes);
    memcpy(packet->frame->payload, &header, sizeof header);
    packet->bytes = FRAGMENT_BYTES + chunk_bytes;
    packet->fragment = M13_FLAG_FRAGMENT;
    packet->verdict = M13_TO_NETWORK;
}

void m13_fragment_count(struct m13_path *path, struct m13_peer *peer,
                        const struct m13_fragments *plan)
{
    peer->sent_packets -= plan->total - 1;
    peer->sent_bytes -= plan->total * sizeof(struct m13_wire_fragment);
    m13_stats_add(path->stats, M13_STAT_fragments_sent, plan->total);
}

/* The 16 bits of an id come again while a lost packet's other pieces still wait. Every piece is
 * authentic and numbered, so the first one's whole counter is known, and tells them apart
 * (RFC 4963 is about those who cannot). */
static uint64_t context_of(const struct m13_packet *packet, uint16_t id)
{
    uint64_t counter = packet->frame->header.nonce_counter;
    uint64_t first = counter - (uint16_t)(counter - id);
    return first + packet->session->established_ns * 0x9E3779B97F4A7C15ull;
}

bool m13_reassemble(struct m13_path *path, struct m13_packet *packet,
                    struct m13_frag_message *message)
{
    const struct m13_wire_frame *frame = packet->frame;
    struct m13_peer *peer = &path->peers.slots[packet->peer];
    uint16_t id = 0;
    if (frame->header.payload_bytes >= sizeof id)
        memcpy(&id, frame->payload, sizeof id);
    packet->verdict = M13_DONE;
    m13_stats_add(path->stats, M13_STAT_fragments_received, 1);
    switch (m13_frag_feed(&peer->tunnel_frag, context_of(packet, id), frame->payload,
                          frame->header.payload_bytes, path->now_ns, message)) {
    case M13_FRAG_COMPLETE:
        m13_stats_add(path->stats, M13_STAT_packets_reassembled, 1);
        if (message->length <= M13_TUNNEL_MTU_MAX)
            return true;
        m13_drop(path, packet, M13_DROP_tunnel_mtu);
        break;
    case M13_FRAG_REFUSED:
        m13_drop(path, packet, M13_DROP_fragment);
        break;
    case M13_FRAG_INCOMPLETE:
        break;
    }
    return false;
}

void m13_reassembled(struct m13_packet *packet, struct m13_wire_frame *frame,
                     const struct m13_frag_message *message)
{
    frame->header.payload_bytes = message->length;
    memcpy(frame->payload, message->bytes, message->length);
    packet->frame = frame;
    packet->bytes = M13_WIRE_FRAME_BYTES + message->length;
    packet->verdict = M13_TO_TUN;
}
