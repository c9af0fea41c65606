/* The hub's half of a handshake. A peer with a session keeps it, whatever arrives in the clear,
 * until the Finished of a new handshake has verified (§2).
 *
 *   IDLE -ClientHello-> HELLO -answer-> HELLO_DONE -Finished-> FINISHED -answer-> CONFIRMED */
#include "path.h"

#define RESTART_NS (5 * M13_SECOND_NS) /* another ClientHello does not displace one before */
/* An answer takes milliseconds, and a quarter of a second when all 64 peers ask at once: after this
 * long the worker process died over the request. To ask again what it still has is harmless. */
#define ASK_AGAIN_NS (2 * M13_SECOND_NS)

static bool is_due(const struct m13_path *path, const struct m13_handshake *handshake)
{
    return path->now_ns - handshake->answered_ns >= M13_HELLO_INTERVAL_NS;
}

/* To the worker process, under the attempt's generation, where up to four of an attempt are kept
 * (m13/handshake.py); false: not now. */
static bool ask_hello(struct m13_path *path, struct m13_peer *peer,
                      const struct m13_frag_message *message, uint16_t id)
{
    struct m13_handshake *handshake = &peer->handshake;
    if (!m13_handshake_ask(path, peer, M13_CHANNEL_ASK_CLIENT_HELLO, message->bytes,
                           message->length))
        return false;
    m13_handshake_set_chunk(path, peer, message->chunk_bytes);
    handshake->has_heard = true;
    handshake->heard_id = id;
    handshake->answered_ns = path->now_ns;
    memcpy(handshake->hello, message->bytes, M13_CLIENT_HELLO_BYTES);
    return true;
}

/* The attempt's ClientHello once more. When it differs, one of the two was damaged or forged on its
 * way, and an answer to that one never verifies: the worker answers both, and Finished decides. */
static void hello_again(struct m13_path *path, struct m13_peer *peer,
                        const struct m13_frag_message *message, uint16_t id)
{
    struct m13_handshake *handshake = &peer->handshake;
    bool differs = memcmp(handshake->hello, message->bytes, M13_CLIENT_HELLO_BYTES) != 0;
    if (handshake->phase == M13_HANDSHAKE_HELLO &&
        path->now_ns - handshake->answered_ns >= ASK_AGAIN_NS) {
        (void)ask_hello(path, peer, message, id);
    } else if (handshake->phase == M13_HANDSHAKE_HELLO_DONE && is_due(path, handshake)) {
        m13_stats_add(path->stats, M13_STAT_handshake_resends, 1);
        if (differs) {
            (void)ask_hello(path, peer, message, id);
            return;
        }
        handshake->has_heard = true;
        handshake->heard_id = id;
        m13_handshake_set_chunk(path, peer, message->chunk_bytes);
        m13_handshake_send(path, peer);
    }
}

/* Ten attempts a second from one endpoint at most; each costs the worker lattice work. */
static void client_hello(struct m13_path *path, struct m13_peer *peer,
                         const struct m13_frag_message *message, uint8_t key_phase, uint16_t id)
{
    struct m13_handshake *handshake = &peer->handshake;
    if (handshake->phase != M13_HANDSHAKE_IDLE &&
        !memcmp(handshake->hello + M13_HELLO_NONCE_OFFSET, message->bytes + M13_HELLO_NONCE_OFFSET,
                M13_HELLO_NONCE_BYTES)) {
        hello_again(path, peer, message, id);
        return;
    }
    bool running = handshake->phase != M13_HANDSHAKE_IDLE &&
                   handshake->phase != M13_HANDSHAKE_CONFIRMED &&
                   path->now_ns - handshake->started_ns < RESTART_NS;
    if (running || !is_due(path, handshake))
        return;
    uint32_t former = handshake->generation;
    handshake->generation = path->handshake_generation + 1;
    if (!ask_hello(path, peer, message, id)) {
        handshake->generation = former;
        return;
    }
    path->handshake_generation++;
    handshake->phase = M13_HANDSHAKE_HELLO;
    handshake->key_phase = key_phase;
    handshake->started_ns = path->now_ns;
    m13_stats_add(path->stats, M13_STAT_handshakes_started, 1);
}

