/* Reassembly of fragmented messages: slots of one peer in an arena allocated at start.
 *
 * Every rule of docs/PROTOCOL.md §3 is checked before a byte is copied: what contradicts the
 * message it claims to belong to is refused and leaves the slot as it was. Slots are found by id,
 * never hashed onto, so colliding ids cannot stall a handshake. One thread only. */
#ifndef M13_FRAG_H
#define M13_FRAG_H

#include <stdbool.h>
#include <stdint.h>

#include "wire.h"

#define M13_FRAG_SLOTS    8             /* §3: of handshake messages */
#define M13_FRAG_STALE_NS 5000000000ull /* §3: a message not complete after 5 s is forgotten */

struct m13_frag_slot {
    uint64_t first_ns; /* arrival of its first fragment */
    uint64_t context;  /* fragments of another context do not mix in */
    uint16_t id;
    uint8_t total;     /* 0: the slot is free */
    uint32_t received; /* bit per index */
    uint16_t offset[M13_FRAGMENT_TOTAL_MAX];
    uint16_t bytes[M13_FRAGMENT_TOTAL_MAX];
};

struct m13_frag {
    struct m13_frag_slot *slots; /* in the arena, and after them their messages */
    uint8_t *messages;
    uint32_t slot_count;
    uint32_t message_bytes; /* the largest */
    bool is_used;           /* the arena was touched */
};

#define M13_FRAG_ARENA_BYTES(slot_count, message_bytes)                                            \
    ((size_t)(slot_count) * (sizeof(struct m13_frag_slot) + (message_bytes)))

enum m13_frag_verdict { M13_FRAG_INCOMPLETE, M13_FRAG_COMPLETE, M13_FRAG_REFUSED };

struct m13_frag_message {
    const uint8_t *bytes; /* in the arena; valid until the next feed */
    uint32_t length;
    uint32_t chunk_bytes; /* of its first fragment */
};

/* arena: M13_FRAG_ARENA_BYTES of zeros that outlive the assembler, aligned as malloc does. It is
 * not touched before the first fragment. message_bytes: a multiple of 8. */
void m13_frag_init(struct m13_frag *frag, uint8_t *arena, uint32_t slot_count,
                   uint32_t message_bytes);

/* payload: the fragment header and its chunk, as many bytes as the frame really holds. context:
 * what fragments of one message have in common beside their id.
 * On COMPLETE the message is described in out and its slot is free again. */
enum m13_frag_verdict m13_frag_feed(struct m13_frag *frag, uint64_t context, const uint8_t *payload,
                                    uint32_t payload_bytes, uint64_t now_ns,
                                    struct m13_frag_message *out);

/* Forgets all messages of a former occupant. */
void m13_frag_reset(struct m13_frag *frag);

#endif
