/* The end of a session by word instead of silence (§6): FIN, answered by FIN-ACK, three copies of
 * each, because nothing is sent again.
 *
 * Only a FIN under the present key counts: one under the replaced key may have been held back on
 * its way. What it ends is ended after the vector it came in, so that no packet of that vector
 * meets the slot's next occupant, and what overtook it is still delivered. */
#include "path.h"

#define COPIES       3
#define WAIT_MIN_NS  (10 * M13_MILLISECOND_NS) /* §6: 5 RTT, but 10 to 100 ms */
#define WAIT_MAX_NS  (100 * M13_MILLISECOND_NS)
#define LEAVE_MAX_NS (200 * M13_MILLISECOND_NS) /* for all peers, however slowly FINs leave */

static bool send(struct m13_path *path, struct m13_peer *peer, struct m13_session *session,
                 uint8_t flags)
{
    uint32_t index;
    struct m13_wire_frame *frame = m13_control_begin(path, peer, session, flags, 0, &index);
    if (frame)
        m13_control_finish(path, peer, session, frame, index);
    return frame;
}

void m13_goodbye_say(struct m13_path *path, struct m13_peer *peer)
{
    for (uint32_t copy = 0; copy < COPIES; copy++)
        (void)send(path, peer, peer->current, M13_FLAGS_FIN);
    m13_stats_add(path->stats, M13_STAT_goodbyes_sent, 1);
}

void m13_goodbye_receive(struct m13_path *path, struct m13_packet *packet)
{
    struct m13_peer *peer = &path->peers.slots[packet->peer];
    packet->verdict = M13_DONE;
    if (packet->session != peer->current) {
        m13_drop(path, packet, M13_DROP_stale_fin);
    } else if (packet->frame->header.flags == M13_FLAGS_FIN) {
        path->partings += !peer->parts;
        peer->parts = true;
    } else if (peer->awaits_answer) {
        peer->awaits_answer = false;
        path->leaving.unanswered--;
    }
}

/* The other end has gone: a hub's slot is free, a node begins again after a pause. */
static void part(struct m13_path *path, struct m13_peer *peer)
{
    for (uint32_t copy = 0; copy < COPIES; copy++)
        (void)send(path, peer, peer->current, M13_FLAGS_FIN_ACK);
    m13_stats_add(path->stats, M13_STAT_goodbyes_received, 1);
    m13_report_event(path, M13_EVENT_LOST, peer, M13_LOST_GOODBYE, NULL);
    path->leaving.unanswered -= peer->awaits_answer;
    peer->parts = peer->awaits_answer = false;
    if (path->config.is_hub) {
        (void)m13_handshake_ask(path, peer, M13_CHANNEL_ASK_FORGET, NULL, 0);
        m13_peers_release(&path->peers, &path->aead, peer->slot);
    } else {
        m13_node_lose(path, peer);
        m13_node_pause(path, peer);
    }
}

void m13_goodbye_part(struct m13_path *path)
{
    for (uint32_t slot = 0; slot < path->peers.count; slot++)
        if (path->peers.slots[slot].parts)
            part(path, &path->peers.slots[slot]);
    path->partings = 0;
    m13_report_peers(path);
}

static uint64_t wait_for(const struct m13_peer *peer)
{
    uint64_t wait_ns = 5 * peer->loss.rtt_ns;
    if (!wait_ns || wait_ns > WAIT_MAX_NS)
        return WAIT_MAX_NS;
    return wait_ns < WAIT_MIN_NS ? WAIT_MIN_NS : wait_ns;
}

void m13_goodbye_begin(struct m13_path *path)
{
    struct m13_leaving *leaving = &path->leaving;
    *leaving = (struct m13_leaving){
        .begun = true, .copies = COPIES, .end_ns = path->now_ns + LEAVE_MAX_NS};
    for (uint32_t slot = 0; slot < path->peers.count; slot++) {
        struct m13_peer *peer = &path->peers.slots[slot];
        if (!peer->current || m13_session_exhausted(peer->current))
            continue;
        peer->awaits_answer = true;
        leaving->unanswered++;
        if (leaving->wait_ns < wait_for(peer))
            leaving->wait_ns = wait_for(peer);
        m13_stats_add(path->stats, M13_STAT_goodbyes_sent, 1);
    }
}

bool m13_goodbye_goes_on(struct m13_path *path)
{
    struct m13_leaving *leaving = &path->leaving;
    uint32_t sent = 0;
    for (; leaving->copies; leaving->copies--, leaving->slot = 0) {
        for (; leaving->slot < path->peers.count; leaving->slot++) {
            struct m13_peer *peer = &path->peers.slots[leaving->slot];
            if (!peer->awaits_answer)
                continue;
            if (sent == M13_VECTOR_PACKETS || !send(path, peer, peer->current, M13_FLAGS_FIN))
                goto full;
            /* a hub that has the next key already believes no other */
            if (peer->next && !m13_session_exhausted(peer->next))
                (void)send(path, peer, peer->next, M13_FLAGS_FIN);
            sent++;
        }
    }
full:
    if (sent)
        leaving->until_ns = path->now_ns + leaving->wait_ns;
    if (leaving->until_ns > leaving->end_ns || !leaving->until_ns)
        leaving->until_ns = leaving->end_ns;
    return leaving->unanswered && path->now_ns < leaving->until_ns;
}
