/* The last look at an inner packet before the kernel gets it. */
#include "inner.h"
#include "path.h"

bool m13_deliver_check(struct m13_path *path, struct m13_packet *packet)
{
    struct m13_peer *peer = &path->peers.slots[packet->peer];
    uint32_t bytes = packet->frame->header.payload_bytes;
    const uint8_t *inner = packet->frame->payload;
    const struct m13_prefix_table *prefixes = &path->peers.prefixes;
    if (!m13_inner_is_whole(inner, bytes)) {
        m13_drop(path, packet, M13_DROP_inner_header);
        return false;
    }
    /* cryptokey routing: on the hub the source is one of the node's own addresses, on the node
     * packets come from anywhere but are for one of ours */
    uint16_t owner = path->config.is_hub ? m13_inner_find_source(prefixes, inner)
                                         : m13_inner_find_destination(prefixes, inner);
    if (owner != packet->peer) {
        m13_drop(path, packet, M13_DROP_inner_source);
        return false;
    }
    peer->received_packets++;
    peer->received_bytes += bytes;
    m13_feedback_after_data(path, peer);
    return true;
}
