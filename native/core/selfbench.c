/* Measuring memory and wake-ups. */
#include "selfbench.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "doorbell.h"
#include "thread.h"

#define FRAME_BYTES     4096u
#define FRAMES          8192u /* as many as a hub has */
#define CACHE_LINE      64u
#define CHECKED_PACKETS 64u  /* copied between two looks at the clock */
#define PATIENCE_MS     1000 /* beyond the gap: a ring that late does not come */

int m13_selfbench_copy(uint32_t bytes, uint64_t duration_ns, struct m13_selfbench_flow *flow)
{
    const size_t memory_bytes = (size_t)FRAMES * FRAME_BYTES;
    *flow = (struct m13_selfbench_flow){0};
    if (!bytes || bytes > FRAME_BYTES)
        return -EINVAL;
    uint8_t *source = aligned_alloc(CACHE_LINE, memory_bytes);
    uint8_t *target = aligned_alloc(CACHE_LINE, memory_bytes);
    if (source && target) {
        /* pages that nobody has written are all the same page of zeros */
        memset(source, 1, memory_bytes);
        memset(target, 2, memory_bytes);
        uint64_t begun = m13_clock_now_ns();
        do {
            for (uint32_t i = 0; i < CHECKED_PACKETS; i++) {
                size_t place = (flow->calls++ % FRAMES) * FRAME_BYTES;
                memcpy(target + place, source + place, bytes);
            }
            __asm__ volatile("" ::: "memory"); /* the copies are wanted, though nobody reads them */
            flow->ns = m13_clock_now_ns() - begun;
        } while (flow->ns < duration_ns);
        flow->bytes = flow->calls * bytes;
    }
    free(source);
    free(target);
    return flow->calls ? 0 : -ENOMEM;
}

struct wakeup {
    struct m13_doorbell bell;
    _Atomic uint64_t rung_ns;
    _Atomic uint32_t answered; /* rings the sleeper has taken */
    _Atomic bool failed;
    const int *cores;
    uint64_t gap_ns;
    uint64_t *samples;
    uint32_t count;
};

static void *sleeper(void *argument)
{
    struct wakeup *wakeup = argument;
    struct pollfd waits = {.fd = wakeup->bell.fd, .events = POLLIN};
    const int patience_ms = (int)(wakeup->gap_ns / M13_MILLISECOND_NS) + PATIENCE_MS;
    m13_thread_begin("m13-bench-sleep", wakeup->cores[0]);
    for (uint32_t i = 0; i < wakeup->count; i++) {
        m13_doorbell_arm(&wakeup->bell);
        if (poll(&waits, 1, patience_ms) <= 0) {
            wakeup->failed = true; /* the other thread never rang: it could not start */
            break;
        }
        wakeup->samples[i] = m13_clock_now_ns() - wakeup->rung_ns;
        m13_doorbell_disarm(&wakeup->bell);
        wakeup->answered = i + 1;
    }
    return NULL;
}

static void *ringer(void *argument)
{
    struct wakeup *wakeup = argument;
    const struct timespec gap = {.tv_sec = (time_t)(wakeup->gap_ns / M13_SECOND_NS),
                                 .tv_nsec = (long)(wakeup->gap_ns % M13_SECOND_NS)};
    m13_thread_begin("m13-bench-ring", wakeup->cores[1]);
    for (uint32_t i = 0; i < wakeup->count && !wakeup->failed; i++) {
        nanosleep(&gap, NULL);
        while (!wakeup->failed && (wakeup->answered != i || !wakeup->bell.armed))
            sched_yield();
        wakeup->rung_ns = m13_clock_now_ns();
        m13_doorbell_ring(&wakeup->bell);
    }
    return NULL;
}

int m13_selfbench_wakeup(const int cores[2], uint64_t gap_ns, uint64_t *samples, uint32_t count)
{
    struct wakeup wakeup = {.cores = cores, .gap_ns = gap_ns, .samples = samples, .count = count};
    pthread_t threads[2];
    int error = m13_doorbell_init(&wakeup.bell);
    if (error)
        return error;
    error = -pthread_create(&threads[0], NULL, sleeper, &wakeup);
    if (!error) {
        error = -pthread_create(&threads[1], NULL, ringer, &wakeup);
        if (!error)
            pthread_join(threads[1], NULL);
        pthread_join(threads[0], NULL);
    }
    m13_doorbell_fini(&wakeup.bell);
    return error ? error : wakeup.failed ? -ETIMEDOUT : 0;
}
