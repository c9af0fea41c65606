/* From node to node inside the hub, for packets that need not pass its kernel. */
#include "inner.h"
#include "path.h"

/* RFC 1624, equation 3: HC' = ~(~HC + ~m + m'), m the word of TTL and protocol. */
static uint16_t update_checksum(uint16_t checksum, uint16_t before, uint16_t after)
{
    uint32_t sum = (uint16_t)~checksum + (uint32_t)(uint16_t)~before + after;
    sum = (sum & 0xFFFF) + (sum >> 16);
    sum = (sum & 0xFFFF) + (sum >> 16);
    return (uint16_t)~sum;
}

/* What every router takes off (RFC 1812 §5.3.1, RFC 8200 §3); false when nothing is left. */
static bool take_hop(uint8_t *packet)
{
    if (m13_inner_version(packet) == M13_IPV6) {
        struct m13_wire_ipv6 *ip6 = (void *)packet;
        return ip6->hop_limit > 1 && ip6->hop_limit--;
    }
    struct m13_wire_ipv4 *ip = (void *)packet;
    uint16_t before, after;
    if (ip->ttl <= 1)
        return false;
    memcpy(&before, &ip->ttl, sizeof before);
    ip->ttl--;
    memcpy(&after, &ip->ttl, sizeof after);
    ip->checksum = update_checksum(ip->checksum, before, after);
    return true;
}

/* What is not relayed: the kernel's if it may have it. */
static bool leave(struct m13_path *path, struct m13_packet *packet, enum m13_drop reason)
{
    if (packet->verdict == M13_TO_TUN)
        return false;
    m13_drop(path, packet, reason);
    return true;
}

bool m13_relay(struct m13_path *path, struct m13_packet *packet)
{
    uint8_t *inner = packet->frame->payload;
    uint32_t bytes = packet->frame->header.payload_bytes;
    uint16_t slot = m13_inner_find_destination(&path->peers.prefixes, inner);
    if (slot == packet->peer) {
        m13_drop(path, packet, M13_DROP_no_route); /* never back to its sender */
        return true;
    }
    const struct m13_peer *to = slot == M13_PEER_NONE ? NULL : &path->peers.slots[slot];
    if (!to || !to->current)
        return leave(path, packet, M13_DROP_no_route);
    if (bytes > to->whole_bytes_max)
        return leave(path, packet, M13_DROP_tunnel_mtu); /* comes back to be cut */
    if (!take_hop(inner))
        return leave(path, packet, M13_DROP_hop_limit); /* the kernel tells the sender by ICMP */
    packet->peer = slot;
    packet->session = to->current;
    packet->bytes = M13_WIRE_FRAME_BYTES + bytes;
    packet->fragment = 0; /* what stood in its place of the vector before may have been one */
    packet->verdict = M13_TO_NETWORK;
    m13_stats_add(path->stats, M13_STAT_relayed_packets, 1);
    return true;
}
