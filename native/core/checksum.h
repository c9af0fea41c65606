/* The Internet checksum of RFC 1071, for outer headers and for packets cut or joined at the TUN. */
#ifndef M13_CHECKSUM_H
#define M13_CHECKSUM_H

#include <stdint.h>

typedef uint32_t m13_unaligned_uint32 __attribute__((aligned(1), may_alias));

/* Adds bytes to a running one's-complement sum in native byte order; a fresh sum is 0. Only the
 * last piece of a message may have an odd length. No carry is lost below 2^34 bytes. */
uint64_t m13_checksum_add(uint64_t sum, const void *data, uint32_t bytes);

/* The same while copying the bytes; out and data do not overlap. */
uint64_t m13_checksum_copy(uint64_t sum, uint8_t *restrict out, const uint8_t *restrict data,
                           uint32_t bytes);

/* The same for a few 32-bit words, such as a header's, where a call would cost more than it does.
 */
static inline uint64_t m13_checksum_words(uint64_t sum, const void *data, uint32_t words)
{
    const m13_unaligned_uint32 *word = (const m13_unaligned_uint32 *)data;
    for (uint32_t i = 0; i < words; i++)
        sum += word[i];
    return sum;
}

/* Folds to the 16 bits that go into the header (native order of a big-endian field). */
static inline uint16_t m13_checksum_fold(uint64_t sum)
{
    sum = (sum & 0xFFFFFFFF) + (sum >> 32);
    sum = (sum & 0xFFFFFFFF) + (sum >> 32);
    sum = (sum & 0xFFFF) + (sum >> 16);
    sum = (sum & 0xFFFF) + (sum >> 16);
    return (uint16_t)~sum;
}

#endif
