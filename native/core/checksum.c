/* Summing, in a form that compilers turn into vector code for each CPU they are asked for. */
#include "checksum.h"

#include <string.h>

typedef uint32_t unaligned_uint32 __attribute__((aligned(1), may_alias));

/* A resolver that picks the CPU's version runs before a sanitizer is ready for it. */
#if defined(__x86_64__) && defined(__gnu_linux__) && !defined(__SANITIZE_ADDRESS__) &&             \
    !defined(__SANITIZE_THREAD__) && !defined(__clang__)
#define FOR_EACH_CPU __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define FOR_EACH_CPU
#endif

/* 32-bit words into a 64-bit sum: 2^32 of them fit without losing a carry. */
FOR_EACH_CPU static uint64_t add_words(uint64_t sum, const unaligned_uint32 *words, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        sum += words[i];
    return sum;
}

uint64_t m13_checksum_add(uint64_t sum, const void *data, uint32_t bytes)
{
    uint32_t last = 0;
    sum = add_words(sum, data, bytes / 4);
    memcpy(&last, (const uint8_t *)data + (bytes & ~3u), bytes & 3);
    return sum + last;
}
