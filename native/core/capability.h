/* What the calling thread may still ask of the kernel (capabilities(7)), by way of libcap-ng.
 *
 * Capabilities belong to threads: each inherits its creator's and gives up its own. A set is a mask
 * with bit N for the capability numbered N in linux/capability.h. */
#ifndef M13_CAPABILITY_H
#define M13_CAPABILITY_H

#include <stdint.h>

#include <linux/capability.h>

#define M13_CAPABILITY(number) (UINT64_C(1) << (number))

struct m13_capability_sets {
    uint64_t permitted;
    uint64_t effective;
    uint64_t bounding; /* what a program started from here could have at most */
};

/* Of each set at most these remain, of inheritable and ambient nothing; none is ever gained. 0, or
 * -EPERM when the kernel refuses: then the thread must not go on. */
int m13_capability_reduce(const struct m13_capability_sets *keep);

/* Nothing remains: for a thread that only moves packets, once it has all it needs. */
int m13_capability_forgo(void);

/* The number of a capability by its name in lower case without "cap_", or -1. */
int m13_capability_number(const char *name);

#endif
