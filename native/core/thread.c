/* Thread names and CPU affinity. */
#include "thread.h"

#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

#define DATA_PLANE_NICE     (-15)
#define DATA_PLANE_SLICE_NS 100000 /* the least there is (kernel/sched/syscalls.c) */

/* struct sched_attr of include/uapi/linux/sched/types.h, which cannot stand beside sched.h. */
struct sched_attributes {
    uint32_t size;
    uint32_t policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t slice_ns; /* sched_runtime */
    uint64_t deadline_ns;
    uint64_t period_ns;
};
_Static_assert(sizeof(struct sched_attributes) == 48, "SCHED_ATTR_SIZE_VER0");

/* Ahead of ordinary programs, as the kernel's own packet work is; and in short slices, so that one
 * that wakes need not wait for the end of another's long one (Linux 6.12; earlier ones ignore it).
 * Refused without privilege. */
static void go_ahead(void)
{
    struct sched_attributes attributes = {.size = sizeof attributes,
                                          .policy = SCHED_OTHER,
                                          .nice = DATA_PLANE_NICE,
                                          .slice_ns = DATA_PLANE_SLICE_NS};
    syscall(SYS_sched_setattr, 0, &attributes, 0);
}

void m13_thread_begin(const char *name, int core)
{
    pthread_setname_np(pthread_self(), name);
    go_ahead();
    if (core >= 0) {
        cpu_set_t cores;
        CPU_ZERO(&cores);
        CPU_SET((unsigned)core, &cores);
        pthread_setaffinity_np(pthread_self(), sizeof cores, &cores);
    }
}

void m13_thread_drain(int eventfd)
{
    uint64_t rings;
    if (eventfd >= 0 && read(eventfd, &rings, sizeof rings) < 0)
        return;
}
