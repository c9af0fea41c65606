/* The peers of this end: who they are, where they are, their sessions and their handshake.
 *
 * One table, owned by one worker thread; everything is allocated at init. A slot is pending while
 * a handshake runs and established once a session is installed. Two maps find it: by endpoint,
 * and by the MAC its frames carry (a hint for roaming, checked by the AEAD); the prefix
 * table finds it by the inner addresses it owns. Generation counts the occupants of a slot: an
 * answer computed for a former one is recognised by it. */
#ifndef M13_PEER_H
#define M13_PEER_H

#include <stdalign.h>
#include <stdbool.h>
#include <stdint.h>

#include "channel.h"
#include "directory.h"
#include "endpoint.h"
#include "frag.h"
#include "loss.h"
#include "map.h"
#include "pmtu.h"
#include "prefix.h"
#include "session.h"
#include "stats.h"

#define M13_PEERS_ESTABLISHED_MAX    256
#define M13_PEERS_PENDING_MAX        64
#define M13_PEER_SLOTS               (M13_PEERS_ESTABLISHED_MAX + M13_PEERS_PENDING_MAX)
#define M13_PEERS_NO_COOKIE_MAX      8             /* §4.5: the separate budget of v1 peers */
#define M13_PEERS_PENDING_PER_SOURCE 8             /* §4.5: the limit per source */
#define M13_PEERS_NO_COOKIE_HOLD_NS  1000000000ull /* one of that budget is let be so long */
#define M13_PEER_NONE                M13_MAP_NONE
#define M13_PEER_PREFIXES_MAX        (2 + M13_CHANNEL_PREFIXES_MAX) /* addresses, and behind them */
#define M13_PEERS_PREFIXES_MAX       (M13_PEERS_ESTABLISHED_MAX * M13_PEER_PREFIXES_MAX)
#define M13_PEER_TUNNEL_SLOTS        32            /* inner packets that are reassembled at once */
#define M13_PEER_INNER_BYTES         3456          /* the largest of them */
#define M13_SESSION_OVERLAP_NS       5000000000ull /* §5: a replaced key still receives for 5 s */

_Static_assert(M13_PEER_NONE == M13_PREFIX_NONE, "one word for no slot");
_Static_assert(M13_PEER_SLOTS == M13_STATS_PEERS_WORKER, "a telemetry row for each slot");

enum m13_handshake_phase {
    M13_HANDSHAKE_IDLE,
    M13_HANDSHAKE_REGISTERING, /* node: registration sent, echo awaited */
    M13_HANDSHAKE_HELLO,       /* node: ClientHello sent. hub: with the worker process */
    M13_HANDSHAKE_HELLO_DONE,  /* node: ServerHello with the worker. hub: ServerHello sent */
    M13_HANDSHAKE_FINISHED,    /* node: Finished sent. hub: Finished with the worker */
    M13_HANDSHAKE_CONFIRMED,   /* hub: session installed from this handshake */
};

struct m13_handshake {
    enum m13_handshake_phase phase;
    uint32_t generation; /* of this attempt, unique in the process */
    uint8_t key_phase;   /* epoch's low byte that the node proposes */
    bool has_cookie;
    bool has_identity;       /* node: its ClientHello is ready */
    uint64_t first_sequence; /* node: of the attempt's frames in the clear */
    uint8_t cookie[16];      /* node: what the echo carried */
    bool has_heard;          /* hub: there is a message of the peer we gave an answer to, */
    uint16_t heard_id;       /* whose fragments had this id */
    uint16_t message_id;     /* fragment id of the message: resends keep it */
    uint16_t chunk_bytes;    /* of its fragments */
    uint8_t smaller_after;   /* node: resends left before smaller ones are tried */
    uint32_t message_bytes;
    uint8_t *message; /* last message sent, for resending; M13_FRAGMENT_MESSAGE_BYTES */
    uint8_t *hello;   /* hub: the ClientHello that is answered; M13_CLIENT_HELLO_BYTES */
    uint64_t started_ns;
    uint64_t resend_ns; /* when to send again */
    uint64_t interval_ns;
    uint64_t answered_ns; /* hub: last time the message went out */
};

