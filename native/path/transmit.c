/* The outer headers a hub writes itself: Ethernet, and for UDP IPv4 with DF or IPv6, UDP with its
 * checksum. */
#include "path.h"

#include "checksum.h"

#define HOP_LIMIT 64 /* RFC 1700's default */
#define UDP       17

static inline void write_ethernet(const struct m13_path *path, const struct m13_endpoint *to,
                                  struct m13_wire_ethernet *header, uint16_t type)
{
    memcpy(header->destination, to->mac, sizeof header->destination);
    memcpy(header->source, path->config.mac, sizeof header->source);
    header->type = __builtin_bswap16(type);
}

/* addresses: both of the IP header, which with protocol and length are the pseudo header. */
static inline void write_udp(const struct m13_path *path, const struct m13_endpoint *to,
                             struct m13_wire_udp *udp, uint32_t udp_bytes, const void *addresses,
                             uint32_t addresses_bytes)
{
    *udp = (struct m13_wire_udp){
        .source = __builtin_bswap16(path->config.udp_port),
        .destination = to->port,
        .bytes = __builtin_bswap16((uint16_t)udp_bytes),
    };
    uint64_t sum = m13_checksum_add(0, addresses, addresses_bytes);
    sum += __builtin_bswap16(UDP) + (uint64_t)udp->bytes;
    uint16_t checksum = m13_checksum_fold(m13_checksum_add(sum, udp, udp_bytes));
    udp->checksum = checksum ? checksum : 0xFFFF; /* RFC 768, RFC 8200 §8.1: zero means none */
}

static inline uint32_t write_ipv4(const struct m13_path *path, const struct m13_endpoint *to,
                                  struct m13_wire_frame *frame, uint32_t bytes)
{
    struct m13_wire_outer *outer = (void *)((uint8_t *)frame - sizeof *outer);
    uint32_t udp_bytes = bytes + (uint32_t)sizeof outer->udp;
    write_ethernet(path, to, &outer->ethernet, 0x0800);
    outer->ip = (struct m13_wire_ipv4){
        .version_length = 0x45,
        .total_bytes = __builtin_bswap16((uint16_t)(udp_bytes + sizeof outer->ip)),
        .fragment = __builtin_bswap16(0x4000), /* DF: RFC 791 */
        .ttl = HOP_LIMIT,
        .protocol = UDP,
        .source = m13_endpoint_mapped_ipv4(to->local_address),
        .destination = m13_endpoint_mapped_ipv4(to->address),
    };
    outer->ip.checksum = m13_checksum_fold(m13_checksum_add(0, &outer->ip, sizeof outer->ip));
    write_udp(path, to, &outer->udp, udp_bytes, &outer->ip.source, 8);
    return sizeof *outer;
}

static inline uint32_t write_ipv6(const struct m13_path *path, const struct m13_endpoint *to,
                                  struct m13_wire_frame *frame, uint32_t bytes)
{
    struct m13_wire_outer6 *outer = (void *)((uint8_t *)frame - sizeof *outer);
    uint32_t udp_bytes = bytes + (uint32_t)sizeof outer->udp;
    write_ethernet(path, to, &outer->ethernet, 0x86DD);
    outer->ip = (struct m13_wire_ipv6){
        .version_class_label = 0x60,
        .payload_bytes = __builtin_bswap16((uint16_t)udp_bytes),
        .next_header = UDP,
        .hop_limit = HOP_LIMIT,
    };
    memcpy(outer->ip.source, to->local_address, sizeof outer->ip.source);
    memcpy(outer->ip.destination, to->address, sizeof outer->ip.destination);
    write_udp(path, to, &outer->udp, udp_bytes, outer->ip.source, 32);
    return sizeof *outer;
}

uint32_t m13_transmit_outer(const struct m13_path *path, const struct m13_endpoint *to,
                            struct m13_wire_frame *frame, uint32_t bytes)
{
    switch (m13_endpoint_kind(to)) {
    case M13_ENDPOINT_L2:
        memcpy(frame->ethernet.destination, to->mac, sizeof to->mac);
        return 0;
    case M13_ENDPOINT_IPV6:
        return write_ipv6(path, to, frame, bytes);
    default:
        return write_ipv4(path, to, frame, bytes);
    }
}
