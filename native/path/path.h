/* The data path: stages in the order a packet meets them, what each takes and may answer.
 *
 *   inward    parse -> open -> classify -> deliver (TUN) | handshake | control | drop
 *   outward   collect (TUN) -> seal -> transmit (network)
 *
 * A stage takes a vector of up to 64 packets and writes one verdict per packet; it frees nothing.
 * A packet leaves a vector in one of two ways: a stage hands its frame on and says M13_KEPT, or
 * the worker that filled the vector takes the frame back (docs/HACKING.md, "Who owns a frame").
 * Everything hangs from struct m13_path; there is no other state. */
#ifndef M13_PATH_H
#define M13_PATH_H

#include <stdbool.h>
#include <stdint.h>

#include "aead.h"
#include "channel.h"
#include "clock.h"
#include "cookie.h"
#include "doorbell.h"
#include "events.h"
#include "peer.h"
#include "ring.h"
#include "stats.h"
#include "wire.h"

#define M13_VECTOR_PACKETS    M13_AEAD_VECTOR
#define M13_FRAME_BYTES       4096 /* of a buffer; a page, what AF_XDP calls a chunk */
#define M13_TUN_OFFSET        256  /* where an inner packet is read to: room for all headers */
#define M13_TUNNEL_MTU_MAX    3400 /* a sealed frame and AF_XDP's headroom fit one buffer */
#define M13_TUNNEL_MTU_MIN    576  /* RFC 791: what every IPv4 host accepts */
#define M13_ECHO_INTERVAL_NS  (100 * M13_MILLISECOND_NS) /* §4.5: one echo per source */
#define M13_ECHO_BUCKETS      16384
#define M13_REKEY_FRAMES_MAX  (1ull << 32) /* §5 */
#define M13_HANDSHAKE_RESENDS 2 /* unanswered, before smaller fragments are tried (§9) */
#define M13_HELLO_INTERVAL_NS (100 * M13_MILLISECOND_NS)

_Static_assert(M13_PEER_INNER_BYTES >= M13_TUNNEL_MTU_MAX, "every inner packet is reassembled");

enum m13_verdict {
    M13_TO_OPEN,       /* sealed, the session to open it with is known */
    M13_TO_CLASSIFY,   /* authentic */
    M13_TO_TUN,        /* tunnel data, towards the kernel */
    M13_TO_REASSEMBLE, /* a fragment of tunnel data */
    M13_TO_RELAY,      /* hub: data for another node and nobody else */
    M13_TO_CONTROL,    /* sealed control */
    M13_TO_REGISTER,   /* clear registration, keepalive or echo */
    M13_TO_HANDSHAKE,  /* clear handshake fragment */
    M13_TO_NETWORK,    /* sealed or to be sealed, towards the peer */
    M13_TO_FRAGMENT,   /* towards the peer, but too large for one frame on the way */
    M13_KEPT,          /* the frame has another owner now */
    M13_DONE,          /* consumed; the frame goes back */
    M13_DROPPED,       /* counted with its reason; the frame goes back */
};

struct m13_packet {
    struct m13_wire_frame *frame;
    struct m13_session *session;
    uint32_t index; /* of the buffer, for its owner */
    uint32_t bytes; /* from the inner Ethernet header to the end of the frame */
    uint16_t peer;  /* slot, or M13_PEER_NONE */
    uint8_t verdict;
    uint8_t fragment;           /* outward: M13_FLAG_FRAGMENT, or 0 */
    struct m13_endpoint source; /* inward on the hub: who sent it */
};

struct m13_vector {
    uint32_t count;
    struct m13_packet packets[M13_VECTOR_PACKETS];
};

/* How control frames leave: the one thing hub and node do differently on this slow path.
 * take gives a buffer with room for outer headers before the frame, or NULL. send takes it over. */
struct m13_outlet {
    void *owner;
    struct m13_wire_frame *(*take)(void *owner, uint32_t *index);
    void (*send)(void *owner, const struct m13_endpoint *to, uint32_t index, uint32_t bytes);
    int tun_fd; /* for the rare packet of our own to an inner sender */
};

