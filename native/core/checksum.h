/* The Internet checksum of RFC 1071, for outer headers. */
#ifndef M13_CHECKSUM_H
#define M13_CHECKSUM_H

#include <stdint.h>
#include <string.h>

/* Adds bytes to a running one's-complement sum in native byte order. Only the last piece of a
 * message may have an odd length. */
static inline uint64_t m13_checksum_add(uint64_t sum, const void *data, uint32_t bytes)
{
    const uint8_t *from = data;
    uint64_t word;
    uint32_t half;
    /* 32-bit halves into a 64-bit sum: no carry can be lost below 2^32 additions */
    for (; bytes >= 8; bytes -= 8, from += 8) {
        memcpy(&word, from, sizeof word);
        sum += (word & 0xFFFFFFFF) + (word >> 32);
    }
    if (bytes >= 4) {
        memcpy(&half, from, sizeof half);
        sum += half;
        from += 4;
        bytes -= 4;
    }
    if (bytes) {
        half = 0;
        memcpy(&half, from, bytes);
        sum += half;
    }
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
