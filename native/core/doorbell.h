/* A doorbell wakes a thread that sleeps in poll(): an eventfd, rung only when somebody listens.
 *
 * The sleeper arms, looks at its rings once more, polls, and disarms. The waker pushes, then rings.
 * The two full fences make it impossible that the sleeper misses the push and the waker misses
 * the arming (store-load on both sides), so the fast path is one load and no system call. */
#ifndef M13_DOORBELL_H
#define M13_DOORBELL_H

#include <stdalign.h>
#include <stdatomic.h>
#include <stdbool.h>

struct m13_doorbell {
    alignas(64) _Atomic bool armed;
    int fd;
};

/* -errno when no eventfd could be had. */
int m13_doorbell_init(struct m13_doorbell *bell);
void m13_doorbell_fini(struct m13_doorbell *bell);

/* the sleeper, before its last look */
static inline void m13_doorbell_arm(struct m13_doorbell *bell)
{
    atomic_store_explicit(&bell->armed, true, memory_order_relaxed);
    atomic_thread_fence(memory_order_seq_cst);
}

/* the sleeper, after poll(): also empties the eventfd */
void m13_doorbell_disarm(struct m13_doorbell *bell);

/* any thread or a signal handler, unconditionally */
void m13_doorbell_force(struct m13_doorbell *bell);

/* the waker, after its push */
static inline void m13_doorbell_ring(struct m13_doorbell *bell)
{
    atomic_thread_fence(memory_order_seq_cst);
    if (atomic_load_explicit(&bell->armed, memory_order_relaxed))
        m13_doorbell_force(bell);
}

#endif
