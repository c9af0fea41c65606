/* The node's half of a handshake, and when to begin a new one. While a session is up the same
 * steps run beside it (make-before-break); it is replaced when the hub uses the new key.
 *
 *   IDLE -> REGISTERING -echo-> HELLO -ServerHello-> HELLO_DONE -answer-> FINISHED -CONFIG-> IDLE
 */
#include "path.h"

#define RESEND_FIRST_NS (250 * M13_MILLISECOND_NS) /* §4.3: 250 ms growing to 2 s */
#define RESEND_MAX_NS   (2 * M13_SECOND_NS)
#define REGISTER_NS     (100 * M13_MILLISECOND_NS) /* keepalive before a session */
#define ATTEMPT_MAX_NS  (20 * M13_SECOND_NS)       /* over two round trips of 8 s (§4.3) */
#define ASK_AGAIN_NS    (2 * M13_SECOND_NS)        /* the worker process died over the request */

static void schedule_resend(struct m13_path *path, struct m13_handshake *handshake,
                            uint64_t interval_ns)
{
    handshake->interval_ns = interval_ns;
    handshake->resend_ns = path->now_ns + m13_path_jitter(path, interval_ns);
}

static void show_state(struct m13_path *path, const struct m13_peer *peer)
{
    enum m13_state state = peer->current ? M13_STATE_Established : M13_STATE_Handshaking;
    if (!peer->current && peer->handshake.phase == M13_HANDSHAKE_IDLE)
        state = M13_STATE_Disconnected;
    if (!peer->current && peer->handshake.phase == M13_HANDSHAKE_REGISTERING)
        state = M13_STATE_Registering;
    path->page->state = state;
}

static void send_registration(struct m13_path *path, struct m13_peer *peer, uint8_t flags)
{
    m13_control_send_clear(path, &peer->endpoint, flags, path->clear_sequence++, NULL);
    m13_stats_add(path->stats, M13_STAT_registrations, 1);
}

/* Without a session nothing is known of where on the Ethernet the hub is, or who answered last. */
static void forget_hub(const struct m13_path *path, struct m13_peer *peer)
{
    if (path->config.l2 && !peer->current)
        m13_endpoint_set_l2(&peer->endpoint, path->config.l2_hub);
}

/* Who answered the registration is asked for the rest; whether it is the hub, its signature tells.
 */
static void learn_hub(const struct m13_path *path, struct m13_peer *peer,
                      const struct m13_endpoint *source)
{
    static const uint8_t everybody[6] = {0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF};
    if (path->config.l2 && !peer->current && peer->handshake.phase == M13_HANDSHAKE_REGISTERING &&
        !memcmp(peer->endpoint.mac, everybody, sizeof everybody))
        peer->endpoint = *source;
}

static void begin(struct m13_path *path, struct m13_peer *peer)
{
    struct m13_handshake *handshake = &peer->handshake;
    uint8_t version = path->config.handshake_version;
    handshake->generation = ++path->handshake_generation;
    /* the worker makes the ClientHello while the registration travels */
    if (!m13_handshake_ask(path, peer, M13_CHANNEL_ASK_START, &version, 1)) {
        schedule_resend(path, handshake, RESEND_MAX_NS);
        return;
    }
    m13_stats_add(path->stats, M13_STAT_handshakes_started, 1);
    forget_hub(path, peer);
    handshake->phase = M13_HANDSHAKE_REGISTERING;
    handshake->has_identity = handshake->has_cookie = false;
    handshake->first_sequence = path->clear_sequence;
    handshake->key_phase = peer->current ? (uint8_t)(peer->current->key_phase + 1) : 0;
    handshake->started_ns = path->now_ns;
    bool known = peer->current && peer->pmtu.confirmed;
    m13_handshake_set_chunk(path, peer,
                            known ? peer->pmtu.frame_bytes - M13_WIRE_FRAME_BYTES -
                                        sizeof(struct m13_wire_fragment)
                                  : M13_FRAGMENT_CHUNK_BYTES);
    if (!peer->current)
        path->page->first_frame_ns = path->now_ns;
    send_registration(path, peer, M13_FLAGS_REGISTRATION);
    schedule_resend(path, handshake, REGISTER_NS);
}