struct m13_path_config {
    const char *aead_backend; /* name or "auto" */
    bool is_hub;
    bool accept_v1; /* hub: handshake profiles v1 and v1-full */
    bool accept_v2; /* hub */
    bool hexdump;
    bool large_udp;            /* the TUN takes and gives large UDP packets */
    uint16_t worker;           /* hub: which of its workers, from 0 */
    bool relay;                /* hub: packets between nodes do not pass the kernel */
    bool echo;                 /* node: send tunnel packets back instead of delivering them */
    bool feedback;             /* hub: peers report what arrives, and are told */
    uint8_t handshake_version; /* node: 1 or 2 */
    uint8_t mac[6];            /* source MAC of our frames */
    uint8_t hub_tunnel_address[4];
    uint8_t hub_tunnel_address6[16];
    uint8_t prefix6_bits; /* hub: of the IPv6 subnet; 0: none */
    uint16_t mtu_bytes;
    uint16_t link_mtu_bytes; /* hub: of the network interface */
    uint16_t keepalive_ms;
    uint16_t udp_port; /* hub: the port we serve, host order */
    bool l2;           /* hub: L2 peers are served too. node: the hub is reached so */
    uint8_t l2_hub[6]; /* node: its MAC; broadcast: whoever answers */
    uint64_t rekey_age_ns;
    uint64_t rekey_frames;
};

/* How far we are with our own goodbye (§6). */
struct m13_leaving {
    bool begun;
    uint32_t unanswered; /* peers whose FIN-ACK is awaited */
    uint32_t copies;     /* rounds of FINs still to send, and where the present one is */
    uint32_t slot;
    uint64_t wait_ns;  /* for an answer to the last FIN */
    uint64_t until_ns; /* 0: none was sent yet */
    uint64_t end_ns;   /* of it all */
};

struct m13_share; /* share.h */

struct m13_path {
    /* hot: touched per packet by the owning worker */
    uint64_t now_ns; /* of the present turn */
    struct m13_aead aead;
    struct m13_peers peers;
    struct m13_stats_writer *stats;
    enum m13_wire_direction direction; /* ours when sealing */
    struct m13_path_config config;
    struct m13_share *share; /* of the hub's workers; NULL: this is the only one */
    bool may_hand_on;        /* not while working on what another worker handed on */
    /* cold: set at bring-up, or used by handshakes and control */
    uint64_t keepalive_ns;
    uint64_t timeout_ns;
    uint64_t clear_sequence;
    uint64_t random_state;
    uint32_t partings; /* peers whose FIN is in the present vector */
    struct m13_leaving leaving;
    uint64_t next_dump_ns[2]; /* of frames received, of frames sent */
    uint32_t handshake_generation;
    struct m13_channel *channel;
    struct m13_channel_message message; /* the one being read or written */
    struct m13_stats_page *page;
    struct m13_outlet outlet;
    struct m13_cookie cookie;
    struct m13_ring events;             /* single producer: the worker; single consumer: control */
    int event_fd;                       /* eventfd the control process polls, written per event */
    struct m13_ring commands;           /* single producer: control; single consumer: the worker */
    uint32_t echo_ms[M13_ECHO_BUCKETS]; /* hub: when a bucket of sources was last answered */
};

/* peers: slots of the table. channel, page and outlet are borrowed and outlive the path. */
int m13_path_init(struct m13_path *path, const struct m13_path_config *config, uint32_t peers,
                  struct m13_channel *channel, struct m13_stats_page *page);
void m13_path_fini(struct m13_path *path);

/* A peer is lost after 5 keepalive intervals less a quarter of one: seen within five (§5). */
void m13_path_set_keepalive(struct m13_path *path, uint16_t keepalive_ms);

/* A random interval in [base, base + base/4): resends of many nodes must not march in step. */
uint64_t m13_path_jitter(struct m13_path *path, uint64_t base_ns);

/* --- inward stages ------------------------------------------------------------------------- */

/* Hub: a UDP datagram or an L2 frame as the NIC delivered it. Fills frame, bytes, source; DROPPED
 * or goes on with m13_parse(). data holds bytes bytes from the outer Ethernet header. */
