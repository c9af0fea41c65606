/* Header, number and AEAD for everything that goes to a peer with a session. */
#include "path.h"

void m13_seal(struct m13_path *path, struct m13_vector *vector)
{
    struct m13_aead_job jobs[M13_AEAD_VECTOR];
    uint32_t count = 0;
    for (uint32_t i = 0; i < vector->count; i++) {
        struct m13_packet *packet = &vector->packets[i];
        if (packet->verdict != M13_TO_NETWORK)
            continue;
        /* whoever kept a session over a turn must not send under its wiped key */
        if (!packet->session->valid) {
            m13_drop(path, packet, M13_DROP_no_session);
            continue;
        }
        if (m13_session_exhausted(packet->session)) {
            m13_drop(path, packet, M13_DROP_counter_exhausted);
            continue;
        }
        struct m13_peer *peer = &path->peers.slots[packet->peer];
        uint32_t payload_bytes = packet->bytes - M13_WIRE_FRAME_BYTES;
        m13_wire_stamp(packet->frame, path->config.mac, M13_FLAG_TUNNEL | packet->fragment,
                       payload_bytes, 0);
        m13_session_number(packet->session, &packet->frame->header, path->direction);
        m13_feedback_after_number(path, peer, packet->session);
        peer->sent_packets++;
        peer->sent_bytes += payload_bytes;
        peer->last_sent_ns = path->now_ns;
        jobs[count++] = (struct m13_aead_job){
            .key = &packet->session->send_key,
            .header = &packet->frame->header,
            .bytes = packet->bytes - M13_WIRE_ETHERNET_BYTES,
        };
    }
    m13_aead_seal(&path->aead, jobs, count);
    m13_stats_add(path->stats, M13_STAT_aead_sealed, count);
}