static void finished(struct m13_path *path, struct m13_peer *peer,
                     const struct m13_frag_message *message, uint16_t id)
{
    struct m13_handshake *handshake = &peer->handshake;
    if (handshake->phase == M13_HANDSHAKE_HELLO_DONE) {
        if (m13_handshake_ask(path, peer, M13_CHANNEL_ASK_FINISHED, message->bytes,
                              message->length)) {
            handshake->phase = M13_HANDSHAKE_FINISHED;
            handshake->has_heard = true;
            handshake->heard_id = id;
        }
    } else if (handshake->phase == M13_HANDSHAKE_CONFIRMED && is_due(path, handshake)) {
        handshake->answered_ns = path->now_ns; /* the node has not seen CONFIG */
        m13_config_send(path, peer);
    } else if (handshake->phase != M13_HANDSHAKE_FINISHED) {
        m13_stats_drop(path->stats, M13_DROP_handshake_message);
    }
}

/* A node that speaks another version would only see silence: the operator is told. */
static void version_refused(struct m13_path *path, struct m13_peer *peer)
{
    m13_stats_drop(path->stats, M13_DROP_handshake_message);
    if (path->now_ns - peer->handshake.answered_ns < M13_SECOND_NS)
        return;
    peer->handshake.answered_ns = path->now_ns;
    uint8_t unknown[32] = {0};
    m13_report_event(path, M13_EVENT_REFUSED, peer, M13_CHANNEL_VERSION_REFUSED, unknown);
}

static void message_complete(struct m13_path *path, struct m13_peer *peer,
                             const struct m13_frag_message *message, uint8_t key_phase, uint16_t id)
{
    m13_stats_add(path->stats, M13_STAT_handshake_messages, 1);
    uint8_t type = message->bytes[0];
    if (type == M13_CLIENT_HELLO && message->length == M13_CLIENT_HELLO_BYTES) {
        uint8_t version = message->bytes[1];
        bool v2 = version == 2 && path->config.accept_v2 && peer->handshake.has_cookie;
        if (v2 || (version == 1 && path->config.accept_v1))
            client_hello(path, peer, message, version == 2 ? key_phase : 0, id);
        else
            version_refused(path, peer);
    } else if (type == M13_FINISHED && message->length == M13_FINISHED_BYTES) {
        finished(path, peer, message, id);
    } else {
        m13_stats_drop(path->stats, M13_DROP_handshake_message);
    }
}

/* Who proves by a cookie that he is there begins afresh: what was begun there without one may be a
 * stranger's, or of before this hub started. */
static uint16_t forget_unproved(struct m13_path *path, uint16_t slot)
{
    struct m13_peer *peer = &path->peers.slots[slot];
    if (peer->state != M13_STATE_Handshaking || peer->handshake.has_cookie)
        return slot;
    (void)m13_handshake_ask(path, peer, M13_CHANNEL_ASK_FORGET, NULL, 0);
    m13_peers_release(&path->peers, &path->aead, slot);
    return M13_PEER_NONE;
}

/* The slot a fragment belongs to; a source earns one by a cookie or, for v1, by a small budget.
 * A peer that proved a cookie once is not spoken for by frames without one. */
static uint16_t slot_for(struct m13_path *path, struct m13_packet *packet)
{
    const struct m13_wire_frame *frame = packet->frame;
    bool has_cookie = m13_cookie_check(&path->cookie, &packet->source, frame->header.tag);
    uint16_t slot = m13_peers_find_endpoint(&path->peers, &packet->source);
    if (has_cookie && slot != M13_PEER_NONE)
        slot = forget_unproved(path, slot);
    bool known = slot != M13_PEER_NONE;
    bool proved = known ? path->peers.slots[slot].handshake.has_cookie : !path->config.accept_v1;
    if (!has_cookie && proved) {
        m13_drop(path, packet, M13_DROP_no_cookie);
        return M13_PEER_NONE;
    }
    if (!known)
        slot = m13_peers_claim(&path->peers, &path->aead, &packet->source, frame->ethernet.source,
                               has_cookie, path->now_ns);
    if (slot == M13_PEER_NONE)
        m13_drop(path, packet, M13_DROP_no_peer_slot);
    return slot;
}

/* Whether the fragment is a piece of the ClientHello that is answered, byte for byte. */
static bool is_of_hello(const struct m13_handshake *handshake, const struct m13_packet *packet,
                        const struct m13_wire_fragment *header)
{
    return header->bytes <= packet->bytes - M13_WIRE_FRAME_BYTES - sizeof *header &&
           (uint32_t)header->offset + header->bytes <= M13_CLIENT_HELLO_BYTES &&
           !memcmp(handshake->hello + header->offset, packet->frame->payload + sizeof *header,
                   header->bytes);
}

/* A fragment of a message that was answered says that the answer was lost. One tells, so a way that
 * loses much need not carry all of them again. Whoever has no cookie must send the whole: to him we
 * never say more than he said. */
