/* What an authentic frame is, by its flags; first match wins, in the order of §2. */
#include "path.h"

/* Kinds of frames that no peer of this version sends are dropped by name, not guessed at. */
static void classify(struct m13_path *path, struct m13_packet *packet)
{
    uint8_t flags = packet->frame->header.flags;
    if (flags == M13_FLAG_TUNNEL)
        packet->verdict = M13_TO_TUN;
    else if (flags == M13_FLAGS_FIN || flags == M13_FLAGS_FIN_ACK || flags == M13_FLAGS_FEEDBACK)
        packet->verdict = M13_TO_CONTROL;
    else if (flags == (M13_FLAG_TUNNEL | M13_FLAG_FRAGMENT))
        packet->verdict = M13_TO_REASSEMBLE;
    else if (flags & (M13_FLAG_FIN | M13_FLAG_FEEDBACK | M13_FLAG_FRAGMENT | M13_FLAG_HANDSHAKE))
        m13_drop(path, packet, M13_DROP_unexpected_flags);
    else if (flags & M13_FLAG_CONTROL)
        packet->verdict = M13_TO_CONTROL;
    else if (!flags && path->config.relay)
        packet->verdict = M13_TO_RELAY;
    else
        m13_drop(path, packet, M13_DROP_unexpected_flags);
}

void m13_classify(struct m13_path *path, struct m13_vector *vector)
{
    for (uint32_t i = 0; i < vector->count; i++)
        if (vector->packets[i].verdict == M13_TO_CLASSIFY)
            classify(path, &vector->packets[i]);
}
