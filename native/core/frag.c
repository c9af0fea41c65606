/* Feeding fragments into slots; the invariant is that chunks lie in index order without overlap. */
#include "frag.h"

#include <string.h>

void m13_frag_init(struct m13_frag *frag, uint8_t *arena, uint32_t slot_count,
                   uint32_t message_bytes)
{
    *frag = (struct m13_frag){.slots = (void *)arena,
                              .messages = arena + slot_count * sizeof(struct m13_frag_slot),
                              .slot_count = slot_count,
                              .message_bytes = message_bytes};
}

void m13_frag_reset(struct m13_frag *frag)
{
    if (frag->is_used)
        memset(frag->slots, 0, frag->slot_count * sizeof *frag->slots);
    frag->is_used = false;
}

static struct m13_frag_slot *find_or_claim(struct m13_frag *frag, uint16_t id, uint64_t context,
                                           uint64_t now_ns)
{
    struct m13_frag_slot *claim = &frag->slots[0];
    for (uint32_t i = 0; i < frag->slot_count; i++) {
        struct m13_frag_slot *slot = &frag->slots[i];
        if (slot->total && now_ns - slot->first_ns > M13_FRAG_STALE_NS)
            slot->total = 0;
        if (slot->total && slot->id == id && slot->context == context)
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

enum m13_frag_verdict m13_frag_feed(struct m13_frag *frag, uint64_t context, const uint8_t *payload,
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
        (uint32_t)header.offset + header.bytes > frag->message_bytes)
        return M13_FRAG_REFUSED;

    frag->is_used = true;
    struct m13_frag_slot *slot = find_or_claim(frag, header.id, context, now_ns);
    if (!slot->total)
        *slot = (struct m13_frag_slot){
            .first_ns = now_ns, .id = header.id, .total = header.total, .context = context};
    if (slot->total != header.total || !fits(slot, &header))
        return M13_FRAG_REFUSED;
    uint32_t bit = 1u << header.index;
    if (slot->received & bit)
        return slot->offset[header.index] == header.offset &&
                       slot->bytes[header.index] == header.bytes
                   ? M13_FRAG_INCOMPLETE
                   : M13_FRAG_REFUSED;

    uint8_t *message = frag->messages + (slot - frag->slots) * (size_t)frag->message_bytes;
    memcpy(message + header.offset, payload + sizeof header, header.bytes);
    slot->offset[header.index] = header.offset;
    slot->bytes[header.index] = header.bytes;
    slot->received |= bit;
    if (slot->received != (uint32_t)((1ull << slot->total) - 1))
        return M13_FRAG_INCOMPLETE;
    /* neighbours were checked pairwise: all chunks present means no gap */
    out->bytes = message;
    out->length = (uint32_t)slot->offset[slot->total - 1] + slot->bytes[slot->total - 1];
    out->chunk_bytes = slot->bytes[0];
    slot->total = 0;
    return M13_FRAG_COMPLETE;
}