static bool answered_again(struct m13_path *path, struct m13_peer *peer,
                           const struct m13_packet *packet, const struct m13_wire_fragment *header)
{
    struct m13_handshake *handshake = &peer->handshake;
    bool has_answer =
        handshake->phase == M13_HANDSHAKE_HELLO_DONE || handshake->phase == M13_HANDSHAKE_CONFIRMED;
    if (!handshake->has_cookie || !handshake->has_heard || handshake->heard_id != header->id ||
        !has_answer)
        return false;
    if (handshake->phase == M13_HANDSHAKE_HELLO_DONE && !is_of_hello(handshake, packet, header)) {
        handshake->has_heard = false; /* two messages of one id: only a whole one tells */
        return false;
    }
    if (!is_due(path, handshake))
        return true;
    handshake->answered_ns = path->now_ns;
    m13_stats_add(path->stats, M13_STAT_handshake_resends, 1);
    if (handshake->phase == M13_HANDSHAKE_HELLO_DONE)
        m13_handshake_send(path, peer);
    else
        m13_config_send(path, peer);
    return true;
}

void m13_hub_fragment(struct m13_path *path, struct m13_packet *packet)
{
    struct m13_frag_message message;
    struct m13_wire_fragment header;
    uint16_t slot = slot_for(path, packet);
    if (slot == M13_PEER_NONE)
        return;
    struct m13_peer *peer = &path->peers.slots[slot];
    packet->verdict = M13_DONE;
    if (packet->bytes < M13_WIRE_FRAME_BYTES + sizeof header) {
        m13_drop(path, packet, M13_DROP_fragment);
        return;
    }
    memcpy(&header, packet->frame->payload, sizeof header);
    if (answered_again(path, peer, packet, &header))
        return;
    switch (m13_frag_feed(&peer->frag, packet->frame->header.flags, packet->frame->payload,
                          packet->bytes - M13_WIRE_FRAME_BYTES, path->now_ns, &message)) {
    case M13_FRAG_COMPLETE:
        message_complete(path, peer, &message, packet->frame->header.key_phase, header.id);
        break;
    case M13_FRAG_REFUSED:
        m13_drop(path, packet, M13_DROP_fragment);
        break;
    case M13_FRAG_INCOMPLETE:
        break;
    }
}

/* A node's IPv6 address: the roster's, or in the hub's IPv6 subnet the host number it has in the
 * IPv4 one. Zero when there is no such subnet. */
static void place6(const struct m13_path *path, const struct m13_channel_established *answer,
                   uint8_t address6[16])
{
    static const uint8_t none[16];
    memset(address6, 0, 16);
    if (!path->config.prefix6_bits)
        return;
    memcpy(address6, answer->tunnel_address6, 16);
    if (memcmp(address6, none, sizeof none) != 0)
        return;
    memcpy(address6, path->config.hub_tunnel_address6, 16);
    /* the hub's own host number is the last of its IPv4 address, so only those bits differ */
    uint32_t host_mask =
        answer->address_prefix_bits < 32 ? 0xFFFFFFFFu >> answer->address_prefix_bits : 0;
    for (uint32_t i = 0; i < 4; i++) {
        uint8_t mask = (uint8_t)(host_mask >> (24 - 8 * i));
        address6[12 + i] =
            (uint8_t)((address6[12 + i] & ~mask) | (answer->tunnel_address[i] & mask));
    }
}

