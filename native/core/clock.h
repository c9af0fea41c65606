/* Time: monotonic nanoseconds for protocol timers, cycles for measuring stages. */
#ifndef M13_CLOCK_H
#define M13_CLOCK_H

#include <stdint.h>
#include <time.h>

#define M13_MICROSECOND_NS 1000ull
#define M13_MILLISECOND_NS 1000000ull
#define M13_SECOND_NS      1000000000ull

/* CLOCK_MONOTONIC through the vDSO; read once per batch, never per packet. */
static inline uint64_t m13_clock_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * M13_SECOND_NS + (uint64_t)now.tv_nsec;
}

/* A free-running counter: TSC on x86-64, CNTVCT on AArch64. */
static inline uint64_t m13_clock_cycles(void)
{
#if defined(__x86_64__)
    return __builtin_ia32_rdtsc();
#elif defined(__aarch64__)
    uint64_t count;
    __asm__ volatile("mrs %0, cntvct_el0" : "=r"(count));
    return count;
#else
    return m13_clock_now_ns();
#endif
}

#endif
