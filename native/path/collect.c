/* Packets from the TUN find their peer: on the hub by inner destination, on the node the hub. */
#include "inner.h"
#include "path.h"
#include "share.h"

static void too_large(struct m13_path *path, struct m13_packet *packet, uint32_t segment_bytes)
{
    if (segment_bytes > path->config.mtu_bytes)
        m13_drop(path, packet, M13_DROP_tunnel_mtu);
    else
        packet->verdict = M13_TO_FRAGMENT;
}

/* No peer here has the destination: another worker's may. Nobody's prefix holds multicast. */
static void nowhere(struct m13_path *path, struct m13_packet *packet, const uint8_t *inner,
                    uint32_t inner_bytes)
{
    if (m13_inner_is_multicast(inner))
        m13_drop(path, packet, M13_DROP_multicast);
    else if (!m13_share_give_inner(path, packet, inner, inner_bytes))
        m13_drop(path, packet, M13_DROP_no_route);
}

void m13_collect(struct m13_path *path, struct m13_packet *packet, const uint8_t *inner,
                 uint32_t inner_bytes, uint32_t segment_bytes)
{
    packet->peer = M13_PEER_NONE;
    if (!m13_inner_is_whole(inner, inner_bytes)) {
        m13_drop(path, packet, M13_DROP_inner_header);
        return;
    }
    uint16_t slot = 0;
    if (path->config.is_hub)
        slot = m13_inner_find_destination(&path->peers.prefixes, inner);
    else if (m13_inner_is_multicast(inner))
        slot = M13_PEER_NONE;
    if (slot == M13_PEER_NONE) {
        nowhere(path, packet, inner, inner_bytes);
        return;
    }
    struct m13_peer *peer = &path->peers.slots[slot];
    if (!peer->current) {
        m13_drop(path, packet, M13_DROP_no_session); /* fail closed */
        return;
    }
    packet->peer = slot;
    packet->session = peer->current;
    packet->verdict = M13_TO_NETWORK;
    if (segment_bytes > peer->whole_bytes_max)
        too_large(path, packet, segment_bytes);
}
