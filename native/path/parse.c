/* From bytes of the network to a frame, a peer and the session that may open it. */
#include "path.h"
#include "share.h"

static uint16_t big16(uint16_t value)
{
    return __builtin_bswap16(value);
}

static bool is_known(const struct m13_path *path, const struct m13_packet *packet)
{
    return m13_peers_find_endpoint(&path->peers, &packet->source) != M13_PEER_NONE;
}

static void parse_clear(struct m13_path *path, struct m13_packet *packet)
{
    const struct m13_wire_header *header = &packet->frame->header;
    /* a peer that moved to another queue is still the other worker's, its next handshake too */
    if (path->may_hand_on && !is_known(path, packet) && m13_share_give_frame(path, packet))
        return;
    if (path->leaving.begun) {
        m13_drop(path, packet, M13_DROP_shutdown);
    } else if (header->flags == M13_FLAGS_HANDSHAKE) {
        packet->verdict = M13_TO_HANDSHAKE;
    } else if (header->flags == M13_FLAGS_REGISTRATION || header->flags == M13_FLAGS_ECHO) {
        if (packet->bytes == M13_WIRE_FRAME_BYTES)
            packet->verdict = M13_TO_REGISTER;
        else
            m13_drop(path, packet, M13_DROP_clear_length);
    } else {
        m13_drop(path, packet, M13_DROP_clear_flags);
    }
}

/* The peer by where the frame came from. When nobody with a session is there, or the frame carries
 * another MAC than that peer's, the MAC may propose one: the tag decides, and moves the endpoint.
 */
static uint16_t find_peer(const struct m13_path *path, const struct m13_packet *packet)
{
    if (!path->config.is_hub)
        return 0;
    const uint8_t *mac = packet->frame->ethernet.source;
    uint16_t slot = m13_peers_find_endpoint(&path->peers, &packet->source);
    bool known = slot != M13_PEER_NONE && path->peers.slots[slot].current;
    if (known && !memcmp(path->peers.slots[slot].mac, mac, 6))
        return slot;
    uint16_t proposed = m13_map_find(&path->peers.by_mac, m13_peer_mac_key(mac));
    return known && proposed == M13_PEER_NONE ? slot : proposed;
}

static void parse_sealed(struct m13_path *path, struct m13_packet *packet)
{
    packet->peer = find_peer(path, packet);
    if (packet->peer == M13_PEER_NONE && m13_share_give_frame(path, packet))
        return;
    if (packet->peer == M13_PEER_NONE) {
        m13_drop(path, packet, M13_DROP_unknown_peer);
        return;
    }
    const struct m13_peer *peer = &path->peers.slots[packet->peer];
    packet->session = m13_peer_session(peer, packet->frame->header.key_phase,
                                       packet->frame->header.nonce_counter);
    if (packet->session)
        packet->verdict = M13_TO_OPEN;
    else
        m13_drop(path, packet, M13_DROP_no_session);
}

static void parse_frame(struct m13_path *path, struct m13_packet *packet)
{
    const struct m13_wire_frame *frame = packet->frame;
    if (packet->bytes < M13_WIRE_FRAME_BYTES)
        m13_drop(path, packet, M13_DROP_too_short);
    else if (frame->ethernet.type != big16(M13_WIRE_ETHERTYPE) ||
             frame->header.magic != M13_WIRE_MAGIC || frame->header.version != M13_WIRE_VERSION)
        m13_drop(path, packet, M13_DROP_bad_magic);
    else if (frame->header.crypto_version == M13_WIRE_AEAD)
        parse_sealed(path, packet);
    else if (frame->header.crypto_version == M13_WIRE_CLEAR)
        parse_clear(path, packet);
    else
        m13_drop(path, packet, M13_DROP_crypto_version);
}

void m13_parse(struct m13_path *path, struct m13_vector *vector)
{
    for (uint32_t i = 0; i < vector->count; i++) {
        struct m13_packet *packet = &vector->packets[i];
        if (packet->verdict == M13_DROPPED)
            continue;
        if (path->config.hexdump)
            m13_report_frame(path, &packet->source, packet->frame, packet->bytes, false);
        parse_frame(path, packet);
    }
}
