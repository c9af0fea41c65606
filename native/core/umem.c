/* The packet memory: huge pages first, aligned normal pages as the fallback. */
#include "umem.h"

#include <errno.h>
#include <stddef.h>
#include <linux/mman.h>
#include <sys/mman.h>

static uint64_t round_up(uint64_t bytes)
{
    return (bytes + M13_UMEM_HUGE_BYTES - 1) & ~(M13_UMEM_HUGE_BYTES - 1);
}

static void *map(uint64_t bytes, int flags)
{
    void *memory =
        mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);

    return memory == MAP_FAILED ? NULL : memory;
}

/* Transparent huge pages need 2 MiB alignment, which mmap does not promise: map more and trim. */
static void *map_aligned(uint64_t bytes)
{
    char *start = map(bytes + M13_UMEM_HUGE_BYTES, 0);
    uint64_t head;

    if (!start)
        return NULL;
    head = round_up((uintptr_t)start) - (uintptr_t)start;
    if (head)
        munmap(start, head);
    if (head != M13_UMEM_HUGE_BYTES)
        munmap(start + head + bytes, M13_UMEM_HUGE_BYTES - head);
    madvise(start + head, bytes, MADV_HUGEPAGE);
    return start + head;
}

int m13_umem_map(uint64_t bytes, void **memory, bool *huge)
{
    uint64_t rounded = round_up(bytes);
    void *mapped;

    *memory = NULL;
    *huge = false;
    if (bytes == 0 || rounded < bytes)
        return -EINVAL;
    mapped = map(rounded, MAP_HUGETLB | MAP_HUGE_2MB | MAP_POPULATE);
    *huge = mapped != NULL;
    if (!mapped)
        mapped = map_aligned(rounded);
    if (!mapped)
        return -ENOMEM;
    /* The kernel pins these pages: a fork would copy them all, and a core would hold plaintext. */
    madvise(mapped, rounded, MADV_DONTFORK);
    madvise(mapped, rounded, MADV_DONTDUMP);
    *memory = mapped;
    return 0;
}

void m13_umem_populate(void *memory, uint64_t bytes)
{
    (void)madvise(memory, round_up(bytes), MADV_POPULATE_WRITE);
}

void m13_umem_unmap(void *memory, uint64_t bytes)
{
    if (memory)
        munmap(memory, round_up(bytes));
}
