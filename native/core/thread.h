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

/* The same on a core that others want too, and only while answers keep coming that soon: a wake-up
 * across processors costs about as much (in a virtual machine 10 us and more, at either end). */
#define M13_EXPECT_ANSWER_NS (50 * M13_MICROSECOND_NS)

/* How sure a thread on a shared core is that work comes within M13_EXPECT_ANSWER_NS: up by
 * M13_TRUST_GAIN when it did, down by one when it did not. Who asks and is answered in turn, as
 * ping does, gains by the answer more than it loses by the pause before the next question. */
#define M13_TRUST_MAX  8
#define M13_TRUST_GAIN 2

/* A thread's decision to sleep. On a core of its own (core >= 0, isolated) waking up would cost
 * more than looking again; on a shared one looking takes the core from others. */
struct m13_patience {
    int core;
    int trust;
    bool waiting;      /* the last turn had nothing to do */
    uint64_t until_ns; /* it looks again until then */
    uint64_t since_ns; /* the last turn that had work */
};

static inline void m13_patience_learn(struct m13_patience *patience, bool in_time)
{
    int trust = patience->trust + (in_time ? M13_TRUST_GAIN : -1);
    patience->trust = trust < 0 ? 0 : trust > M13_TRUST_MAX ? M13_TRUST_MAX : trust;
}

/* At the end of a turn: whether to sleep now. When not, and there was nothing to do, whoever shares
 * the core after all, such as another tunnel's thread, goes first. */
static inline bool m13_patience_is_over(struct m13_patience *patience, bool worked, uint64_t now_ns)
{
    if (worked) {
        if (patience->core < 0 && patience->waiting)
            m13_patience_learn(patience, now_ns < patience->since_ns + M13_EXPECT_ANSWER_NS);
        patience->since_ns = now_ns;
        patience->until_ns = now_ns + (patience->core >= 0   ? M13_BUSY_POLL_NS
                                       : patience->trust > 0 ? M13_EXPECT_ANSWER_NS
                                                             : 0);
    }
    patience->waiting = !worked;
    if (worked || now_ns >= patience->until_ns)
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
