/* The Internet checksum of RFC 1071, for outer headers and for packets cut or joined at the TUN. */
#ifndef M13_CHECKSUM_H
#define M13_CHECKSUM_H

#include <stdint.h>

/* Adds bytes to a running one's-complement sum in native byte order; a fresh sum is 0. Only the
 * last piece of a message may have an odd length. No carry is lost below 2^34 bytes. */
uint64_t m13_checksum_add(uint64_t sum, const void *data, uint32_t bytes);

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