static void establish(struct m13_path *path, struct m13_peer *peer,
                      const struct m13_channel_established *answer)
{
    uint32_t tunnel_address;
    bool renewed = peer->current != NULL;
    memcpy(&tunnel_address, answer->tunnel_address, 4);
    struct m13_prefix prefixes[M13_PEER_PREFIXES_MAX];
    uint8_t address6[16];
    place6(path, answer, address6);
    uint32_t count = m13_peer_own_prefixes(tunnel_address, address6, prefixes);
    for (uint32_t i = 0; i < answer->prefix_count && i < M13_CHANNEL_PREFIXES_MAX; i++)
        if (m13_prefix_is_valid(&answer->prefixes[i]))
            prefixes[count++] = answer->prefixes[i];
    if (!m13_peers_establish(&path->peers, &path->aead, peer->slot, answer->fingerprint, prefixes,
                             count)) {
        m13_stats_drop(path->stats, M13_DROP_no_peer_slot);
        m13_stats_add(path->stats, M13_STAT_handshakes_refused, 1);
        m13_report_event(path, M13_EVENT_REFUSED, peer, M13_CHANNEL_HUB_FULL, answer->fingerprint);
        m13_peers_release(&path->peers, &path->aead, peer->slot);
        return;
    }
    memcpy(peer->name, answer->name, sizeof peer->name);
    peer->name[sizeof peer->name - 1] = 0;
    peer->prefix_bits = answer->address_prefix_bits;
    memcpy(peer->tunnel_address6, address6, sizeof peer->tunnel_address6);
    /* the phase came in the clear: two keys of one must not meet, and the tag tells the node */
    if (renewed && peer->current && peer->current->key_phase == peer->handshake.key_phase)
        peer->handshake.key_phase++;
    struct m13_session *session = m13_handshake_install(path, peer, answer);
    if (!session) {
        m13_peers_release(&path->peers, &path->aead, peer->slot);
        return;
    }
    m13_peer_promote(peer, &path->aead, session, path->now_ns);
    peer->last_heard_ns = peer->last_sent_ns = path->now_ns;
    peer->handshake.phase = M13_HANDSHAKE_CONFIRMED;
    peer->handshake.answered_ns = path->now_ns;
    peer->handshakes++;
    m13_stats_add(path->stats, M13_STAT_handshakes_done, 1);
    if (!renewed && m13_peers_returned(&path->peers, peer->fingerprint))
        m13_stats_add(path->stats, M13_STAT_reconnects, 1);
    m13_feedback_agree(peer, path->config.feedback);
    m13_config_send(path, peer);
    m13_probe_begin(path, peer);
    m13_report_event(path, M13_EVENT_ESTABLISHED, peer, renewed, NULL);
}

/* Whether it speaks of another ClientHello than the one whose Finished is awaited or asked about.
 */
static bool is_of_another_hello(const struct m13_handshake *handshake, uint32_t reason)
{
    return handshake->phase == M13_HANDSHAKE_HELLO_DONE ||
           (handshake->phase == M13_HANDSHAKE_FINISHED &&
            (reason == M13_CHANNEL_NOT_ADMITTED || reason == M13_CHANNEL_VERSION_REFUSED ||
             reason == M13_CHANNEL_MALFORMED));
}

/* A refusal ends the attempt, except that a false message must not spoil the true one. */
static void refused(struct m13_path *path, struct m13_peer *peer,
                    const struct m13_channel_refused *answer)
{
    m13_stats_add(path->stats, M13_STAT_handshakes_refused, 1);
    m13_report_event(path, M13_EVENT_REFUSED, peer, answer->reason, answer->fingerprint);
    peer->handshake.has_heard = false; /* the true one may have the same id */
    if (is_of_another_hello(&peer->handshake, answer->reason))
        return;
    if (peer->handshake.phase == M13_HANDSHAKE_FINISHED &&
        answer->reason == M13_CHANNEL_BAD_SIGNATURE)
        peer->handshake.phase = M13_HANDSHAKE_HELLO_DONE;
    else if (peer->current)
        peer->handshake.phase = M13_HANDSHAKE_IDLE;
    else
        m13_peers_release(&path->peers, &path->aead, peer->slot);
}

static void answer(struct m13_path *path, const struct m13_channel_message *message)
{
    if (message->peer >= path->peers.count)
        return;
    struct m13_peer *peer = &path->peers.slots[message->peer];
    struct m13_handshake *handshake = &peer->handshake;
    /* the slot or the attempt may have changed while the worker thought */
    if (peer->state == M13_STATE_Disconnected || handshake->generation != message->generation)
        return;
    if (message->kind == M13_CHANNEL_SAY_SERVER_HELLO &&
        (handshake->phase == M13_HANDSHAKE_HELLO || handshake->phase == M13_HANDSHAKE_HELLO_DONE) &&
        message->length == M13_SERVER_HELLO_BYTES) {
        handshake->phase = M13_HANDSHAKE_HELLO_DONE;
        m13_handshake_set_message(path, peer, message->payload, message->length);
        m13_handshake_send(path, peer);
    } else if (message->kind == M13_CHANNEL_SAY_ESTABLISHED &&
               handshake->phase == M13_HANDSHAKE_FINISHED &&
               message->length >= sizeof(struct m13_channel_established)) {
        establish(path, peer, (const void *)message->payload);
    } else if (message->kind == M13_CHANNEL_SAY_REFUSED &&
               message->length >= sizeof(struct m13_channel_refused)) {
        refused(path, peer, (const void *)message->payload);
    }
}

uint32_t m13_hub_answers(struct m13_path *path)
{
    uint32_t count = 0;
    while (count < M13_CHANNEL_SLOTS &&
           m13_channel_receive(path->channel, M13_CHANNEL_ANSWERS, &path->message)) {
        answer(path, &path->message);
        m13_handshake_wipe_answer(path);
        count++;
    }
    return count;
}
