/* FEEDBACK (§6): when a peer is told what arrived from it, and what it tells us. */
#include "path.h"

#define PACKETS         32
#define INTERVAL_MIN_NS M13_MILLISECOND_NS
#define RTT_UNKNOWN_NS  (100 * M13_MILLISECOND_NS)
#define QUIET_INTERVALS 10 /* of keepalives: then one is answered, so that the RTT stays known */

void m13_feedback_agree(struct m13_peer *peer, bool agreed)
{
    peer->feedback = agreed;
    peer->note_ns = peer->report_ns = agreed ? 0 : UINT64_MAX;
}

void m13_feedback_note(struct m13_path *path, struct m13_peer *peer,
                       const struct m13_session *session)
{
    if (!peer->feedback)
        peer->note_ns = UINT64_MAX;
    else if (session == peer->current)
        peer->note_ns = m13_loss_note(&peer->loss, session->send_counter - 1, path->now_ns);
}

void m13_feedback_send(struct m13_path *path, struct m13_peer *peer)
{
    struct m13_session *session = peer->current;
    struct m13_loss_report report;
    uint32_t index;
    peer->reported_packets = peer->received_packets;
    peer->reported_ns = path->now_ns;
    peer->report_ns = path->now_ns + INTERVAL_MIN_NS;
    if (!session || !session->replay.next || path->leaving.begun)
        return;
    struct m13_wire_frame *frame =
        m13_control_begin(path, peer, session, M13_FLAGS_FEEDBACK, sizeof report, &index);
    if (!frame)
        return;
    report = m13_loss_describe(&session->replay, session->established_ns, peer->last_heard_ns,
                               path->now_ns);
    memcpy(frame->payload, &report, sizeof report);
    m13_control_finish(path, peer, session, frame, index);
    m13_stats_add(path->stats, M13_STAT_feedback_sent, 1);
}

static bool is_due(const struct m13_path *path, const struct m13_peer *peer)
{
    uint64_t packets = peer->received_packets - peer->reported_packets;
    uint64_t patience_ns = peer->loss.rtt_ns ? peer->loss.rtt_ns : RTT_UNKNOWN_NS;
    return packets >= PACKETS || (packets && path->now_ns - peer->reported_ns >= patience_ns);
}

void m13_feedback_consider(struct m13_path *path, struct m13_peer *peer)
{
    if (!peer->feedback)
        peer->report_ns = UINT64_MAX;
    else if (is_due(path, peer))
        m13_feedback_send(path, peer);
}

void m13_feedback_tick(struct m13_path *path, struct m13_peer *peer)
{
    if (peer->feedback && is_due(path, peer))
        m13_feedback_send(path, peer);
}

void m13_feedback_after_keepalive(struct m13_path *path, struct m13_peer *peer)
{
    if (peer->feedback && path->now_ns - peer->reported_ns >= QUIET_INTERVALS * path->keepalive_ns)
        m13_feedback_send(path, peer);
}

void m13_feedback_receive(struct m13_path *path, struct m13_packet *packet)
{
    struct m13_peer *peer = &path->peers.slots[packet->peer];
    struct m13_loss_report report;
    packet->verdict = M13_DONE;
    if (packet->frame->header.payload_bytes != sizeof report) {
        m13_drop(path, packet, M13_DROP_feedback);
        return;
    }
    memcpy(&report, packet->frame->payload, sizeof report);
    /* counters of a replaced key mean nothing beside those of the present one */
    if (packet->session != peer->current)
        return;
    switch (m13_loss_learn(&peer->loss, &report, peer->current->send_counter, path->now_ns)) {
    case M13_LOSS_TAKEN:
        m13_stats_add(path->stats, M13_STAT_feedback_received, 1);
        break;
    case M13_LOSS_FALSE:
        m13_drop(path, packet, M13_DROP_feedback);
        break;
    case M13_LOSS_OLD:
        break;
    }
}
