/* Summing, in a form that compilers turn into vector code for each CPU they are asked for. */
#include "checksum.h"

#include <string.h>

/* A resolver that picks the CPU's version runs before a sanitizer is ready for it. */
#if defined(__x86_64__) && defined(__gnu_linux__) && !defined(__SANITIZE_ADDRESS__) &&             \
    !defined(__SANITIZE_THREAD__) && !defined(__clang__)
#define FOR_EACH_CPU __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define FOR_EACH_CPU
#endif

/* 32-bit words into a 64-bit sum: 2^32 of them fit without losing a carry. */
FOR_EACH_CPU static uint64_t add_words(uint64_t sum, const m13_unaligned_uint32 *words,
                                       uint32_t count)
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

FOR_EACH_CPU static uint64_t copy_words(uint64_t sum, m13_unaligned_uint32 *restrict out,
                                        const m13_unaligned_uint32 *restrict words, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        out[i] = words[i];
        sum += words[i];
    }
    return sum;
}

uint64_t m13_checksum_copy(uint64_t sum, uint8_t *restrict out, const uint8_t *restrict data,
                           uint32_t bytes)
{
    uint32_t last = 0, whole_bytes = bytes & ~3u;
    sum =
        copy_words(sum, (m13_unaligned_uint32 *)out, (const m13_unaligned_uint32 *)data, bytes / 4);
    memcpy(&last, data + whole_bytes, bytes & 3);
    memcpy(out + whole_bytes, &last, bytes & 3);
    return sum + last;
}
