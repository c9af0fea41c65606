/* What the load generators share: a clock, a sleep, a socket in another namespace, an argument. */
#ifndef BENCH_TRIAL_H
#define BENCH_TRIAL_H

#include <err.h>
#include <fcntl.h>
#include <sched.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define NS_PER_S  1000000000ULL
#define NS_PER_MS 1000000ULL
#define NS_PER_US 1000ULL

static inline uint64_t clock_ns(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

/* Less than a second. */
static inline void sleep_ns(uint64_t duration_ns)
{
    struct timespec left = {.tv_nsec = (long)duration_ns};
    nanosleep(&left, NULL);
}

/* Processor time of the calling thread so far, user and system. */
static inline uint64_t thread_busy_ns(void)
{
    return clock_ns(CLOCK_THREAD_CPUTIME_ID);
}

/* The calling thread stays in the namespace; a socket keeps the one it was made in. */
static inline int socket_in(const char *netns, int type, int protocol)
{
    int descriptor = open(netns, O_RDONLY | O_CLOEXEC);
    if (descriptor < 0 || setns(descriptor, CLONE_NEWNET) != 0)
        err(1, "cannot enter %s", netns);
    close(descriptor);
    int made = socket(AF_INET, type | SOCK_CLOEXEC, protocol);
    if (made < 0)
        err(1, "socket");
    return made;
}

static inline uint64_t number(const char *text, uint64_t least, uint64_t most)
{
    char *end;
    unsigned long long value = strtoull(text, &end, 10);
    if (*end || value < least || value > most)
        errx(2, "%s is not a number from %lu to %lu", text, least, most);
    return value;
}

#endif
