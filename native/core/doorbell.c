/* The system calls of a doorbell; whether they are needed is decided in doorbell.h. */
#include "doorbell.h"

#include <errno.h>
#include <stdint.h>
#include <sys/eventfd.h>
#include <unistd.h>

int m13_doorbell_init(struct m13_doorbell *bell)
{
    bell->armed = false;
    bell->fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    return bell->fd < 0 ? -errno : 0;
}

void m13_doorbell_fini(struct m13_doorbell *bell)
{
    if (bell->fd >= 0)
        close(bell->fd);
    bell->fd = -1;
}

void m13_doorbell_disarm(struct m13_doorbell *bell)
{
    atomic_store_explicit(&bell->armed, false, memory_order_relaxed);
    uint64_t rings;
    /* nothing to read is the common case: EAGAIN */
    if (read(bell->fd, &rings, sizeof rings) < 0)
        return;
}

void m13_doorbell_force(struct m13_doorbell *bell)
{
    atomic_store_explicit(&bell->armed, false, memory_order_relaxed);
    uint64_t one = 1;
    /* a full counter (EAGAIN) wakes the sleeper just as well */
    if (write(bell->fd, &one, sizeof one) < 0)
        return;
}
