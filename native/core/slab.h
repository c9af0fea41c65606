/* A bitmap of free frames: which frame numbers nobody owns. One thread only, no lock.
 *
 * take() hands a frame to the caller; give() takes it back. Giving a frame twice is a programming
 * error and asserted, because it would hand one buffer to two owners. */
#ifndef M13_SLAB_H
#define M13_SLAB_H

#include <stdint.h>

#define M13_SLAB_FRAMES_MAX 8192
#define M13_SLAB_WORDS      (M13_SLAB_FRAMES_MAX / 64)

struct m13_slab {
    uint32_t count;      /* frames managed */
    uint32_t count_free; /* frames nobody owns */
    uint32_t hint;       /* word where the next search starts */
    uint64_t free_bits[M13_SLAB_WORDS];
};

/* frames: 1..8192. All are free afterwards. -EINVAL otherwise. */
int m13_slab_init(struct m13_slab *slab, uint32_t frames);

/* Takes up to count frames, returns how many there were. */
uint32_t m13_slab_take(struct m13_slab *slab, uint32_t *frames, uint32_t count);
void m13_slab_give(struct m13_slab *slab, const uint32_t *frames, uint32_t count);

#endif
