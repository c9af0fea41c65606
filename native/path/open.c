/* Opening a vector: the replay window is asked before the AEAD and advanced only after it. */
#include "path.h"

/* Cheap checks first: a frame that fails them costs no cryptography. */
static bool may_open(struct m13_path *path, struct m13_packet *packet)
{
    const struct m13_wire_header *header = &packet->frame->header;
    uint8_t expected = path->direction == M13_HUB_TO_NODE ? M13_NODE_TO_HUB : M13_HUB_TO_NODE;
    if (header->nonce_direction != expected || header->nonce_zero[0] || header->nonce_zero[1] ||
        header->nonce_zero[2]) {
        m13_drop(path, packet, M13_DROP_reflected);
        return false;
    }
    if (!m13_replay_check(&packet->session->replay, header->nonce_counter)) {
        m13_drop(path, packet, M13_DROP_replay);
        return false;
    }
    return true;
}

/* The frame is authentic: window, inner consistency, and what that tells about the peer. */
static void accept(struct m13_path *path, struct m13_packet *packet)
{
    const struct m13_wire_header *header = &packet->frame->header;
    struct m13_peer *peer = &path->peers.slots[packet->peer];
    /* asked again because the same counter may stand twice in one vector */
    if (!m13_replay_advance(&packet->session->replay, header->nonce_counter)) {
        m13_drop(path, packet, M13_DROP_replay);
        return;
    }
    if (packet->session->version >= 2 && header->sequence != header->nonce_counter) {
        m13_drop(path, packet, M13_DROP_sequence);
        return;
    }
    peer->last_heard_ns = path->now_ns;
    if (packet->session == peer->next) {
        packet->session->key_phase = header->key_phase;
        m13_node_confirm(path, peer);
    }
    /* only the newest frame moves a peer (§5): an old one may have been held back on its way */
    if ((path->config.is_hub || path->config.l2) &&
        !m13_endpoint_is_same(&peer->endpoint, &packet->source) &&
        packet->session == peer->current &&
        header->nonce_counter + 1 == packet->session->replay.next) {
        bool is_other_kind =
            m13_endpoint_kind(&peer->endpoint) != m13_endpoint_kind(&packet->source);
        m13_peers_move(&path->peers, packet->peer, &packet->source);
        if (is_other_kind && path->config.is_hub)
            m13_config_send(path, peer); /* its MTU is another */
        m13_probe_restart(path, peer);
        m13_stats_add(path->stats, M13_STAT_endpoint_changes, 1);
        m13_report_event(path, M13_EVENT_MOVED, peer, 0, NULL);
    }
    if (header->payload_bytes > packet->bytes - M13_WIRE_FRAME_BYTES)
        m13_drop(path, packet, M13_DROP_payload_length);
    else
        packet->verdict = M13_TO_CLASSIFY;
}

void m13_open(struct m13_path *path, struct m13_vector *vector)
{
    struct m13_aead_job jobs[M13_AEAD_VECTOR];
    uint8_t origin[M13_AEAD_VECTOR];
    uint32_t count = 0, authentic = 0;
    for (uint32_t i = 0; i < vector->count; i++) {
        struct m13_packet *packet = &vector->packets[i];
        if (packet->verdict != M13_TO_OPEN || !may_open(path, packet))
            continue;
        origin[count] = (uint8_t)i;
        jobs[count++] = (struct m13_aead_job){
            .key = &packet->session->receive_key,
            .header = &packet->frame->header,
            .bytes = packet->bytes - M13_WIRE_ETHERNET_BYTES,
        };
    }
    if (!count)
        return;
    m13_aead_open(&path->aead, jobs, count);
    for (uint32_t i = 0; i < count; i++) {
        struct m13_packet *packet = &vector->packets[origin[i]];
        if (jobs[i].authentic) {
            authentic++;
            accept(path, packet);
        } else {
            m13_drop(path, packet, M13_DROP_open_failed);
        }
    }
    m13_stats_add(path->stats, M13_STAT_aead_ok, authentic);
    m13_stats_add(path->stats, M13_STAT_aead_failed, count - authentic);
}
