/* Cookies of docs/PROTOCOL.md §4.5: a MAC over a source's endpoint that costs the hub no state.
 *
 * The MAC is AES-256-CBC-MAC of two blocks (address; port, kind, constant) under a random secret: a
 * PRF as long as every input has that length (Bellare, Kilian and Rogaway, 1994). Secrets rotate
 * every 120 s; the previous one is still honoured, so a cookie lives 120 to 240 s. One thread only.
 */
#ifndef M13_COOKIE_H
#define M13_COOKIE_H

#include <stdbool.h>
#include <stdint.h>

#include "endpoint.h"

#define M13_COOKIE_BYTES     16
#define M13_COOKIE_ROTATE_NS 120000000000ull

struct m13_cookie {
    void *current; /* EVP_CIPHER_CTX keyed with the secret */
    void *previous;
    uint64_t rotated_ns;
};

/* -ENOMEM, or -EIO when the random generator fails. */
int m13_cookie_init(struct m13_cookie *cookie, uint64_t now_ns);
void m13_cookie_fini(struct m13_cookie *cookie);

/* To be called about once a second: replaces the secret when its time is over. */
void m13_cookie_tick(struct m13_cookie *cookie, uint64_t now_ns);

/* The next hop is no part of a source: the same cookie whatever way a frame came. */
void m13_cookie_make(struct m13_cookie *cookie, const struct m13_endpoint *source,
                     uint8_t out[M13_COOKIE_BYTES]);
bool m13_cookie_check(struct m13_cookie *cookie, const struct m13_endpoint *source,
                      const uint8_t mac[M13_COOKIE_BYTES]);

#endif
