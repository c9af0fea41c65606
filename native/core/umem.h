/* The packet memory: one mapping on huge pages where the machine has them reserved. */
#ifndef M13_UMEM_H
#define M13_UMEM_H

#include <stdbool.h>
#include <stdint.h>

#define M13_UMEM_HUGE_BYTES (UINT64_C(2) << 20)

/*
 * Maps at least `bytes` (rounded up to 2 MiB), zeroed, 2 MiB aligned, absent from core dumps and
 * from forked children. `*huge` tells whether reserved huge pages were had; otherwise normal pages
 * are advised to become transparent huge ones. 0 or -errno.
 */
int m13_umem_map(uint64_t bytes, void **memory, bool *huge);

/*
 * Has every page of it now, as far as memory allows (MADV_POPULATE_WRITE, Linux 5.14), and changes
 * no byte; others may use it meanwhile. On reserved huge pages that is so from the beginning. Else
 * each packet that is the first on a transparent huge page waits for the kernel to clear two
 * megabytes: 2 ms and more were seen in a virtual machine.
 */
void m13_umem_populate(void *memory, uint64_t bytes);

/* Takes what m13_umem_map gave, with the same `bytes`. NULL is fine. */
void m13_umem_unmap(void *memory, uint64_t bytes);

#endif
