/* What cutting and joining both know of a packet's headers: RFC 791, 8200, 768 and 9293. Private to
 * offload_split.c and offload_merge.c. */
#ifndef M13_OFFLOAD_HEADER_H
#define M13_OFFLOAD_HEADER_H

#include <netinet/in.h>
#include <stddef.h>

#include "checksum.h"
#include "inner.h"
#include "wire.h"

#define TCP_HEADER_BYTES 20
#define UDP_HEADER_BYTES 8
#define TCP_FIN          0x01
#define TCP_PSH          0x08
#define TCP_ACK          0x10
#define TCP_CWR          0x80
#define IPV4_FRAGMENTED  0x3FFF /* more fragments, or an offset */
#define DONT_FRAGMENT    0x4000

struct tcp_header {
    uint16_t source;
    uint16_t destination;
    uint32_t sequence;
    uint32_t acknowledgement;
    uint8_t data_offset; /* high four bits: length in 32-bit words */
    uint8_t flags;
    uint16_t window;
    uint16_t checksum;
    uint16_t urgent;
} __attribute__((packed));
_Static_assert(sizeof(struct tcp_header) == TCP_HEADER_BYTES, "TCP header");

static inline uint16_t big16(uint16_t value)
{
    return __builtin_bswap16(value);
}

static inline uint32_t big32(uint32_t value)
{
    return __builtin_bswap32(value);
}

static inline bool is_ipv6(const uint8_t *packet)
{
    return m13_inner_version(packet) == M13_IPV6;
}

static inline uint16_t checksum_offset(uint8_t protocol)
{
    return protocol == IPPROTO_TCP ? offsetof(struct tcp_header, checksum)
                                   : offsetof(struct m13_wire_udp, checksum);
}

/* One's-complement sum of what the pseudo headers of RFC 768, 9293 and 8200 §8.1 hold beside the
 * length. Their fields differ in width, but no upper half of one is ever set. */
static inline uint64_t pseudo_sum(const uint8_t *packet, uint8_t protocol)
{
    uint64_t sum = is_ipv6(packet)
                       ? m13_checksum_words(0, packet + offsetof(struct m13_wire_ipv6, source), 8)
                       : m13_checksum_words(0, packet + offsetof(struct m13_wire_ipv4, source), 2);
    return sum + big16(protocol);
}

/* Length of IP and transport header together, behind an IP header of ip_bytes; 0 when the transport
 * is neither TCP nor UDP, or does not fit. */
static inline uint32_t transport_end(const uint8_t *packet, uint32_t bytes, uint32_t ip_bytes,
                                     uint8_t protocol)
{
    if (bytes < ip_bytes + UDP_HEADER_BYTES)
        return 0;
    if (protocol == IPPROTO_UDP)
        return ip_bytes + UDP_HEADER_BYTES;
    if (protocol != IPPROTO_TCP || bytes < ip_bytes + TCP_HEADER_BYTES)
        return 0;
    const struct tcp_header *tcp = (const void *)(packet + ip_bytes);
    uint32_t tcp_bytes = (tcp->data_offset >> 4) * 4u;
    return tcp_bytes < TCP_HEADER_BYTES || ip_bytes + tcp_bytes > bytes ? 0 : ip_bytes + tcp_bytes;
}

#endif
