/* Feeding fragments into slots; the invariant is that chunks lie in index order without overlap. */
#include "frag.h"

#include <string.h>

void m13_frag_init(struct m13_frag *frag, uint8_t *arena)
{
    memset(frag, 0, sizeof *frag);
    frag->arena = arena;
}

void m13_frag_reset(struct m13_frag *frag)
{
    memset(frag->slots, 0, sizeof frag->slots);
}

static struct m13_frag_slot *find_or_claim(struct m13_frag *frag, uint16_t id, uint8_t flags,
                                           uint64_t now_ns)
{
    struct m13_frag_slot *claim = &frag->slots[0];
    for (uint32_t i = 0; i < M13_FRAG_SLOTS; i++) {
        struct m13_frag_slot *slot = &frag->slots[i];
        if (slot->total && now_ns - slot->first_ns > M13_FRAG_STALE_NS)
            slot->total = 0;
        if (slot->total && slot->id == id && slot->flags == flags)
            return slot;
        if (claim->total && (!slot->total || slot->first_ns < claim->first_ns))
            claim = slot;
    }
    claim->total = 0; /* free already, or the oldest, which gives way */
    return claim;
}

/* Whether the fragment lies between its received neighbours exactly where the sender put it. */
static bool fits(const struct m13_frag_slot *slot, const struct m13_wire_fragment *header)
{
    uint32_t end = (uint32_t)header->offset + header->bytes;
    for (uint32_t i = 0; i < slot->total; i++) {
        if (!(slot->received >> i & 1) || i == header->index)
            continue;
        uint32_t other_end = (uint32_t)slot->offset[i] + slot->bytes[i];
        if (i < header->index && other_end > header->offset)
            return false;
        if (i > header->index && end > slot->offset[i])
            return false;
        if (i + 1 == header->index && other_end != header->offset)
            return false;
        if (i == header->index + 1u && end != slot->offset[i])
            return false;
    }
    return true;
}

enum m13_frag_verdict m13_frag_feed(struct m13_frag *frag, uint8_t flags, const uint8_t *payload,
                                    uint32_t payload_bytes, uint64_t now_ns,
                                    struct m13_frag_message *out)
{
    struct m13_wire_fragment header;
    if (payload_bytes < sizeof header)
        return M13_FRAG_REFUSED;
    memcpy(&header, payload, sizeof header);
    if (!header.total || header.total > M13_FRAGMENT_TOTAL_MAX || header.index >= header.total ||
        (!header.index && header.offset) || !header.bytes ||
        header.bytes > payload_bytes - sizeof header ||
        (uint32_t)header.offset + header.bytes > M13_FRAGMENT_MESSAGE_BYTES)
        return M13_FRAG_REFUSED;

    struct m13_frag_slot *slot = find_or_claim(frag, header.id, flags, now_ns);
    if (!slot->total)
        *slot = (struct m13_frag_slot){
            .first_ns = now_ns, .id = header.id, .total = header.total, .flags = flags};
    if (slot->total != header.total || !fits(slot, &header))
        return M13_FRAG_REFUSED;
    uint16_t bit = (uint16_t)(1u << header.index);
    if (slot->received & bit)
        return slot->offset[header.index] == header.offset &&
                       slot->bytes[header.index] == header.bytes
                   ? M13_FRAG_INCOMPLETE
                   : M13_FRAG_REFUSED;

    uint8_t *message = frag->arena + (slot - frag->slots) * M13_FRAGMENT_MESSAGE_BYTES;
    memcpy(message + header.offset, payload + sizeof header, header.bytes);
    slot->offset[header.index] = header.offset;
    slot->bytes[header.index] = header.bytes;
    slot->received |= bit;
    if (slot->received != (uint16_t)((1u << slot->total) - 1))
        return M13_FRAG_INCOMPLETE;
    /* neighbours were checked pairwise: all chunks present means no gap */
    out->bytes = message;
    out->length = (uint32_t)slot->offset[slot->total - 1] + slot->bytes[slot->total - 1];
    slot->total = 0;
    return M13_FRAG_COMPLETE;
}
