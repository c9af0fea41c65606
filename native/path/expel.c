/* The end of a peer that the hub's operator admits no longer. */
#include "path.h"

void m13_hub_expel(struct m13_path *path, uint32_t slot, uint32_t generation)
{
    struct m13_peer *peer = &path->peers.slots[slot];
    if (peer->state == M13_STATE_Disconnected || peer->generation != generation)
        return;
    (void)m13_handshake_ask(path, peer, M13_CHANNEL_ASK_FORGET, NULL, 0);
    if (peer->current) {
        m13_goodbye_say(path, peer);
        m13_report_event(path, M13_EVENT_LOST, peer, M13_LOST_EXPELLED, NULL);
    }
    m13_peers_release(&path->peers, &path->aead, (uint16_t)slot);
}

bool m13_hub_ask_expel(struct m13_path *path, uint32_t slot, uint32_t generation)
{
    struct m13_command command = {
        .kind = M13_COMMAND_EXPEL, .peer = slot, .generation = generation};
    return slot < path->peers.count && m13_ring_push(&path->commands, &command, 1);
}
