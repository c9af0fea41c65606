/* SipHash-2-4: a 64-bit keyed hash for tables whose keys others choose (Aumasson and Bernstein,
 * "SipHash: a fast short-input PRF", 2012). Who does not know the key cannot aim at a value.
 *
 * Here and not from libcrypto, whose EVP_MAC costs an allocation and microseconds a call. */
#ifndef M13_SIPHASH_H
#define M13_SIPHASH_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct m13_siphash_key {
    uint64_t words[2]; /* random */
};

static inline uint64_t m13_siphash_rotate(uint64_t value, int bits)
{
    return value << bits | value >> (64 - bits);
}

static inline void m13_siphash_rounds(uint64_t v[4], int count)
{
    for (int i = 0; i < count; i++) {
        v[0] += v[1];
        v[2] += v[3];
        v[1] = m13_siphash_rotate(v[1], 13) ^ v[0];
        v[3] = m13_siphash_rotate(v[3], 16) ^ v[2];
        v[0] = m13_siphash_rotate(v[0], 32);
        v[2] += v[1];
        v[0] += v[3];
        v[1] = m13_siphash_rotate(v[1], 17) ^ v[2];
        v[3] = m13_siphash_rotate(v[3], 21) ^ v[0];
        v[2] = m13_siphash_rotate(v[2], 32);
    }
}

static inline uint64_t m13_siphash(const struct m13_siphash_key *key, const void *data,
                                   size_t bytes)
{
    /* the paper's initial state: "somepseudorandomlygeneratedbytes" */
    uint64_t v[4] = {key->words[0] ^ 0x736f6d6570736575ull, key->words[1] ^ 0x646f72616e646f6dull,
                     key->words[0] ^ 0x6c7967656e657261ull, key->words[1] ^ 0x7465646279746573ull};
    const uint8_t *at = data;
    uint64_t word = 0;
    for (size_t left = bytes; left >= 8; left -= 8, at += 8) {
        memcpy(&word, at, 8);
        v[3] ^= word;
        m13_siphash_rounds(v, 2);
        v[0] ^= word;
    }
    word = 0;
    memcpy(&word, at, bytes % 8);
    word |= (uint64_t)bytes << 56;
    v[3] ^= word;
    m13_siphash_rounds(v, 2);
    v[0] ^= word;
    v[2] ^= 0xFF;
    m13_siphash_rounds(v, 4);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}

#endif