void m13_parse_outer(struct m13_path *path, struct m13_packet *packet, uint8_t *data,
                     uint32_t bytes);

/* An Ethernet frame of M13's type: whether it is for us, and then who sent it. */
bool m13_parse_l2(const struct m13_path *path, const void *data, uint32_t bytes,
                  struct m13_endpoint *source);

/* M13 header of every packet not dropped yet; finds peer and session. Answers TO_OPEN,
 * TO_REGISTER, TO_HANDSHAKE or DROPPED. */
void m13_parse(struct m13_path *path, struct m13_vector *vector);

/* Replay window, AEAD in one batch, window again. TO_OPEN becomes TO_CLASSIFY or DROPPED. */
void m13_open(struct m13_path *path, struct m13_vector *vector);

/* TO_CLASSIFY becomes TO_TUN, TO_RELAY, TO_REASSEMBLE, TO_CONTROL, DONE or DROPPED. */
void m13_classify(struct m13_path *path, struct m13_vector *vector);

/* Checks the inner packet of a TO_TUN or TO_RELAY packet against its peer; true when it may be
 * delivered. */
bool m13_deliver_check(struct m13_path *path, struct m13_packet *packet);

/* Hub with config.relay, after deliver_check: a packet for another node becomes TO_NETWORK, for
 * that node, its TTL or hop limit one less. True when it is not the TUN's: TO_NETWORK or DROPPED.
 */
bool m13_relay(struct m13_path *path, struct m13_packet *packet);

/* Consumes a TO_CONTROL, TO_REGISTER or TO_HANDSHAKE packet: DONE or DROPPED afterwards. */
void m13_control_receive(struct m13_path *path, struct m13_packet *packet);
void m13_hub_register(struct m13_path *path, struct m13_packet *packet);
void m13_hub_fragment(struct m13_path *path, struct m13_packet *packet);
void m13_node_echo(struct m13_path *path, struct m13_packet *packet);
void m13_node_fragment(struct m13_path *path, struct m13_packet *packet);

/* --- outward stages ------------------------------------------------------------------------ */

/* An inner packet, perhaps one that will be cut into segments of segment_bytes at most, headers
 * included: finds the peer by inner destination (hub) or takes the hub (node), and its session.
 * Answers TO_NETWORK, TO_FRAGMENT when not all of its segments fit the path, or DROPPED. */
void m13_collect(struct m13_path *path, struct m13_packet *packet, const uint8_t *inner,
                 uint32_t inner_bytes, uint32_t segment_bytes);

/* Stamps, numbers and seals every TO_NETWORK packet; DROPPED at the counter's end. */
void m13_seal(struct m13_path *path, struct m13_vector *vector);

/* Hub: writes the outer headers before a sealed or clear frame, on L2 the peer's MAC into it; how
 * many bytes are before it now. */
uint32_t m13_transmit_outer(const struct m13_path *path, const struct m13_endpoint *to,
                            struct m13_wire_frame *frame, uint32_t bytes);

/* --- control and handshake ----------------------------------------------------------------- */

/* Sends a frame without payload in the clear (registration, echo), with a cookie or NULL. */
void m13_control_send_clear(struct m13_path *path, const struct m13_endpoint *to, uint8_t flags,
                            uint64_t sequence, const uint8_t *cookie);
/* A control frame under this session of the peer, stamped and numbered, whose payload the caller
 * writes; NULL, and counted, when the counter is exhausted or the outlet has no frame. finish seals
 * and sends. */
struct m13_wire_frame *m13_control_begin(struct m13_path *path, struct m13_peer *peer,
                                         struct m13_session *session, uint8_t flags,
                                         uint32_t payload_bytes, uint32_t *index);
void m13_control_finish(struct m13_path *path, struct m13_peer *peer, struct m13_session *session,
                        struct m13_wire_frame *frame, uint32_t index);
/* Seals and sends TLVs to a peer with a session. */
void m13_control_send(struct m13_path *path, struct m13_peer *peer, enum m13_wire_tlv type,
                      const void *value, uint16_t value_bytes);
