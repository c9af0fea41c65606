/* What a data-plane thread does when it starts, and emptying the descriptors that wake it. */
#ifndef M13_THREAD_H
#define M13_THREAD_H

#include <sched.h>
#include <stdbool.h>
#include <stdint.h>

#include "clock.h"

/* How long a thread with a core to itself goes on looking for work before it sleeps: longer than
 * any pause within a flow, and nothing when the tunnel is idle. */
#define M13_BUSY_POLL_NS (20 * M13_MILLISECOND_NS)

/* A thread's decision to sleep. On a core of its own (core >= 0, isolated) waking up would cost
 * more than looking again; on a shared one looking would take the core from others. */
struct m13_patience {
    int core;
    uint64_t until_ns;
};

/* At the end of a turn: whether to sleep now. When not, and there was nothing to do, whoever shares
 * the core after all, such as another tunnel's thread, goes first. */
static inline bool m13_patience_is_over(struct m13_patience *patience, bool worked, uint64_t now_ns)
{
    if (worked)
        patience->until_ns = now_ns + M13_BUSY_POLL_NS;
    if (worked || patience->core < 0 || now_ns >= patience->until_ns)
        return !worked;
    sched_yield();
    return false;
}

/* Names the calling thread, puts it ahead of ordinary programs and pins it; core -1 leaves it where
 * the kernel likes. What is not allowed is no error: the thread runs without it. */
void m13_thread_begin(const char *name, int core);

/* Empties an eventfd after poll() reported it; -1 is ignored. */
void m13_thread_drain(int eventfd);

#endif
