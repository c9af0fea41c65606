/* The last look at an inner packet before the kernel gets it. */
#include "path.h"

bool m13_deliver_check(struct m13_path *path, struct m13_packet *packet)
{
    struct m13_peer *peer = &path->peers.slots[packet->peer];
    uint32_t bytes = packet->frame->header.payload_bytes;
    const struct m13_wire_ipv4 *ip = (const void *)packet->frame->payload;
    if (bytes < sizeof *ip || ip->version_length >> 4 != 4 ||
        (ip->version_length & 0x0Fu) * 4 < sizeof *ip ||
        __builtin_bswap16(ip->total_bytes) != bytes) {
        m13_drop(path, packet, M13_DROP_inner_header);
        return false;
    }
    /* cryptokey routing: on the hub the source is the node's own address, on the node packets
     * come from anywhere but are for us */
    uint32_t owned = path->config.is_hub ? ip->source : ip->destination;
    if (owned != peer->tunnel_address) {
        m13_drop(path, packet, M13_DROP_inner_source);
        return false;
    }
    peer->received_packets++;
    peer->received_bytes += bytes;
    return true;
}
