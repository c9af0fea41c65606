/* Frame numbers in a bitmap: take finds the next free bit, give sets it again. */
#include "slab.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int m13_slab_init(struct m13_slab *slab, uint32_t frames)
{
    if (!frames || frames > M13_SLAB_FRAMES_MAX)
        return -EINVAL;
    memset(slab, 0, sizeof *slab);
    slab->count = slab->count_free = frames;
    for (uint32_t frame = 0; frame < frames; frame++)
        slab->free_bits[frame / 64] |= 1ull << (frame % 64);
    return 0;
}

uint32_t m13_slab_take(struct m13_slab *slab, uint32_t *frames, uint32_t count)
{
    if (count > slab->count_free)
        count = slab->count_free;
    uint32_t taken = 0;
    while (taken < count) {
        uint64_t word = slab->free_bits[slab->hint];
        if (!word) {
            slab->hint = (slab->hint + 1) % M13_SLAB_WORDS;
            continue;
        }
        while (word && taken < count) {
            frames[taken++] = slab->hint * 64 + (uint32_t)__builtin_ctzll(word);
            word &= word - 1;
        }
        slab->free_bits[slab->hint] = word;
    }
    slab->count_free -= taken;
    return taken;
}

void m13_slab_give(struct m13_slab *slab, const uint32_t *frames, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        uint64_t bit = 1ull << (frames[i] % 64);
        uint64_t *word = &slab->free_bits[frames[i] / 64];
        /* kept in release builds: a frame with two owners is memory corruption */
        if (frames[i] >= slab->count || (*word & bit))
            abort();
        *word |= bit;
    }
    slab->count_free += count;
}