/* Hub: CONFIG, and ROUTES when there are networks behind the node. */
void m13_config_send(struct m13_path *path, struct m13_peer *peer);
/* Node: takes over what the hub says, as far as this protocol allows; false when it does not. */
bool m13_config_receive(struct m13_path *path, struct m13_peer *peer, const uint8_t *value,
                        uint32_t bytes);
bool m13_routes_receive(struct m13_path *path, struct m13_peer *peer, const uint8_t *value,
                        uint32_t bytes);
/* Keepalives and probes due, key overlaps over, peers lost. Once a tick per peer. */
void m13_control_tick(struct m13_path *path, struct m13_peer *peer);

/* The path MTU (core/pmtu.h). begin: there is a session, or its tunnel MTU was told; what is known
 * of the path stays. restart: the path may be another. tick: probes that are due. */
void m13_probe_begin(struct m13_path *path, struct m13_peer *peer);
void m13_probe_restart(struct m13_path *path, struct m13_peer *peer);
void m13_probe_tick(struct m13_path *path, struct m13_peer *peer);
/* A PMTU_PROBE in a frame of frame_bytes, a PMTU_ACK; false: malformed. */
bool m13_probe_answer(struct m13_path *path, struct m13_peer *peer, const uint8_t *value,
                      uint32_t bytes, uint32_t frame_bytes);
bool m13_probe_acknowledged(struct m13_path *path, struct m13_peer *peer, const uint8_t *value,
                            uint32_t bytes);

/* --- feedback (§6) --------------------------------------------------------------------------- */

/* Both ends have agreed on it, or not. */
void m13_feedback_agree(struct m13_peer *peer, bool agreed);
/* Reports to the peer what has arrived under the present key, if anything has. */
void m13_feedback_send(struct m13_path *path, struct m13_peer *peer);
/* A report out of a vector; called by m13_control_receive(). */
void m13_feedback_receive(struct m13_path *path, struct m13_packet *packet);
/* Data has arrived from the peer: a report after 32 packets or one round trip, at most one per
 * millisecond. */
void m13_feedback_consider(struct m13_path *path, struct m13_peer *peer);
static inline void m13_feedback_after_data(struct m13_path *path, struct m13_peer *peer)
{
    if (path->now_ns >= peer->report_ns)
        m13_feedback_consider(path, peer);
}
/* A keepalive has arrived: on a quiet way it may be answered by a report. */
void m13_feedback_after_keepalive(struct m13_path *path, struct m13_peer *peer);
/* Once a tick: a report of what came last, when nothing came after it. */
void m13_feedback_tick(struct m13_path *path, struct m13_peer *peer);
/* A frame was numbered: now and then its moment is noted. */
void m13_feedback_note(struct m13_path *path, struct m13_peer *peer,
                       const struct m13_session *session);
static inline void m13_feedback_after_number(struct m13_path *path, struct m13_peer *peer,
                                             const struct m13_session *session)
{
    if (path->now_ns >= peer->note_ns)
        m13_feedback_note(path, peer, session);
}

/* --- the end of a session (§6) -------------------------------------------------------------- */

/* A FIN or FIN-ACK out of a vector; called by m13_control_receive(). */
void m13_goodbye_receive(struct m13_path *path, struct m13_packet *packet);
/* Answers the FINs of a vector and ends their sessions. */
void m13_goodbye_part(struct m13_path *path);
/* After every vector, before anything else may take a slot. */
static inline void m13_goodbye_settle(struct m13_path *path)
{
    if (path->partings)
        m13_goodbye_part(path);
}
/* FINs to a peer with a session, whatever it answers. */
void m13_goodbye_say(struct m13_path *path, struct m13_peer *peer);
/* This end leaves: from now on it only receives. Then, turn after turn, goes_on sends FINs to all
 * peers, as many as the outlet takes, until it is false: all have answered, or had 5 RTT. */
void m13_goodbye_begin(struct m13_path *path);
bool m13_goodbye_goes_on(struct m13_path *path);

/* Sends handshake.message as fragments, with the same id every time. */
void m13_handshake_send(struct m13_path *path, struct m13_peer *peer);
/* A new message to send and resend: copied, given an id. */
void m13_handshake_set_message(struct m13_path *path, struct m13_peer *peer, const uint8_t *bytes,
                               uint32_t length);