/* An attempt failed: the next one waits, longer each time (no failure retries at once). */
static void give_up(struct m13_path *path, struct m13_peer *peer)
{
    struct m13_handshake *handshake = &peer->handshake;
    handshake->phase = M13_HANDSHAKE_IDLE;
    (void)m13_handshake_ask(path, peer, M13_CHANNEL_ASK_FORGET, NULL, 0);
    uint64_t interval_ns = handshake->interval_ns * 2;
    if (interval_ns < RESEND_FIRST_NS)
        interval_ns = RESEND_FIRST_NS;
    schedule_resend(path, handshake, interval_ns > RESEND_MAX_NS ? RESEND_MAX_NS : interval_ns);
}

static void send_hello_when_ready(struct m13_path *path, struct m13_peer *peer)
{
    struct m13_handshake *handshake = &peer->handshake;
    if (!handshake->has_identity || !handshake->has_cookie ||
        handshake->phase != M13_HANDSHAKE_REGISTERING)
        return;
    handshake->phase = M13_HANDSHAKE_HELLO;
    handshake->started_ns = path->now_ns; /* the registration's round trip is not counted */
    m13_handshake_send(path, peer);
    schedule_resend(path, handshake, RESEND_FIRST_NS);
}

/* It repeats the sequence of what it answers, which only who saw that can know: a cookie that is
 * not the hub's would keep a node out while it lasts. */
static bool is_answer(const struct m13_path *path, const struct m13_handshake *handshake,
                      const struct m13_wire_header *echo)
{
    return path->config.handshake_version < 2 ||
           echo->sequence - handshake->first_sequence <
               path->clear_sequence - handshake->first_sequence;
}

/* The echo's tag is the cookie; a later echo renews it in the middle of an attempt, as happens
 * when the hub was restarted. */
void m13_node_echo(struct m13_path *path, struct m13_packet *packet)
{
    struct m13_peer *peer = &path->peers.slots[0];
    packet->verdict = M13_DONE;
    if (packet->frame->header.flags != M13_FLAGS_ECHO) {
        m13_drop(path, packet, M13_DROP_clear_flags);
        return;
    }
    m13_stats_add(path->stats, M13_STAT_echoes, 1);
    if (peer->handshake.phase == M13_HANDSHAKE_IDLE)
        return;
    if (!is_answer(path, &peer->handshake, &packet->frame->header)) {
        m13_drop(path, packet, M13_DROP_handshake_message);
        return;
    }
    learn_hub(path, peer, &packet->source);
    memcpy(peer->handshake.cookie, packet->frame->header.tag, sizeof peer->handshake.cookie);
    peer->handshake.has_cookie = true;
    send_hello_when_ready(path, peer);
}

/* A piece as long as ours passed, so what is missing is missing for other reasons than size. */
static void note_size(struct m13_peer *peer, const uint8_t *payload)
{
    struct m13_wire_fragment header;
    memcpy(&header, payload, sizeof header);
    if (header.bytes >= peer->handshake.chunk_bytes)
        peer->handshake.smaller_after = 2 * M13_HANDSHAKE_RESENDS;
}

