/* The channel between a datapath thread and its handshake worker process.
 *
 * One sealed memfd holds two single-producer single-consumer rings of fixed slots: requests flow
 * from the datapath to the worker, answers back. An eventfd per direction is written after every
 * push. Each end keeps its own positions in private memory and only publishes them, so what the
 * other end writes into the shared page can cost messages but never make this end read or write
 * outside a slot. A message is copied out once, its length is read once, and a slot is wiped when
 * taken: session keys do not linger in shared memory.
 *
 * The worker may die and be replaced: the new one attaches to the same memory and finds the
 * requests its predecessor had not taken. */
#ifndef M13_CHANNEL_H
#define M13_CHANNEL_H

#include <stdalign.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "prefix.h"

#define M13_CHANNEL_MAGIC   0x314c4e4843333144u
#define M13_CHANNEL_VERSION 2u

enum {
    M13_CHANNEL_SLOTS = 64,
    M13_CHANNEL_PAYLOAD_BYTES = 9216 + 256, /* a reassembled message, and room for what is added */
    M13_CHANNEL_NAME_BYTES = 32,
    M13_CHANNEL_FINGERPRINT_BYTES = 32,
    M13_CHANNEL_KEY_BYTES = 32,
    M13_CHANNEL_PREFIXES_MAX = 16, /* of one node, beside its addresses */
};

/* producer of requests and consumer of answers: datapath; the other way round: worker */
enum m13_channel_direction {
    M13_CHANNEL_REQUESTS = 0,
    M13_CHANNEL_ANSWERS = 1,
    M13_CHANNEL_DIRECTIONS = 2,
};

enum m13_channel_kind {
    M13_CHANNEL_ASK_START = 1,         /* node; payload: one byte, the handshake version */
    M13_CHANNEL_ASK_CLIENT_HELLO = 2,  /* hub; the message */
    M13_CHANNEL_ASK_SERVER_HELLO = 3,  /* node; the message */
    M13_CHANNEL_ASK_FINISHED = 4,      /* hub; the message */
    M13_CHANNEL_ASK_FORGET = 5,        /* drop the state of (peer, generation); not answered */
    M13_CHANNEL_SAY_CLIENT_HELLO = 16, /* node; the message to send */
    M13_CHANNEL_SAY_SERVER_HELLO = 17, /* hub; the message to send */
    M13_CHANNEL_SAY_ESTABLISHED = 18,  /* struct m13_channel_established (node: and Finished) */
    M13_CHANNEL_SAY_REFUSED = 19,      /* struct m13_channel_refused */
};

enum m13_channel_reason {
    M13_CHANNEL_MALFORMED = 1,
    M13_CHANNEL_NOT_ADMITTED = 2,
    M13_CHANNEL_BAD_SIGNATURE = 3,
    M13_CHANNEL_HUB_KEY_MISMATCH = 4,
    M13_CHANNEL_HUB_KEY_UNKNOWN = 5,
    M13_CHANNEL_VERSION_REFUSED = 6,
    M13_CHANNEL_NO_STATE = 7,
    M13_CHANNEL_INTERNAL = 8,
    M13_CHANNEL_HUB_FULL = 9, /* not of the worker: the datapath's table has no room */
};

struct m13_channel_message {
    uint32_t kind;
    uint32_t peer;
    uint32_t generation;
    uint32_t length; /* of the payload in use */
    uint8_t payload[M13_CHANNEL_PAYLOAD_BYTES];
};
_Static_assert(sizeof(struct m13_channel_message) == 16 + M13_CHANNEL_PAYLOAD_BYTES, "slot layout");

struct m13_channel_established {
    uint8_t handshake_version;
    uint8_t address_prefix_bits;
    uint8_t name_length;
    uint8_t prefix_count;
    uint8_t tunnel_address[4];                          /* network order; 0.0.0.0 on a node */
    uint8_t fingerprint[M13_CHANNEL_FINGERPRINT_BYTES]; /* of the other side's identity */
    uint8_t send_key[M13_CHANNEL_KEY_BYTES];
    uint8_t receive_key[M13_CHANNEL_KEY_BYTES];
    char name[M13_CHANNEL_NAME_BYTES];                    /* zero padded */
    uint8_t tunnel_address6[16];                          /* zero: none */
    struct m13_prefix prefixes[M13_CHANNEL_PREFIXES_MAX]; /* networks behind the node */
} __attribute__((packed));
_Static_assert(sizeof(struct m13_channel_established) == 440, "ESTABLISHED layout");

struct m13_channel_refused {
    uint8_t reason;
    uint8_t fingerprint[M13_CHANNEL_FINGERPRINT_BYTES]; /* zero when no key was seen */
} __attribute__((packed));
_Static_assert(sizeof(struct m13_channel_refused) == 33, "REFUSED layout");

struct m13_channel_memory; /* the shared layout, private to channel.c */

struct m13_channel {
    int memory_fd;
    int request_fd;           /* eventfd, non-blocking */
    int answer_fd;            /* eventfd, non-blocking */
    uint64_t malformed_count; /* messages and positions refused by this end */
    struct m13_channel_memory *memory;
    uint32_t
        produced[M13_CHANNEL_DIRECTIONS]; /* this end's truth; the shared copy is for the other */
    uint32_t consumed[M13_CHANNEL_DIRECTIONS];
};

/* Datapath side: memfd (sealed against resizing) and both eventfds. 0 or -errno. */
int m13_channel_create(struct m13_channel **out);

/* Worker side, also after a predecessor died: checks seals, size, magic and version (-EPROTO when
 * they are not ours). On success the channel owns the three descriptors; on failure the caller
 * does. */
int m13_channel_attach(struct m13_channel **out, int memory_fd, int request_fd, int answer_fd);

/* Unmaps and closes the descriptors. NULL is allowed. */
void m13_channel_destroy(struct m13_channel *channel);

/* Single producer of that direction. False: the ring is full, or the message is longer than a slot.
 */
bool m13_channel_send(struct m13_channel *channel, enum m13_channel_direction direction,
                      const struct m13_channel_message *message);

/* Any thread of either end: how far the two have come, as they say themselves. */
void m13_channel_progress(const struct m13_channel *channel, enum m13_channel_direction direction,
                          uint32_t *sent, uint32_t *received);

/* Single consumer of that direction. False: nothing well-formed is waiting; what is malformed is
 * skipped and counted. Only the first `length` payload bytes of `out` are written. */
bool m13_channel_receive(struct m13_channel *channel, enum m13_channel_direction direction,
                         struct m13_channel_message *out);

#endif
