/* A session: one pair of directional keys, its send counter and its replay window.
 *
 * Owned by the thread that owns the peer. The send counter starts at 0, names a nonce once, and
 * stops hard below 2^48 (docs/PROTOCOL.md §5). Keys are wiped by fini. */
#ifndef M13_SESSION_H
#define M13_SESSION_H

#include <stdbool.h>
#include <stdint.h>

#include "aead.h"
#include "replay.h"

struct m13_session {
    /* hot: touched per packet by the owning worker */
    bool valid;
    uint8_t version;       /* handshake version it came from: 1 or 2 */
    uint8_t key_phase;     /* M13+3 of its frames: 0 in v1, the epoch's low byte in v2 */
    uint64_t send_counter; /* next nonce */
    struct m13_aead_key send_key;
    struct m13_aead_key receive_key;
    struct m13_replay replay;
    /* cold: set at installation */
    uint64_t established_ns;
};

/* secrets: 32 bytes each; the caller wipes its copies. -ENOMEM leaves the session invalid. */
int m13_session_init(struct m13_session *session, struct m13_aead *aead, uint8_t version,
                     uint8_t key_phase, const uint8_t *send_secret, const uint8_t *receive_secret,
                     uint64_t now_ns);

/* Wipes the keys; an invalid session may be finished too. */
void m13_session_fini(struct m13_session *session, struct m13_aead *aead);

/* The hard stop of §5: no further frame may be sealed under this key. */
static inline bool m13_session_exhausted(const struct m13_session *session)
{
    return session->send_counter >= M13_WIRE_COUNTER_MAX;
}

/* Writes key phase, nonce and sequence for the next frame; the session is not exhausted. */
static inline void m13_session_number(struct m13_session *session, struct m13_wire_header *header,
                                      enum m13_wire_direction direction)
{
    header->key_phase = session->key_phase;
    header->nonce_counter = header->sequence = session->send_counter++;
    header->nonce_direction = (uint8_t)direction;
    memset(header->nonce_zero, 0, sizeof header->nonce_zero);
}

#endif
