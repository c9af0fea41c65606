/* AES-256-GCM over M13 frames, by vectors, through one of two backends.
 *
 * A job names a frame by its M13 header. Sealing and opening happen in place and keep the length:
 * AAD is header[0..4), the nonce is read from header[20..32), the encrypted region is header[32..
 * bytes), the tag is header[4..20) (docs/PROTOCOL.md §1). Whoever seals has written the nonce and
 * guarantees that it never repeats under the key. Whether a frame is authentic is answered in the
 * job, never in the packet; the bytes of a frame that is not are garbage afterwards. */
#ifndef M13_AEAD_H
#define M13_AEAD_H

#include <stdalign.h>
#include <stdbool.h>
#include <stdint.h>

#include "wire.h"

#define M13_AEAD_VECTOR 64 /* most jobs in one call */

/* A key expanded for one backend; opaque, wiped with m13_aead_key_fini(). */
struct m13_aead_key {
    alignas(64) uint8_t expanded[1024];
};

struct m13_aead_job {
    struct m13_aead_key *key;
    struct m13_wire_header *header;
    uint32_t bytes; /* from the M13 header to the end of the frame, at least 48 */
    bool authentic; /* answer of open */
};

/* What a backend is: one table of functions, chosen once at start. state is per thread. */
struct m13_aead_backend {
    const char *name;
    int (*create)(void **state);
    void (*destroy)(void *state);
    int (*key_init)(void *state, struct m13_aead_key *key, const uint8_t *secret);
    void (*key_fini)(void *state, struct m13_aead_key *key);
    void (*seal)(void *state, struct m13_aead_job *jobs, uint32_t count);
    void (*open)(void *state, struct m13_aead_job *jobs, uint32_t count);
};

extern const struct m13_aead_backend m13_aead_libcrypto;
#ifdef M13_WITH_IPSEC_MB
extern const struct m13_aead_backend m13_aead_ipsecmb;
#endif

struct m13_aead {
    const struct m13_aead_backend *backend;
    void *state;
};

/* The backends built in, best first; NULL-terminated. */
extern const struct m13_aead_backend *const m13_aead_backends[];

/* name: a backend's name, or "auto" for the best one that works on this CPU.
 * -ENOENT: not built in; -ENOTSUP: the CPU lacks what it needs. One per thread. */
int m13_aead_create(struct m13_aead *aead, const char *name);
void m13_aead_destroy(struct m13_aead *aead);

/* Expands the 32 bytes of secret into key. The caller wipes its own copy. */
static inline int m13_aead_key_init(struct m13_aead *aead, struct m13_aead_key *key,
                                    const uint8_t *secret)
{
    return aead->backend->key_init(aead->state, key, secret);
}

/* Wipes the key; a zeroed key may be finished too. */
static inline void m13_aead_key_fini(struct m13_aead *aead, struct m13_aead_key *key)
{
    aead->backend->key_fini(aead->state, key);
}

/* Also sets crypto version 0x01 in every header: it is authenticated. */
static inline void m13_aead_seal(struct m13_aead *aead, struct m13_aead_job *jobs, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        jobs[i].header->crypto_version = M13_WIRE_AEAD;
    aead->backend->seal(aead->state, jobs, count);
}

static inline void m13_aead_open(struct m13_aead *aead, struct m13_aead_job *jobs, uint32_t count)
{
    aead->backend->open(aead->state, jobs, count);
}

#endif
