/* What both ends do to carry a handshake: fragments out, requests to the worker, keys in. */
#include "path.h"

#include <openssl/crypto.h>

/* Of a message's fragments, all but the last. The usual one; then what passes a path of 1280 bytes,
 * which every IPv6 path carries (RFC 8200), with IPv6 around it; then 576 (RFC 791) with IPv4. */
static const uint16_t CHUNKS[] = {M13_FRAGMENT_CHUNK_BYTES, M13_FRAGMENT_CHUNK6_BYTES,
                                  576 - 28 - 62 - 8};
_Static_assert((M13_SERVER_HELLO_BYTES + 477) / 478 <= M13_FRAGMENT_TOTAL_MAX,
               "the largest message passes in the smallest chunks");

/* No router fragments IPv6, and nothing is known of the path yet. */
static uint32_t chunk_bytes_max(const struct m13_peer *peer)
{
    bool is_ipv6 = m13_endpoint_kind(&peer->endpoint) == M13_ENDPOINT_IPV6;
    return is_ipv6 ? M13_FRAGMENT_CHUNK6_BYTES : M13_FRAGMENT_CHUNK_BYTES;
}

static void send_fragment(struct m13_path *path, struct m13_peer *peer, uint32_t index,
                          uint32_t total)
{
    const struct m13_handshake *handshake = &peer->handshake;
    uint32_t buffer, offset = index * handshake->chunk_bytes;
    uint32_t chunk = handshake->message_bytes - offset;
    if (chunk > handshake->chunk_bytes)
        chunk = handshake->chunk_bytes;
    struct m13_wire_frame *frame = path->outlet.take(path->outlet.owner, &buffer);
    if (!frame) {
        m13_stats_drop(path->stats, M13_DROP_no_frame);
        return;
    }
    struct m13_wire_fragment header = {.id = handshake->message_id,
                                       .index = (uint8_t)index,
                                       .total = (uint8_t)total,
                                       .offset = (uint16_t)offset,
                                       .bytes = (uint16_t)chunk};
    m13_wire_stamp(frame, path->config.mac, M13_FLAGS_HANDSHAKE, 0, path->clear_sequence++);
    if (!path->config.is_hub && path->config.handshake_version >= 2) {
        memcpy(frame->header.tag, handshake->cookie, sizeof handshake->cookie);
        frame->header.key_phase = handshake->key_phase;
    }
    memcpy(frame->payload, &header, sizeof header);
    memcpy(frame->payload + sizeof header, handshake->message + offset, chunk);
    path->outlet.send(path->outlet.owner, &peer->endpoint, buffer,
                      (uint32_t)(M13_WIRE_FRAME_BYTES + sizeof header + chunk));
}

void m13_handshake_send(struct m13_path *path, struct m13_peer *peer)
{
    uint32_t total =
        m13_wire_fragment_total(peer->handshake.message_bytes, peer->handshake.chunk_bytes);
    for (uint32_t index = 0; index < total; index++)
        send_fragment(path, peer, index, total);
    peer->handshake.answered_ns = path->now_ns;
}

void m13_handshake_set_message(struct m13_path *path, struct m13_peer *peer, const uint8_t *bytes,
                               uint32_t length)
{
    memcpy(peer->handshake.message, bytes, length);
    peer->handshake.message_bytes = length;
    peer->handshake.message_id = (uint16_t)path->clear_sequence;
    peer->handshake.smaller_after = M13_HANDSHAKE_RESENDS;
    if (!peer->handshake.chunk_bytes)
        peer->handshake.chunk_bytes = (uint16_t)chunk_bytes_max(peer);
}

void m13_handshake_set_chunk(struct m13_path *path, struct m13_peer *peer, uint32_t chunk_bytes)
{
    uint32_t smallest = CHUNKS[sizeof CHUNKS / sizeof *CHUNKS - 1];
    if (chunk_bytes > chunk_bytes_max(peer))
        chunk_bytes = chunk_bytes_max(peer);
    if (chunk_bytes < smallest)
        chunk_bytes = smallest;
    if (chunk_bytes == peer->handshake.chunk_bytes)
        return;
    peer->handshake.chunk_bytes = (uint16_t)chunk_bytes;
    /* fragments of another length are another message to who puts them together */
    peer->handshake.message_id = (uint16_t)path->clear_sequence;
}

void m13_handshake_shrink(struct m13_path *path, struct m13_peer *peer)
{
    uint32_t next = 0;
    while (next + 1 < sizeof CHUNKS / sizeof *CHUNKS && CHUNKS[next] >= peer->handshake.chunk_bytes)
        next++;
    m13_handshake_set_chunk(path, peer, CHUNKS[next]);
}

bool m13_handshake_ask(struct m13_path *path, struct m13_peer *peer, enum m13_channel_kind kind,
                       const void *payload, uint32_t bytes)
{
    struct m13_channel_message *message = &path->message;
    message->kind = kind;
    message->peer = peer->slot;
    message->generation = peer->handshake.generation;
    message->length = bytes;
    if (bytes)
        memcpy(message->payload, payload, bytes);
    if (m13_channel_send(path->channel, M13_CHANNEL_REQUESTS, message))
        return true;
    m13_stats_drop(path->stats, M13_DROP_handshake_busy);
    return false;
}

struct m13_session *m13_handshake_install(struct m13_path *path, struct m13_peer *peer,
                                          const struct m13_channel_established *answer)
{
    struct m13_session *session = m13_peer_spare_session(peer, &path->aead);
    uint8_t key_phase = answer->handshake_version >= 2 ? peer->handshake.key_phase : 0;
    int error = m13_session_init(session, &path->aead, answer->handshake_version, key_phase,
                                 answer->send_key, answer->receive_key, path->now_ns);
    return error ? NULL : session;
}

void m13_handshake_wipe_answer(struct m13_path *path)
{
    OPENSSL_cleanse(path->message.payload, sizeof(struct m13_channel_established));
}
