/* Reassembly of fragmented messages: 8 slots a peer in an arena allocated at start.
 *
 * Every rule of docs/PROTOCOL.md §3 is checked before a byte is copied: what contradicts the
 * message it claims to belong to is refused and leaves the slot as it was. Slots are found by id,
 * never hashed onto, so colliding ids cannot stall a handshake. One thread only. */
#ifndef M13_FRAG_H
#define M13_FRAG_H

#include <stdint.h>

#include "wire.h"

#define M13_FRAG_SLOTS       8
#define M13_FRAG_STALE_NS    5000000000ull /* §3: a message not complete after 5 s is forgotten */
#define M13_FRAG_ARENA_BYTES (M13_FRAG_SLOTS * M13_FRAGMENT_MESSAGE_BYTES)

struct m13_frag_slot {
    uint64_t first_ns; /* arrival of its first fragment */
    uint16_t id;
    uint8_t total;     /* 0: the slot is free */
    uint8_t flags;     /* flag byte of its frames: fragments of another kind do not mix in */
    uint16_t received; /* bit per index */
    uint16_t offset[M13_FRAGMENT_TOTAL_MAX];
    uint16_t bytes[M13_FRAGMENT_TOTAL_MAX];
};

struct m13_frag {
    uint8_t *arena; /* M13_FRAG_ARENA_BYTES, borrowed */
    struct m13_frag_slot slots[M13_FRAG_SLOTS];
};

enum m13_frag_verdict { M13_FRAG_INCOMPLETE, M13_FRAG_COMPLETE, M13_FRAG_REFUSED };

struct m13_frag_message {
    const uint8_t *bytes; /* in the arena; valid until the next feed */
    uint32_t length;
};

/* arena: M13_FRAG_ARENA_BYTES that outlive the assembler. */
void m13_frag_init(struct m13_frag *frag, uint8_t *arena);

/* payload: the fragment header and its chunk, as many bytes as the frame really holds.
 * On COMPLETE the message is described in out and its slot is free again. */
enum m13_frag_verdict m13_frag_feed(struct m13_frag *frag, uint8_t flags, const uint8_t *payload,
                                    uint32_t payload_bytes, uint64_t now_ns,
                                    struct m13_frag_message *out);

/* Forgets all messages of a former occupant. */
void m13_frag_reset(struct m13_frag *frag);

#endif
