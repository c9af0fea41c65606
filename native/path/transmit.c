/* The outer headers a hub writes itself: Ethernet, IPv4 with DF, UDP with its checksum. */
#include "path.h"

#include "checksum.h"

void m13_transmit_outer(const struct m13_path *path, const struct m13_endpoint *to,
                        struct m13_wire_frame *frame, uint32_t bytes)
{
    struct m13_wire_outer *outer = (void *)((uint8_t *)frame - sizeof *outer);
    uint32_t udp_bytes = bytes + (uint32_t)sizeof outer->udp;
    uint32_t total_bytes = udp_bytes + (uint32_t)sizeof outer->ip;
    memcpy(outer->ethernet.destination, to->mac, 6);
    memcpy(outer->ethernet.source, path->config.mac, 6);
    outer->ethernet.type = __builtin_bswap16(0x0800);
    outer->ip = (struct m13_wire_ipv4){
        .version_length = 0x45,
        .total_bytes = __builtin_bswap16((uint16_t)total_bytes),
        .fragment = __builtin_bswap16(0x4000), /* DF: RFC 791 */
        .ttl = 64,                             /* RFC 1700's default */
        .protocol = 17,
        .source = to->local_address,
        .destination = to->address,
    };
    outer->ip.checksum = m13_checksum_fold(m13_checksum_add(0, &outer->ip, sizeof outer->ip));
    outer->udp = (struct m13_wire_udp){
        .source = __builtin_bswap16(path->config.udp_port),
        .destination = to->port,
        .bytes = __builtin_bswap16((uint16_t)udp_bytes),
    };
    /* pseudo header of RFC 768: both addresses, protocol, length */
    uint64_t sum = m13_checksum_add(0, &outer->ip.source, 8);
    sum += __builtin_bswap16(17) + (uint64_t)outer->udp.bytes;
    uint16_t checksum =
        m13_checksum_fold(m13_checksum_add(sum, &outer->udp, sizeof outer->udp + bytes));
    outer->udp.checksum = checksum ? checksum : 0xFFFF;
}
