/* What a hub does by time: commands of the control process, cookies, every peer's timers. */
#include "path.h"

#define PENDING_MAX_NS (30 * M13_SECOND_NS) /* a handshake that leads nowhere is forgotten */

static void follow_commands(struct m13_path *path)
{
    struct m13_command command;
    while (m13_ring_pop(&path->commands, &command, 1)) {
        if (command.kind == M13_COMMAND_EXPEL) {
            m13_hub_expel(path, command.peer, command.generation);
            continue;
        }
        if (command.kind != M13_COMMAND_NEXT_HOP) {
            m13_hub_renew(path, &command);
            continue;
        }
        struct m13_peer *peer = &path->peers.slots[command.peer];
        if (peer->generation == command.generation &&
            !memcmp(peer->endpoint.address, command.address, sizeof command.address))
            memcpy(peer->endpoint.mac, command.mac, sizeof command.mac);
    }
}

static void tick_peer(struct m13_path *path, struct m13_peer *peer)
{
    struct m13_handshake *handshake = &peer->handshake;
    bool stale = path->now_ns - handshake->started_ns > PENDING_MAX_NS;
    if (peer->state == M13_STATE_Handshaking && stale) {
        (void)m13_handshake_ask(path, peer, M13_CHANNEL_ASK_FORGET, NULL, 0);
        m13_peers_release(&path->peers, &path->aead, peer->slot);
    } else if (peer->state == M13_STATE_Established) {
        m13_control_tick(path, peer);
        /* the node begins every handshake; our own direction may need one first */
        if (peer->current && m13_session_is_old(path, peer->current) &&
            path->now_ns - peer->rekey_asked_ns >= M13_SECOND_NS) {
            peer->rekey_asked_ns = path->now_ns;
            m13_control_send(path, peer, M13_TLV_REKEY_REQUEST, NULL, 0);
        }
    }
}

void m13_hub_tick(struct m13_path *path)
{
    follow_commands(path);
    m13_cookie_tick(&path->cookie, path->now_ns);
    for (uint32_t slot = 0; slot < path->peers.count; slot++)
        tick_peer(path, &path->peers.slots[slot]);
}
