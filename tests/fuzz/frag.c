/* m13_frag_feed with every invariant checked the slow way.
 *
 *   records: flags u8, tenths of a second since the last u8, length u16, fragment */
#include <stdlib.h>

#include "bed.h"
#include "frag.h"

static void check_slot(const struct m13_frag_slot *slot)
{
    uint32_t end = 0, previous = 0;
    bool first = true;
    if (!slot->total)
        return;
    BED_ASSERT(slot->total <= M13_FRAGMENT_TOTAL_MAX);
    BED_ASSERT(!(slot->received >> slot->total) && slot->received);
    BED_ASSERT(slot->received != (1u << slot->total) - 1);
    for (uint32_t i = 0; i < slot->total; i++) {
        if (!(slot->received >> i & 1))
            continue;
        BED_ASSERT(slot->bytes[i] && slot->offset[i] >= end);
        BED_ASSERT(first || i != previous + 1 || slot->offset[i] == end);
        BED_ASSERT(i || !slot->offset[i]);
        end = (uint32_t)slot->offset[i] + slot->bytes[i];
        BED_ASSERT(end <= M13_FRAGMENT_MESSAGE_BYTES);
        previous = i;
        first = false;
    }
}

/* A refusal changes no slot, except that one may have become stale. */
static void check_unchanged(const struct m13_frag *before, const struct m13_frag *after)
{
    for (uint32_t i = 0; i < M13_FRAG_SLOTS; i++)
        BED_ASSERT(!after->slots[i].total ||
                   !memcmp(&before->slots[i], &after->slots[i], sizeof after->slots[i]));
}

static void check_distinct(const struct m13_frag *frag)
{
    for (uint32_t i = 0; i < M13_FRAG_SLOTS; i++) {
        check_slot(&frag->slots[i]);
        for (uint32_t j = 0; j < i; j++)
            BED_ASSERT(!frag->slots[i].total || !frag->slots[j].total ||
                       frag->slots[i].id != frag->slots[j].id ||
                       frag->slots[i].flags != frag->slots[j].flags);
    }
}

static uint32_t taken(const struct m13_frag *frag, uint64_t now_ns)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < M13_FRAG_SLOTS; i++)
        count += frag->slots[i].total && now_ns - frag->slots[i].first_ns <= M13_FRAG_STALE_NS;
    return count;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input input = {data, size};
    struct m13_frag frag, before;
    struct m13_frag_message message;
    uint8_t *arena = malloc(M13_FRAG_ARENA_BYTES);
    uint64_t now_ns = 1;
    BED_ASSERT(arena);
    m13_frag_init(&frag, arena);
    while (input.left) {
        size_t bytes;
        uint8_t flags = input_byte(&input);
        now_ns += input_byte(&input) * 100 * M13_MILLISECOND_NS;
        uint8_t *piece = input_piece(&input, 2048, &bytes);
        before = frag;
        switch (m13_frag_feed(&frag, flags, piece, (uint32_t)bytes, now_ns, &message)) {
        case M13_FRAG_REFUSED:
            check_unchanged(&before, &frag);
            BED_ASSERT(taken(&before, now_ns) == taken(&frag, now_ns));
            break;
        case M13_FRAG_COMPLETE:
            BED_ASSERT(message.length && message.length <= M13_FRAGMENT_MESSAGE_BYTES);
            BED_ASSERT((message.bytes - arena) % M13_FRAGMENT_MESSAGE_BYTES == 0);
            BED_ASSERT(message.bytes + message.length <= arena + M13_FRAG_ARENA_BYTES);
            break;
        case M13_FRAG_INCOMPLETE:
            break;
        }
        check_distinct(&frag);
        free(piece);
    }
    free(arena);
    return 0;
}
