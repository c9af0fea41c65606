/* Creation and destruction of SPSC rings; the hot path is inline in ring.h. */
#include "ring.h"

#include <errno.h>
#include <stdlib.h>

int m13_ring_init(struct m13_ring *ring, uint32_t slots, uint32_t element_bytes)
{
    if (slots < 2 || slots > 1u << 30 || (slots & (slots - 1)) || !element_bytes)
        return -EINVAL;
    memset(ring, 0, sizeof *ring);
    size_t bytes = (size_t)slots * element_bytes;
    bytes = (bytes + M13_CACHE_LINE_BYTES - 1) & ~(size_t)(M13_CACHE_LINE_BYTES - 1);
    ring->elements = aligned_alloc(M13_CACHE_LINE_BYTES, bytes);
    if (!ring->elements)
        return -ENOMEM;
    memset(ring->elements, 0, bytes);
    ring->mask = slots - 1;
    ring->element_bytes = element_bytes;
    return 0;
}

void m13_ring_fini(struct m13_ring *ring)
{
    free(ring->elements);
    ring->elements = NULL;
}