/* Its fragments carry so much, within what is sensible; another size is another id. */
void m13_handshake_set_chunk(struct m13_path *path, struct m13_peer *peer, uint32_t chunk_bytes);
/* The next smaller size, if there is one: the path may not carry the present one. */
void m13_handshake_shrink(struct m13_path *path, struct m13_peer *peer);
/* One request to the worker process about this peer's attempt; false: its ring is full. */
bool m13_handshake_ask(struct m13_path *path, struct m13_peer *peer, enum m13_channel_kind kind,
                       const void *payload, uint32_t bytes);
/* Expands the keys of an ESTABLISHED answer into a spare session of the peer. */
struct m13_session *m13_handshake_install(struct m13_path *path, struct m13_peer *peer,
                                          const struct m13_channel_established *answer);
/* After an answer, whether it was used or not: its keys do not stay in our copy of it. */
void m13_handshake_wipe_answer(struct m13_path *path);

/* Whether a session has sent enough, or lived long enough, to be given new keys (§5). */
static inline bool m13_session_is_old(const struct m13_path *path,
                                      const struct m13_session *session)
{
    return path->now_ns - session->established_ns >= path->config.rekey_age_ns ||
           session->send_counter >= path->config.rekey_frames;
}

/* Answers of the worker process; returns how many there were. */
uint32_t m13_hub_answers(struct m13_path *path);
uint32_t m13_node_answers(struct m13_path *path);
/* Hub: commands, cookies, and of all peers keepalives and handshakes that lead nowhere. Node:
 * resends, new attempts, rekeying. */
void m13_hub_tick(struct m13_path *path);
/* Hub: wipes the keys of a slot's present occupant and frees the slot, whatever its state, if it
 * still has that generation. A session that ends so is reported as LOST with M13_LOST_EXPELLED. */
void m13_hub_expel(struct m13_path *path, uint32_t slot, uint32_t generation);
/* The one control thread: asks the worker for that by its next tick. False: no such slot, or too
 * many commands wait. */
bool m13_hub_ask_expel(struct m13_path *path, uint32_t slot, uint32_t generation);
/* As they: REKEY_REQUEST or CONFIG to the slot's present occupant, if it has a session. */
void m13_hub_renew(struct m13_path *path, const struct m13_command *command);
bool m13_hub_ask_renew(struct m13_path *path, enum m13_command_kind kind, uint32_t slot,
                       uint32_t generation);
void m13_node_tick(struct m13_path *path, struct m13_peer *peer);
/* Node: forgets its sessions; they were lost, or ended by the hub. */
void m13_node_lose(struct m13_path *path, struct m13_peer *peer);
/* Node: the next attempt begins a little later, not at once. */
void m13_node_pause(struct m13_path *path, struct m13_peer *peer);
/* Node: CONFIG arrived; under the new key that ends the handshake. */
void m13_node_configured(struct m13_peer *peer);
/* Node: a frame under the new key arrived, so the hub has it: use it. */
void m13_node_confirm(struct m13_path *path, struct m13_peer *peer);

/* --- report and drop ----------------------------------------------------------------------- */

/* Events for the control process; one that finds the ring full is lost. */
void m13_report_event(struct m13_path *path, enum m13_event_kind kind, const struct m13_peer *peer,
                      uint32_t detail, const uint8_t *fingerprint);
void m13_report_path(struct m13_path *path, const struct m13_peer *peer);
void m13_report_config(struct m13_path *path, const struct m13_peer *peer,
                       const struct m13_wire_config *config);
/* Hexdump of a frame as it is on the wire, twenty a second each way, after a burst of twenty. */
void m13_report_frame(struct m13_path *path, const struct m13_endpoint *endpoint,
                      const struct m13_wire_frame *frame, uint32_t bytes, bool sent);
/* Telemetry rows of all peers, and the gauges that come from the table. */
void m13_report_peers(struct m13_path *path);

static inline void m13_drop(struct m13_path *path, struct m13_packet *packet, enum m13_drop reason)
{
    packet->verdict = M13_DROPPED;
    m13_stats_drop(path->stats, reason);
}

#endif
