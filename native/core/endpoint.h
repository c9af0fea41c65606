/* Where a peer is on the underlay: address and port over IPv4 or IPv6, or a MAC on our Ethernet.
 *
 * The key finds it in a map. IPv4 and MACs fit it as they are; an IPv6 address and port are hashed
 * under a secret, so that nobody aims at another's key, and what is found is still compared. */
#ifndef M13_ENDPOINT_H
#define M13_ENDPOINT_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "siphash.h"
#include "wire.h"

#define M13_ENDPOINT_KINDS(_)                                                                      \
    _(IPV4, "UDP over IPv4")                                                                       \
    _(IPV6, "UDP over IPv6")                                                                       \
    _(L2, "Ethernet")
#define M13_ENDPOINT_ENUM(name, text) M13_ENDPOINT_##name,
enum m13_endpoint_kind { M13_ENDPOINT_KINDS(M13_ENDPOINT_ENUM) };
#undef M13_ENDPOINT_ENUM

#define M13_ENDPOINT_ADDRESS_BYTES 16
#define M13_ENDPOINT_KIND_SHIFT    62

struct m13_endpoint {
    uint64_t key;              /* its top two bits are the kind */
    uint8_t address[16];       /* IPv4: ::ffff:a.b.c.d (RFC 4291 §2.5.5.2); L2: the MAC, zeros */
    uint8_t local_address[16]; /* ours, that the peer talks to; L2: zeros */
    uint16_t port;             /* as on the wire; L2: 0 */
    uint8_t mac[6];            /* next hop towards the peer */
};
_Static_assert(sizeof(struct m13_endpoint) == 48, "no padding that a comparison could see");

static inline enum m13_endpoint_kind m13_endpoint_kind(const struct m13_endpoint *endpoint)
{
    return (enum m13_endpoint_kind)(endpoint->key >> M13_ENDPOINT_KIND_SHIFT);
}

static inline void m13_endpoint_map_ipv4(uint8_t out[16], uint32_t address)
{
    const uint64_t halves[2] = {0, 0xFFFF0000ull | (uint64_t)address << 32};
    memcpy(out, halves, sizeof halves);
}

static inline uint32_t m13_endpoint_mapped_ipv4(const uint8_t address[16])
{
    uint32_t ipv4;
    memcpy(&ipv4, address + 12, sizeof ipv4);
    return ipv4;
}

static inline bool m13_endpoint_is_mapped(const uint8_t address[16])
{
    static const uint8_t prefix[12] = {[10] = 0xFF, [11] = 0xFF};
    return !memcmp(address, prefix, sizeof prefix);
}

/* Addresses and port in network order. The next hop's MAC stays as it is, in all of these. */
static inline void m13_endpoint_set_ipv4(struct m13_endpoint *endpoint, uint32_t address,
                                         uint32_t local_address, uint16_t port)
{
    endpoint->key = (uint64_t)address << 16 | port;
    m13_endpoint_map_ipv4(endpoint->address, address);
    m13_endpoint_map_ipv4(endpoint->local_address, local_address);
    endpoint->port = port;
}

static inline void m13_endpoint_set_ipv6(struct m13_endpoint *endpoint,
                                         const struct m13_siphash_key *secret,
                                         const uint8_t address[16], const uint8_t local_address[16],
                                         uint16_t port)
{
    uint8_t hashed[18];
    memcpy(hashed, address, 16);
    memcpy(hashed + 16, &port, sizeof port);
    endpoint->key = (uint64_t)M13_ENDPOINT_IPV6 << M13_ENDPOINT_KIND_SHIFT |
                    m13_siphash(secret, hashed, sizeof hashed) >> 2;
    memcpy(endpoint->address, address, 16);
    memcpy(endpoint->local_address, local_address, 16);
    endpoint->port = port;
}

/* By addresses of either family, IPv4 ones mapped. */
static inline void m13_endpoint_set_udp(struct m13_endpoint *endpoint,
                                        const struct m13_siphash_key *secret,
                                        const uint8_t address[16], const uint8_t local_address[16],
                                        uint16_t port)
{
    if (m13_endpoint_is_mapped(address))
        m13_endpoint_set_ipv4(endpoint, m13_endpoint_mapped_ipv4(address),
                              m13_endpoint_mapped_ipv4(local_address), port);
    else
        m13_endpoint_set_ipv6(endpoint, secret, address, local_address, port);
}

static inline void m13_endpoint_set_l2(struct m13_endpoint *endpoint, const uint8_t mac[6])
{
    *endpoint = (struct m13_endpoint){.key = (uint64_t)M13_ENDPOINT_L2 << M13_ENDPOINT_KIND_SHIFT};
    memcpy(&endpoint->key, mac, 6);
    memcpy(endpoint->address, mac, 6);
    memcpy(endpoint->mac, mac, 6);
}

/* The same peer's place; our own address and the next hop may differ. */
static inline bool m13_endpoint_is_same(const struct m13_endpoint *one,
                                        const struct m13_endpoint *other)
{
    return one->key == other->key &&
           (m13_endpoint_kind(one) != M13_ENDPOINT_IPV6 ||
            (!memcmp(one->address, other->address, 16) && one->port == other->port));
}

/* Whether one customer could hold both: an IPv4 address, an IPv6 /64 (RFC 6177: no site gets
 * less), a MAC. */
static inline bool m13_endpoint_is_same_source(const struct m13_endpoint *one,
                                               const struct m13_endpoint *other)
{
    enum m13_endpoint_kind kind = m13_endpoint_kind(one);
    return kind == m13_endpoint_kind(other) &&
           !memcmp(one->address, other->address, kind == M13_ENDPOINT_IPV6 ? 8 : 16);
}

/* What stands between the underlay's MTU and an inner packet: M13's own headers and, except on
 * Ethernet, whose header no MTU counts, the inner Ethernet header, UDP and IP. */
static inline uint32_t m13_endpoint_overhead_bytes(enum m13_endpoint_kind kind)
{
    return kind == M13_ENDPOINT_IPV4   ? M13_WIRE_OVERHEAD_BYTES
           : kind == M13_ENDPOINT_IPV6 ? M13_WIRE_OVERHEAD6_BYTES
                                       : M13_WIRE_HEADER_BYTES;
}

#endif
