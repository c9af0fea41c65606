/* What waits for the network: a critical queue (handshake, control) before a bulk one (tunnel).
 *
 * Used by one thread. A frame pushed here belongs to the scheduler until it is popped. */
#ifndef M13_SCHED_H
#define M13_SCHED_H

#include "ring.h"

#define M13_SCHED_CRITICAL_SLOTS 256
#define M13_SCHED_BULK_SLOTS     1024

/* A finished frame in the UMEM: where its outer Ethernet header starts and how long it is. */
struct m13_sched_entry {
    uint32_t offset;
    uint32_t bytes;
};

struct m13_sched {
    struct m13_ring critical;
    struct m13_ring bulk;
};

static inline int m13_sched_init(struct m13_sched *sched)
{
    int error =
        m13_ring_init(&sched->critical, M13_SCHED_CRITICAL_SLOTS, sizeof(struct m13_sched_entry));
    if (error)
        return error;
    error = m13_ring_init(&sched->bulk, M13_SCHED_BULK_SLOTS, sizeof(struct m13_sched_entry));
    if (error)
        m13_ring_fini(&sched->critical);
    return error;
}

static inline void m13_sched_fini(struct m13_sched *sched)
{
    m13_ring_fini(&sched->critical);
    m13_ring_fini(&sched->bulk);
}

/* Returns how many fitted; the rest still belongs to the caller. */
static inline uint32_t m13_sched_push(struct m13_sched *sched, bool critical,
                                      const struct m13_sched_entry *entries, uint32_t count)
{
    return m13_ring_push(critical ? &sched->critical : &sched->bulk, entries, count);
}

static inline uint32_t m13_sched_pop(struct m13_sched *sched, struct m13_sched_entry *entries,
                                     uint32_t count)
{
    uint32_t popped = m13_ring_pop(&sched->critical, entries, count);
    return popped + m13_ring_pop(&sched->bulk, entries + popped, count - popped);
}

static inline uint32_t m13_sched_count(const struct m13_sched *sched)
{
    return m13_ring_count(&sched->critical) + m13_ring_count(&sched->bulk);
}

#endif
