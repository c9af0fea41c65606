/* A peer whose settings the hub's operator changed: name and address travel in a handshake, so a
 * new one beside the live session brings them, and no packet waits for it. */
#include "path.h"

void m13_hub_renew(struct m13_path *path, const struct m13_command *command)
{
    struct m13_peer *peer = &path->peers.slots[command->peer];
    if (peer->state != M13_STATE_Established || peer->generation != command->generation)
        return;
    if (command->kind == M13_COMMAND_RENEW)
        m13_control_send(path, peer, M13_TLV_REKEY_REQUEST, NULL, 0);
    else
        m13_config_send(path, peer);
}

bool m13_hub_ask_renew(struct m13_path *path, enum m13_command_kind kind, uint32_t slot,
                       uint32_t generation)
{
    struct m13_command command = {.kind = (uint16_t)kind, .peer = slot, .generation = generation};
    return slot < path->peers.count && m13_ring_push(&path->commands, &command, 1);
}