struct m13_peer {
    /* hot: touched per packet by the owning worker */
    enum m13_state state;
    uint32_t generation;
    uint32_t tunnel_address; /* network order; 0: none */
    uint8_t mac[6];          /* source MAC its frames carry */
    uint16_t slot;
    uint16_t whole_bytes_max; /* the largest inner packet that one frame carries to it */
    struct m13_session *current;
    struct m13_session *next;     /* node: derived, waits for the hub's first frame under it */
    struct m13_session *previous; /* receives until retire_ns */
    uint64_t retire_ns;
    struct m13_endpoint endpoint;
    bool rekey_requested; /* node: the hub asked for new keys */
    bool configured;      /* node: CONFIG came since it has a session */
    bool parts;           /* a FIN of it stands in the present vector */
    bool awaits_answer;   /* we leave, and it has not answered our FIN */
    uint64_t last_heard_ns;
    uint64_t last_sent_ns;
    uint64_t note_ns;   /* from then on a frame that leaves is worth noting (loss.h) */
    uint64_t report_ns; /* from then on one that arrives may be worth a report */
    uint64_t received_packets;
    uint64_t received_bytes;
    uint64_t sent_packets;
    uint64_t sent_bytes;
    /* cold: handshake and identity */
    alignas(64) struct m13_handshake handshake;
    struct m13_frag frag;        /* of handshake messages, which come in the clear */
    struct m13_frag tunnel_frag; /* of inner packets, all authentic */
    struct m13_pmtu pmtu;
    uint64_t tell_ns;         /* inner senders: when they may be told again of packets too big */
    uint16_t path_told_bytes; /* frame size that was last reported, 0: none but the largest */
    struct m13_loss loss;
    uint64_t missing_before;   /* frames of its former keys that did not arrive */
    uint64_t reported_packets; /* data packets up to the last report */
    uint64_t reported_ns;
    bool feedback; /* agreed by CONFIG */
    uint64_t handshakes;
    uint64_t rekey_asked_ns; /* hub: when it last asked the node for new keys */
    uint8_t prefix_bits;
    uint8_t tunnel_address6[16]; /* zero: none */
    uint8_t prefix_count;
    struct m13_prefix prefixes[M13_PEER_PREFIXES_MAX]; /* inner addresses that are its own */
    uint8_t fingerprint[32];
    char name[32];
    struct m13_session sessions[3];
};

/* Who had a session and has it no more: the last so many, by the first bytes of their keys' hashes.
 * As many as a hub admits; only a counter hangs from it. */
#define M13_PEERS_DEPARTED_MAX M13_PEERS_ESTABLISHED_MAX

struct m13_peers {
    struct m13_peer *slots;
    uint32_t count;
    uint32_t established;
    uint32_t pending;
    uint32_t pending_without_cookie;
    uint64_t no_cookie_full_ns; /* until then that budget is known to be full */
    uint32_t generation;        /* last one given out */
    uint32_t departed_next;
    uint64_t departed[M13_PEERS_DEPARTED_MAX];
    uint8_t *frag_arena;
    uint8_t *tunnel_arena; /* the kernel gives its pages when they are touched */
    uint8_t *message_arena;
    struct m13_siphash_key secret; /* of endpoints' keys */
    struct m13_map by_endpoint;
    struct m13_map by_mac;
    struct m13_prefix_table prefixes;
    struct m13_directory *directory; /* of all workers of the hub; NULL: there is but one */
    uint16_t worker;                 /* which of them has this table */
};

/* count: 1..M13_PEER_SLOTS. seed: random. */
int m13_peers_init(struct m13_peers *peers, uint32_t count, const uint64_t seed[2]);
/* Wipes every session. */
void m13_peers_fini(struct m13_peers *peers, struct m13_aead *aead);

static inline uint64_t m13_peer_mac_key(const uint8_t mac[6])
{
    uint64_t key = 0;
    memcpy(&key, mac, 6);
    return key;
}