void m13_node_fragment(struct m13_path *path, struct m13_packet *packet)
{
    struct m13_peer *peer = &path->peers.slots[0];
    struct m13_frag_message message;
    packet->verdict = M13_DONE;
    enum m13_frag_verdict verdict =
        m13_frag_feed(&peer->frag, packet->frame->header.flags, packet->frame->payload,
                      packet->bytes - M13_WIRE_FRAME_BYTES, path->now_ns, &message);
    if (verdict == M13_FRAG_REFUSED)
        m13_drop(path, packet, M13_DROP_fragment);
    else
        note_size(peer, packet->frame->payload);
    if (verdict != M13_FRAG_COMPLETE)
        return;
    m13_stats_add(path->stats, M13_STAT_handshake_messages, 1);
    if (peer->handshake.phase != M13_HANDSHAKE_HELLO || message.bytes[0] != M13_SERVER_HELLO ||
        message.length != M13_SERVER_HELLO_BYTES) {
        m13_drop(path, packet, M13_DROP_handshake_message);
        return;
    }
    if (m13_handshake_ask(path, peer, M13_CHANNEL_ASK_SERVER_HELLO, message.bytes, message.length))
        peer->handshake.phase = M13_HANDSHAKE_HELLO_DONE;
}

static void established(struct m13_path *path, struct m13_peer *peer)
{
    struct m13_channel_established *answer = (void *)path->message.payload;
    memcpy(peer->fingerprint, answer->fingerprint, sizeof peer->fingerprint);
    if (peer->next)
        m13_session_fini(peer->next, &path->aead);
    peer->next = NULL;
    m13_handshake_set_message(path, peer, path->message.payload + sizeof *answer,
                              M13_FINISHED_BYTES);
    peer->next = m13_handshake_install(path, peer, answer);
    if (!peer->next) {
        give_up(path, peer);
        return;
    }
    peer->handshake.phase = M13_HANDSHAKE_FINISHED;
    m13_handshake_send(path, peer);
    schedule_resend(path, &peer->handshake, RESEND_FIRST_NS);
}

/* A ServerHello whose signature is false may be an attacker's: the true one is still awaited. */
static void refused(struct m13_path *path, struct m13_peer *peer)
{
    const struct m13_channel_refused *answer = (const void *)path->message.payload;
    m13_stats_add(path->stats, M13_STAT_handshakes_refused, 1);
    m13_report_event(path, M13_EVENT_REFUSED, peer, answer->reason, answer->fingerprint);
    bool forged =
        answer->reason == M13_CHANNEL_BAD_SIGNATURE || answer->reason == M13_CHANNEL_MALFORMED;
    /* so may one with a stranger's key; before the first session it is the operator's to judge */
    forged |= peer->handshakes && answer->reason == M13_CHANNEL_HUB_KEY_MISMATCH;
    if (!forged)
        give_up(path, peer);
    else if (peer->handshake.phase == M13_HANDSHAKE_HELLO_DONE)
        peer->handshake.phase = M13_HANDSHAKE_HELLO;
}

static void answer(struct m13_path *path, struct m13_peer *peer)
{
    const struct m13_channel_message *message = &path->message;
    struct m13_handshake *handshake = &peer->handshake;
    if (message->peer != peer->slot || message->generation != handshake->generation ||
        handshake->phase == M13_HANDSHAKE_IDLE)
        return;
    if (message->kind == M13_CHANNEL_SAY_CLIENT_HELLO && !handshake->has_identity &&
        message->length == M13_CLIENT_HELLO_BYTES) {
        handshake->has_identity = true;
        m13_handshake_set_message(path, peer, message->payload, message->length);
        send_hello_when_ready(path, peer);
    } else if (message->kind == M13_CHANNEL_SAY_ESTABLISHED &&
               handshake->phase == M13_HANDSHAKE_HELLO_DONE &&
               message->length == sizeof(struct m13_channel_established) + M13_FINISHED_BYTES) {
        established(path, peer);
    } else if (message->kind == M13_CHANNEL_SAY_REFUSED &&
               message->length >= sizeof(struct m13_channel_refused)) {
        refused(path, peer);
    }
}

uint32_t m13_node_answers(struct m13_path *path)
{
    uint32_t count = 0;
    while (count < M13_CHANNEL_SLOTS &&
           m13_channel_receive(path->channel, M13_CHANNEL_ANSWERS, &path->message)) {
        answer(path, &path->peers.slots[0]);
        m13_handshake_wipe_answer(path);
        count++;
    }
    show_state(path, &path->peers.slots[0]);
    return count;
}

