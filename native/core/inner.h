/* The header of an inner packet: IPv4 (RFC 791) or IPv6 (RFC 8200), told apart by the version. */
#ifndef M13_INNER_H
#define M13_INNER_H

#include <stdbool.h>
#include <stdint.h>

#include "prefix.h"
#include "wire.h"

#define M13_INNER_MULTICAST4 0xE0 /* RFC 5771: first four bits of such an address */
#define M13_INNER_MULTICAST6 0xFF /* RFC 4291 §2.7: its first byte */

static inline uint32_t m13_inner_version(const uint8_t *packet)
{
    return packet[0] >> 4;
}

/* What a kernel says to its neighbours on every link, though the tunnel has none. */
static inline bool m13_inner_is_multicast(const uint8_t *packet)
{
    if (m13_inner_version(packet) == M13_IPV4)
        return (packet[offsetof(struct m13_wire_ipv4, destination)] & 0xF0) == M13_INNER_MULTICAST4;
    return packet[offsetof(struct m13_wire_ipv6, destination)] == M13_INNER_MULTICAST6;
}

/* Whether the bytes are one whole packet by its own length field. */
static inline bool m13_inner_is_whole(const uint8_t *packet, uint32_t bytes)
{
    const struct m13_wire_ipv4 *ip = (const void *)packet;
    const struct m13_wire_ipv6 *ip6 = (const void *)packet;
    if (bytes < sizeof *ip)
        return false;
    if (m13_inner_version(packet) == M13_IPV4)
        return (ip->version_length & 0x0Fu) * 4 >= sizeof *ip &&
               __builtin_bswap16(ip->total_bytes) == bytes;
    return m13_inner_version(packet) == M13_IPV6 && bytes >= sizeof *ip6 &&
           __builtin_bswap16(ip6->payload_bytes) + sizeof *ip6 == bytes;
}

/* The packet as if it came from its destination; no checksum of IP, TCP or UDP changes by it. */
static inline void m13_inner_swap_ends(uint8_t *packet)
{
    uint32_t bytes = m13_inner_version(packet) == M13_IPV4 ? 4 : 16;
    uint8_t *source = packet + (bytes == 4 ? offsetof(struct m13_wire_ipv4, source)
                                           : offsetof(struct m13_wire_ipv6, source));
    uint8_t former[16];
    memcpy(former, source, bytes);
    memcpy(source, source + bytes, bytes);
    memcpy(source + bytes, former, bytes);
}

/* The peer an end of a whole packet belongs to, or M13_PREFIX_NONE. */
static inline uint16_t m13_inner_find_source(const struct m13_prefix_table *table,
                                             const uint8_t *packet)
{
    return m13_inner_version(packet) == M13_IPV4
               ? m13_prefix_find4(table,
                                  ((const struct m13_wire_ipv4 *)(const void *)packet)->source)
               : m13_prefix_find6(table,
                                  ((const struct m13_wire_ipv6 *)(const void *)packet)->source);
}

static inline uint16_t m13_inner_find_destination(const struct m13_prefix_table *table,
                                                  const uint8_t *packet)
{
    return m13_inner_version(packet) == M13_IPV4
               ? m13_prefix_find4(table,
                                  ((const struct m13_wire_ipv4 *)(const void *)packet)->destination)
               : m13_prefix_find6(
                     table, ((const struct m13_wire_ipv6 *)(const void *)packet)->destination);
}

#endif
