/* m13_frag_feed with every invariant checked the slow way.
 *
 *   slots u8 (odd: as for handshakes, even: as for the tunnel), then records: context u8, tenths of
 *   a second since the last u8, length u16, fragment */
#include <stdlib.h>

#include "bed.h"
#include "frag.h"

static void check_slot(const struct m13_frag *frag, const struct m13_frag_slot *slot)
{
    uint32_t end = 0, previous = 0;
    bool first = true;
    if (!slot->total)
        return;
    BED_ASSERT(slot->total <= M13_FRAGMENT_TOTAL_MAX);
    BED_ASSERT(!((uint64_t)slot->received >> slot->total) && slot->received);
    BED_ASSERT(slot->received != (1ull << slot->total) - 1);
    for (uint32_t i = 0; i < slot->total; i++) {
        if (!(slot->received >> i & 1))
            continue;
        BED_ASSERT(slot->bytes[i] && slot->offset[i] >= end);
        BED_ASSERT(first || i != previous + 1 || slot->offset[i] == end);
        BED_ASSERT(i || !slot->offset[i]);
        end = (uint32_t)slot->offset[i] + slot->bytes[i];
        BED_ASSERT(end <= frag->message_bytes);
        previous = i;
        first = false;
    }
}

/* A refusal changes no slot, except that one may have become stale. */
static void check_unchanged(const struct m13_frag_slot *before, const struct m13_frag *after)
{
    for (uint32_t i = 0; i < after->slot_count; i++)
        BED_ASSERT(!after->slots[i].total ||
                   !memcmp(&before[i], &after->slots[i], sizeof after->slots[i]));
}

static void check_distinct(const struct m13_frag *frag)
{
    for (uint32_t i = 0; i < frag->slot_count; i++) {
        check_slot(frag, &frag->slots[i]);
        for (uint32_t j = 0; j < i; j++)
            BED_ASSERT(!frag->slots[i].total || !frag->slots[j].total ||
                       frag->slots[i].id != frag->slots[j].id ||
                       frag->slots[i].context != frag->slots[j].context);
    }
}

static uint32_t taken(const struct m13_frag_slot *slots, uint32_t slot_count, uint64_t now_ns)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < slot_count; i++)
        count += slots[i].total && now_ns - slots[i].first_ns <= M13_FRAG_STALE_NS;
    return count;
}

static void feed(struct m13_frag *frag, struct input *input, uint64_t *now_ns)
{
    struct m13_frag_slot before[M13_PEER_TUNNEL_SLOTS];
    struct m13_frag_message message;
    size_t bytes;
    uint8_t context = input_byte(input);
    *now_ns += input_byte(input) * 100 * M13_MILLISECOND_NS;
    uint8_t *piece = input_piece(input, 2048, &bytes);
    memcpy(before, frag->slots, frag->slot_count * sizeof *before);
    switch (m13_frag_feed(frag, context, piece, (uint32_t)bytes, *now_ns, &message)) {
    case M13_FRAG_REFUSED:
        check_unchanged(before, frag);
        BED_ASSERT(taken(before, frag->slot_count, *now_ns) ==
                   taken(frag->slots, frag->slot_count, *now_ns));
        break;
    case M13_FRAG_COMPLETE:
        BED_ASSERT(message.length && message.length <= frag->message_bytes);
        BED_ASSERT(message.chunk_bytes && message.chunk_bytes <= message.length);
        BED_ASSERT((message.bytes - frag->messages) % frag->message_bytes == 0);
        BED_ASSERT(message.bytes + message.length <=
                   frag->messages + (size_t)frag->slot_count * frag->message_bytes);
        break;
    case M13_FRAG_INCOMPLETE:
        break;
    }
    check_distinct(frag);
    free(piece);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input input = {data, size};
    struct m13_frag frag;
    bool tunnel = !(input_byte(&input) & 1);
    uint32_t slots = tunnel ? M13_PEER_TUNNEL_SLOTS : M13_FRAG_SLOTS;
    uint32_t message_bytes = tunnel ? M13_PEER_INNER_BYTES : M13_FRAGMENT_MESSAGE_BYTES;
    uint8_t *arena = calloc(1, M13_FRAG_ARENA_BYTES(slots, message_bytes));
    uint64_t now_ns = 1;
    BED_ASSERT(arena);
    m13_frag_init(&frag, arena, slots, message_bytes);
    while (input.left)
        feed(&frag, &input, &now_ns);
    m13_frag_reset(&frag);
    for (uint32_t i = 0; i < slots; i++)
        BED_ASSERT(!frag.slots[i].total);
    free(arena);
    return 0;
}
