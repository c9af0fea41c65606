/* From bytes of the NIC to a frame and who sent it. */
#include "path.h"

static uint16_t big16(uint16_t value)
{
    return __builtin_bswap16(value);
}

/* Steering has looked at these headers, but a datagram is believed only for what it shows here:
 * the lengths of IP, UDP and descriptor agree, so everything behind stays inside the buffer. */
static inline const struct m13_wire_udp *find_udp4(const uint8_t *data, uint32_t bytes)
{
    const struct m13_wire_ipv4 *ip = (const void *)(data + M13_WIRE_ETHERNET_BYTES);
    if (bytes < M13_WIRE_OUTER_BYTES || ip->version_length >> 4 != 4)
        return NULL;
    uint32_t header_bytes = (ip->version_length & 0x0Fu) * 4;
    uint32_t total_bytes = big16(ip->total_bytes);
    if (header_bytes < sizeof *ip || ip->protocol != 17 || (ip->fragment & big16(0x3FFF)) ||
        total_bytes > bytes - M13_WIRE_ETHERNET_BYTES ||
        total_bytes < header_bytes + sizeof(struct m13_wire_udp))
        return NULL;
    const struct m13_wire_udp *udp = (const void *)((const uint8_t *)ip + header_bytes);
    return big16(udp->bytes) == total_bytes - header_bytes ? udp : NULL;
}

/* Extension headers are not for us: steering leaves such packets to the kernel. A checksum of zero
 * (RFC 8200 §8.1) is not looked for: what a virtual link hands over is not summed yet, and every
 * frame has its tag or its signature. */
static inline const struct m13_wire_udp *find_udp6(const uint8_t *data, uint32_t bytes)
{
    const struct m13_wire_outer6 *outer = (const void *)data;
    if (bytes < sizeof *outer || (outer->ip.version_class_label & 0xF0) != 0x60 ||
        outer->ip.next_header != 17 || m13_endpoint_is_mapped(outer->ip.source))
        return NULL;
    uint32_t payload_bytes = big16(outer->ip.payload_bytes);
    if (payload_bytes > bytes - M13_WIRE_ETHERNET_BYTES - sizeof outer->ip ||
        payload_bytes < sizeof outer->udp || big16(outer->udp.bytes) != payload_bytes)
        return NULL;
    return &outer->udp;
}

static inline void set_source(const struct m13_path *path, struct m13_endpoint *source,
                              const uint8_t *data, uint16_t port)
{
    const struct m13_wire_outer *outer = (const void *)data;
    if (outer->ethernet.type == big16(0x0800)) {
        m13_endpoint_set_ipv4(source, outer->ip.source, outer->ip.destination, port);
    } else {
        const struct m13_wire_outer6 *outer6 = (const void *)data;
        m13_endpoint_set_ipv6(source, &path->peers.secret, outer6->ip.source,
                              outer6->ip.destination, port);
    }
    memcpy(source->mac, outer->ethernet.source, sizeof source->mac);
}

static const uint8_t EVERYBODY[6] = {0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF};
#define GROUP_BIT 1 /* of a MAC's first byte, IEEE 802: more than one station */

bool m13_parse_l2(const struct m13_path *path, const void *data, uint32_t bytes,
                  struct m13_endpoint *source)
{
    const struct m13_wire_ethernet *ethernet = data;
    if (!path->config.l2 || bytes < sizeof *ethernet ||
        ethernet->type != big16(M13_WIRE_ETHERTYPE) || (ethernet->source[0] & GROUP_BIT))
        return false;
    bool ours = !memcmp(ethernet->destination, path->config.mac, 6) ||
                !memcmp(ethernet->destination, EVERYBODY, 6);
    if (ours)
        m13_endpoint_set_l2(source, ethernet->source);
    return ours;
}

static void parse_outer_l2(struct m13_path *path, struct m13_packet *packet, uint8_t *data,
                           uint32_t bytes)
{
    if (!m13_parse_l2(path, data, bytes, &packet->source)) {
        m13_drop(path, packet, M13_DROP_l2_frame);
        return;
    }
    packet->verdict = M13_TO_OPEN;
    packet->frame = (void *)data;
    packet->bytes = bytes;
}

void m13_parse_outer(struct m13_path *path, struct m13_packet *packet, uint8_t *data,
                     uint32_t bytes)
{
    const struct m13_wire_ethernet *ethernet = (const void *)data;
    const struct m13_wire_udp *udp = NULL;
    packet->peer = M13_PEER_NONE;
    packet->session = NULL;
    uint16_t type = bytes >= sizeof *ethernet ? big16(ethernet->type) : 0;
    if (type == 0x0800)
        udp = find_udp4(data, bytes);
    else if (type == 0x86DD)
        udp = find_udp6(data, bytes);
    if (type == M13_WIRE_ETHERTYPE) {
        parse_outer_l2(path, packet, data, bytes);
        return;
    }
    if (!udp || udp->destination != big16(path->config.udp_port)) {
        m13_drop(path, packet, M13_DROP_outer_header);
        return;
    }
    packet->verdict = M13_TO_OPEN;
    packet->frame = (void *)(data + ((const uint8_t *)(udp + 1) - data));
    packet->bytes = big16(udp->bytes) - (uint32_t)sizeof *udp;
    set_source(path, &packet->source, data, udp->source);
}
