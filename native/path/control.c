/* Sealed control messages and the timers of a session; clear frames without payload. */
#include "path.h"

#define FIRST_FRAME_NS (20 * M13_SECOND_NS) /* over two round trips of 8 s (§4.3) */

void m13_control_send_clear(struct m13_path *path, const struct m13_endpoint *to, uint8_t flags,
                            uint64_t sequence, const uint8_t *cookie)
{
    uint32_t index;
    struct m13_wire_frame *frame = path->outlet.take(path->outlet.owner, &index);
    if (!frame) {
        m13_stats_drop(path->stats, M13_DROP_no_frame);
        return;
    }
    m13_wire_stamp(frame, path->config.mac, flags, 0, sequence);
    if (cookie)
        memcpy(frame->header.tag, cookie, sizeof frame->header.tag);
    path->outlet.send(path->outlet.owner, to, index, M13_WIRE_FRAME_BYTES);
}

struct m13_wire_frame *m13_control_begin(struct m13_path *path, struct m13_peer *peer,
                                         struct m13_session *session, uint8_t flags,
                                         uint32_t payload_bytes, uint32_t *index)
{
    if (m13_session_exhausted(session)) {
        m13_stats_drop(path->stats, M13_DROP_counter_exhausted);
        return NULL;
    }
    struct m13_wire_frame *frame = path->outlet.take(path->outlet.owner, index);
    if (!frame) {
        m13_stats_drop(path->stats, M13_DROP_no_frame);
        return NULL;
    }
    m13_wire_stamp(frame, path->config.mac, flags, payload_bytes, 0);
    m13_session_number(session, &frame->header, path->direction);
    m13_feedback_after_number(path, peer, session);
    return frame;
}

void m13_control_finish(struct m13_path *path, struct m13_peer *peer, struct m13_session *session,
                        struct m13_wire_frame *frame, uint32_t index)
{
    uint32_t payload_bytes = frame->header.payload_bytes; /* readable only until it is sealed */
    struct m13_aead_job job = {.key = &session->send_key,
                               .header = &frame->header,
                               .bytes = M13_WIRE_HEADER_BYTES + payload_bytes};
    m13_aead_seal(&path->aead, &job, 1);
    m13_stats_add(path->stats, M13_STAT_aead_sealed, 1);
    path->outlet.send(path->outlet.owner, &peer->endpoint, index,
                      M13_WIRE_FRAME_BYTES + payload_bytes);
}

void m13_control_send(struct m13_path *path, struct m13_peer *peer, enum m13_wire_tlv type,
                      const void *value, uint16_t value_bytes)
{
    uint32_t index;
    if (!peer->current) {
        m13_stats_drop(path->stats, M13_DROP_no_session);
        return;
    }
    struct m13_wire_frame *frame =
        m13_control_begin(path, peer, peer->current, M13_FLAG_CONTROL,
                          M13_WIRE_TLV_HEADER_BYTES + value_bytes, &index);
    if (!frame)
        return;
    (void)m13_wire_put_tlv(frame->payload, type, value, value_bytes);
    peer->last_sent_ns = path->now_ns;
    m13_control_finish(path, peer, peer->current, frame, index);
}

void m13_control_receive(struct m13_path *path, struct m13_packet *packet)
{
    struct m13_peer *peer = &path->peers.slots[packet->peer];
    const uint8_t *tlv = packet->frame->payload;
    uint32_t left = packet->frame->header.payload_bytes;
    bool probed = false; /* a frame is answered once */
    if (packet->frame->header.flags & M13_FLAG_FIN) {
        m13_goodbye_receive(path, packet);
        return;
    }
    if (packet->frame->header.flags & M13_FLAG_FEEDBACK) {
        m13_feedback_receive(path, packet);
        return;
    }
    packet->verdict = M13_DONE;
    while (left) {
        uint16_t bytes;
        if (left < M13_WIRE_TLV_HEADER_BYTES)
            break;
        memcpy(&bytes, tlv + 1, sizeof bytes);
        if (bytes > left - M13_WIRE_TLV_HEADER_BYTES)
            break;
        const uint8_t *value = tlv + M13_WIRE_TLV_HEADER_BYTES;
        if (tlv[0] == M13_TLV_KEEPALIVE) {
            m13_stats_add(path->stats, M13_STAT_keepalives_received, 1);
            m13_feedback_after_keepalive(path, peer);
        } else if (tlv[0] == M13_TLV_CONFIG && !m13_config_receive(path, peer, value, bytes)) {
            break;
        } else if (tlv[0] == M13_TLV_ROUTES && !m13_routes_receive(path, peer, value, bytes)) {
            break;
        } else if (tlv[0] == M13_TLV_PMTU_PROBE && !probed &&
                   !(probed = m13_probe_answer(path, peer, value, bytes, packet->bytes))) {
            break;
        } else if (tlv[0] == M13_TLV_PMTU_ACK &&
                   !m13_probe_acknowledged(path, peer, value, bytes)) {
            break;
        } else if (tlv[0] == M13_TLV_REKEY_REQUEST && !path->config.is_hub) {
            peer->rekey_requested = true;
        }
        tlv += M13_WIRE_TLV_HEADER_BYTES + bytes; /* unknown types are skipped (§6) */
        left -= M13_WIRE_TLV_HEADER_BYTES + bytes;
    }
    if (left)
        m13_drop(path, packet, M13_DROP_control);
}

/* Until the hub has heard one frame under a key, the node may not have seen CONFIG yet: that takes
 * a round trip and more when frames are lost, whatever the keepalive interval is. */
static bool is_lost(const struct m13_path *path, const struct m13_peer *peer)
{
    bool unused = path->config.is_hub && !peer->current->replay.next;
    uint64_t patience_ns = path->timeout_ns;
    if (unused && patience_ns < FIRST_FRAME_NS)
        patience_ns = FIRST_FRAME_NS;
    return path->now_ns - peer->last_heard_ns > patience_ns;
}

void m13_control_tick(struct m13_path *path, struct m13_peer *peer)
{
    if (!peer->current)
        return;
    m13_peer_retire(peer, &path->aead, path->now_ns);
    m13_feedback_tick(path, peer);
    if (is_lost(path, peer)) {
        m13_stats_add(path->stats, M13_STAT_sessions_lost, 1);
        m13_report_event(path, M13_EVENT_LOST, peer, 0, NULL);
        if (path->config.is_hub)
            m13_peers_release(&path->peers, &path->aead, peer->slot);
        else
            m13_node_lose(path, peer);
    } else if (path->now_ns - peer->last_sent_ns >= path->keepalive_ns) {
        m13_stats_add(path->stats, M13_STAT_keepalives_sent, 1);
        m13_control_send(path, peer, M13_TLV_KEEPALIVE, NULL, 0);
    }
    m13_probe_tick(path, peer);
}