static inline uint16_t m13_peers_find_endpoint(const struct m13_peers *peers,
                                               const struct m13_endpoint *endpoint)
{
    uint16_t slot = m13_map_find(&peers->by_endpoint, endpoint->key);
    if (slot == M13_PEER_NONE || m13_endpoint_kind(endpoint) != M13_ENDPOINT_IPV6)
        return slot; /* the key was exact */
    return m13_endpoint_is_same(&peers->slots[slot].endpoint, endpoint) ? slot : M13_PEER_NONE;
}

/* A pending slot for a handshake from this endpoint. When a source has its share, its own oldest
 * gives way; when all are taken, the oldest of all. One without cookie, whose source may be
 * anybody, only displaces another, and that after a second: a flood of them costs a look at the
 * clock each, and is never more than 8 handshakes a second. M13_PEER_NONE: no. */
uint16_t m13_peers_claim(struct m13_peers *peers, struct m13_aead *aead,
                         const struct m13_endpoint *endpoint, const uint8_t mac[6], bool has_cookie,
                         uint64_t now_ns);

/* Frees a slot: wipes its keys and takes it out of every map. */
void m13_peers_release(struct m13_peers *peers, struct m13_aead *aead, uint16_t slot);

/* Whether that identity had a session before and lost it; it counts as present from now on. */
bool m13_peers_returned(struct m13_peers *peers, const uint8_t fingerprint[32]);

/* The peer was authentically heard from another endpoint. */
void m13_peers_move(struct m13_peers *peers, uint16_t slot, const struct m13_endpoint *endpoint);

/* The inner addresses of a slot, in place of those it had; count: at most M13_PEER_PREFIXES_MAX.
 * One given twice counts once; one that is another slot's stays with it. */
void m13_peers_assign(struct m13_peers *peers, uint16_t slot, const struct m13_prefix *prefixes,
                      uint32_t count);

/* Two addresses as prefixes of one host each: an IPv4 tunnel address, and an IPv6 one unless it is
 * zero. Answers how many; prefixes holds two. */
uint32_t m13_peer_own_prefixes(uint32_t address, const uint8_t address6[16],
                               struct m13_prefix *prefixes);

/* Gives a slot its identity and inner addresses, the first of which is its IPv4 tunnel address, and
 * counts it established. Whoever held the identity or one of the addresses before is released.
 * False: 256 are established already. */
bool m13_peers_establish(struct m13_peers *peers, struct m13_aead *aead, uint16_t slot,
                         const uint8_t fingerprint[32], const struct m13_prefix *prefixes,
                         uint32_t count);

/* An unused session of the peer, to be initialised; wipes the one furthest from use if needed. */
struct m13_session *m13_peer_spare_session(struct m13_peer *peer, struct m13_aead *aead);

/* The fresh session sends from now on; the present one only receives, until the overlap ends.
 * A session of the same key phase cannot overlap and is wiped at once. */
void m13_peer_promote(struct m13_peer *peer, struct m13_aead *aead, struct m13_session *fresh,
                      uint64_t now_ns);

/* Wipes a previous session whose overlap is over. */
void m13_peer_retire(struct m13_peer *peer, struct m13_aead *aead, uint64_t now_ns);

/* Wipes all sessions: the peer is lost, its slot may stay. */
void m13_peer_forget_sessions(struct m13_peer *peer, struct m13_aead *aead);

/* The session that a frame with this key phase and counter is opened with, or NULL.
 *
 * v1 cannot mark its keys: there the next key's first counters are ones the current key has seen.
 * A phase nobody has may be the one the hub understood for the next key, from a fragment in the
 * clear; the tag, which covers the phase, tells, and then it is adopted. */
static inline struct m13_session *m13_peer_session(const struct m13_peer *peer, uint8_t key_phase,
                                                   uint64_t counter)
{
    if (peer->current && peer->current->key_phase == key_phase) {
        bool same_phase = peer->next && peer->next->key_phase == key_phase;
        bool seen = same_phase && !m13_replay_check(&peer->current->replay, counter);
        return seen ? peer->next : peer->current;
    }
    if (peer->previous && peer->previous->key_phase == key_phase)
        return peer->previous;
    return peer->next;
}

#endif
