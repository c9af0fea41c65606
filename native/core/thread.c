/* Thread names and CPU affinity. */
#include "thread.h"

#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <sys/resource.h>
#include <unistd.h>

#define DATA_PLANE_NICE (-15)

void m13_thread_begin(const char *name, int core)
{
    pthread_setname_np(pthread_self(), name);
    /* ahead of ordinary programs, as the kernel's own packet work is; refused without privilege */
    setpriority(PRIO_PROCESS, 0, DATA_PLANE_NICE);
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
