/* A lock-free single-producer single-consumer ring of fixed-size elements.
 *
 * Slots are a power of two. Each side keeps a copy of the other's index and rereads it only when
 * the copy says full or empty, so a batch costs one shared cache line. Elements are copied in and
 * out; ownership of what they name passes with them. */
#ifndef M13_RING_H
#define M13_RING_H

#include <stdalign.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define M13_CACHE_LINE_BYTES 64

struct m13_ring {
    /* set at creation, then read only */
    alignas(M13_CACHE_LINE_BYTES) uint8_t *elements;
    uint32_t mask;
    uint32_t element_bytes;
    /* producer's line */
    alignas(M13_CACHE_LINE_BYTES) _Atomic uint32_t tail;
    uint32_t head_seen;
    /* consumer's line */
    alignas(M13_CACHE_LINE_BYTES) _Atomic uint32_t head;
    uint32_t tail_seen;
};

/* slots: power of two, 2..2^30. -EINVAL otherwise, -ENOMEM. */
int m13_ring_init(struct m13_ring *ring, uint32_t slots, uint32_t element_bytes);
void m13_ring_fini(struct m13_ring *ring);

/* Elements waiting; exact for either side, a moment's view for anyone else. */
static inline uint32_t m13_ring_count(const struct m13_ring *ring)
{
    return atomic_load_explicit(&ring->tail, memory_order_acquire) -
           atomic_load_explicit(&ring->head, memory_order_acquire);
}

/* single producer: how many elements fit now */
static inline uint32_t m13_ring_space(struct m13_ring *ring)
{
    uint32_t tail = atomic_load_explicit(&ring->tail, memory_order_relaxed);
    ring->head_seen = atomic_load_explicit(&ring->head, memory_order_acquire);
    return ring->mask + 1 - (tail - ring->head_seen);
}

/* single producer: copies up to count elements in, returns how many fitted */
static inline uint32_t m13_ring_push(struct m13_ring *ring, const void *elements, uint32_t count)
{
    uint32_t tail = atomic_load_explicit(&ring->tail, memory_order_relaxed);
    uint32_t space = ring->mask + 1 - (tail - ring->head_seen);
    if (space < count) {
        space = m13_ring_space(ring);
        if (space < count)
            count = space;
    }
    uint32_t first = ring->mask + 1 - (tail & ring->mask);
    if (first > count)
        first = count;
    const uint8_t *source = elements;
    size_t bytes = ring->element_bytes;
    memcpy(ring->elements + (tail & ring->mask) * bytes, source, first * bytes);
    memcpy(ring->elements, source + first * bytes, (count - first) * bytes);
    atomic_store_explicit(&ring->tail, tail + count, memory_order_release);
    return count;
}

/* single consumer: copies up to count elements out, returns how many there were */
static inline uint32_t m13_ring_pop(struct m13_ring *ring, void *elements, uint32_t count)
{
    uint32_t head = atomic_load_explicit(&ring->head, memory_order_relaxed);
    uint32_t ready = ring->tail_seen - head;
    if (ready < count) {
        ring->tail_seen = atomic_load_explicit(&ring->tail, memory_order_acquire);
        ready = ring->tail_seen - head;
        if (ready < count)
            count = ready;
    }
    uint32_t first = ring->mask + 1 - (head & ring->mask);
    if (first > count)
        first = count;
    uint8_t *target = elements;
    size_t bytes = ring->element_bytes;
    memcpy(target, ring->elements + (head & ring->mask) * bytes, first * bytes);
    memcpy(target + first * bytes, ring->elements, (count - first) * bytes);
    atomic_store_explicit(&ring->head, head + count, memory_order_release);
    return count;
}

/* single producer: where the next element is to be built in place, NULL when the ring is full; it
 * is the consumer's after commit */
static inline void *m13_ring_reserve(struct m13_ring *ring)
{
    uint32_t tail = atomic_load_explicit(&ring->tail, memory_order_relaxed);
    if (tail - ring->head_seen > ring->mask && !m13_ring_space(ring))
        return NULL;
    return ring->elements + (size_t)(tail & ring->mask) * ring->element_bytes;
}

static inline void m13_ring_commit(struct m13_ring *ring)
{
    uint32_t tail = atomic_load_explicit(&ring->tail, memory_order_relaxed);
    atomic_store_explicit(&ring->tail, tail + 1, memory_order_release);
}

/* single consumer: the oldest element in place, NULL when there is none; it is the producer's
 * again after release */
static inline const void *m13_ring_peek(struct m13_ring *ring)
{
    uint32_t head = atomic_load_explicit(&ring->head, memory_order_relaxed);
    if (head == ring->tail_seen) {
        ring->tail_seen = atomic_load_explicit(&ring->tail, memory_order_acquire);
        if (head == ring->tail_seen)
            return NULL;
    }
    return ring->elements + (size_t)(head & ring->mask) * ring->element_bytes;
}

static inline void m13_ring_release(struct m13_ring *ring)
{
    uint32_t head = atomic_load_explicit(&ring->head, memory_order_relaxed);
    atomic_store_explicit(&ring->head, head + 1, memory_order_release);
}

#endif