void m13_node_lose(struct m13_path *path, struct m13_peer *peer)
{
    m13_peer_forget_sessions(peer, &path->aead);
    peer->state = M13_STATE_Handshaking;
    peer->configured = false;
    peer->pmtu.phase = M13_PMTU_IDLE; /* the way to it may be another then */
    path->peers.established = 0;
}

void m13_node_pause(struct m13_path *path, struct m13_peer *peer)
{
    if (peer->handshake.phase == M13_HANDSHAKE_IDLE)
        schedule_resend(path, &peer->handshake, RESEND_FIRST_NS);
}

void m13_node_configured(struct m13_peer *peer)
{
    if (peer->handshake.phase != M13_HANDSHAKE_FINISHED || peer->next)
        return;
    peer->handshake.phase = M13_HANDSHAKE_IDLE;
    peer->handshake.interval_ns = 0;
}

void m13_node_confirm(struct m13_path *path, struct m13_peer *peer)
{
    bool renewed = peer->current != NULL;
    m13_peer_promote(peer, &path->aead, peer->next, path->now_ns);
    peer->state = M13_STATE_Established;
    path->peers.established = 1;
    peer->last_sent_ns = 0; /* the next tick's keepalive tells the hub that we have the key */
    peer->handshakes++;
    /* without CONFIG there is no tunnel yet: Finished is sent again until it comes */
    if (peer->configured)
        m13_node_configured(peer);
    peer->rekey_requested = false;
    m13_stats_add(path->stats, M13_STAT_handshakes_done, 1);
    if (!renewed && peer->handshakes > 1)
        m13_stats_add(path->stats, M13_STAT_reconnects, 1);
    if (!renewed)
        path->page->session_up_ns = m13_clock_now_ns();
    show_state(path, peer);
    m13_report_event(path, M13_EVENT_ESTABLISHED, peer, renewed, NULL);
}

static void resend(struct m13_path *path, struct m13_peer *peer)
{
    struct m13_handshake *handshake = &peer->handshake;
    uint64_t interval_ns = handshake->interval_ns * 2;
    uint8_t version = path->config.handshake_version;
    if (!handshake->has_identity && path->now_ns - handshake->started_ns >= ASK_AGAIN_NS)
        (void)m13_handshake_ask(path, peer, M13_CHANNEL_ASK_START, &version, 1);
    /* 0x80 before a session is the cleartext keepalive: it asks for an echo as well */
    send_registration(path, peer, M13_FLAGS_ECHO);
    if (handshake->phase == M13_HANDSHAKE_HELLO || handshake->phase == M13_HANDSHAKE_FINISHED) {
        m13_stats_add(path->stats, M13_STAT_handshake_resends, 1);
        if (!handshake->smaller_after--) {
            m13_handshake_shrink(path, peer);
            handshake->smaller_after = M13_HANDSHAKE_RESENDS - 1;
        }
        m13_handshake_send(path, peer);
    }
    schedule_resend(path, handshake, interval_ns > RESEND_MAX_NS ? RESEND_MAX_NS : interval_ns);
}

void m13_node_tick(struct m13_path *path, struct m13_peer *peer)
{
    struct m13_handshake *handshake = &peer->handshake;
    m13_control_tick(path, peer);
    bool due = path->now_ns >= handshake->resend_ns;
    if (handshake->phase == M13_HANDSHAKE_IDLE) {
        if (due && (!peer->current || !peer->configured || peer->rekey_requested ||
                    m13_session_is_old(path, peer->current)))
            begin(path, peer);
    } else if (path->now_ns - handshake->started_ns > ATTEMPT_MAX_NS ||
               (handshake->phase == M13_HANDSHAKE_FINISHED && !peer->next && !peer->current)) {
        give_up(path, peer);
    } else if (due) {
        resend(path, peer);
    }
    show_state(path, peer);
}
