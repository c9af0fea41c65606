/* What a sender is told whose packets are larger than one frame carries: RFC 1191's and RFC 8201's
 * message, so that it makes smaller ones. The packet itself goes on in pieces.
 *
 * It comes from the tunnel's other end: the kernel takes nothing from an address of its own that
 * arrives from outside. */
#include "fragment.h"

#include <linux/virtio_net.h>
#include <sys/uio.h>
#include <unistd.h>

#include "checksum.h"

#define TELL_INTERVAL_NS                                                                           \
    (10 * M13_MILLISECOND_NS) /* a peer's senders together (RFC 1812 §4.3.2.8) */
#define TELL_BURST       10
#define IPV4_MESSAGE_MAX 576 /* RFC 1812 §4.3.2.3 */
#define IPV4_MTU_MIN     576
#define DONT_FRAGMENT    0x4000
#define OFFSET_MASK      0x1FFF
#define ICMP             1
#define IPV6_MTU_MIN     1280 /* RFC 8200 §5; also the most of a message (RFC 4443 §2.4) */
#define ICMPV6           58
#define MULTICAST6       0xFF
#define PRECEDENCE       0xC0 /* internetwork control: RFC 1812 §4.3.2.5 */

struct icmp {
    uint8_t type;
    uint8_t code;
    uint16_t checksum;
    uint32_t mtu_bytes; /* of ICMP in the low half (RFC 1191 §4) */
} __attribute__((packed));

/* A token bucket kept as one time, so far in the future as tokens are missing. */
static bool may_tell(struct m13_path *path, struct m13_peer *peer)
{
    if (peer->tell_ns < path->now_ns)
        peer->tell_ns = path->now_ns;
    if (peer->tell_ns - path->now_ns > (TELL_BURST - 1) * TELL_INTERVAL_NS)
        return false;
    peer->tell_ns += TELL_INTERVAL_NS;
    return true;
}

/* RFC 1122 §3.2.2: no error about an error, a later fragment, or from or to many. */
static bool deserves_answer(const struct m13_wire_ipv4 *ip, uint32_t bytes)
{
    static const uint8_t ERRORS[] = {3, 4, 5, 11, 12};
    uint32_t header_bytes = (ip->version_length & 0x0Fu) * 4;
    uint8_t from = (uint8_t)ip->source, to = (uint8_t)ip->destination;
    uint16_t fragment = __builtin_bswap16(ip->fragment);
    if (!(fragment & DONT_FRAGMENT) || (fragment & OFFSET_MASK) || !from || from == 127 ||
        from >= 224 || to >= 224 || header_bytes < sizeof *ip || header_bytes >= bytes)
        return false;
    uint8_t type = ((const uint8_t *)ip)[header_bytes];
    return ip->protocol != ICMP || !memchr(ERRORS, type, sizeof ERRORS);
}

static uint32_t write_ipv4(const struct m13_path *path, const struct m13_peer *peer,
                           const uint8_t *inner, uint32_t inner_bytes, uint8_t *out)
{
    const struct m13_wire_ipv4 *asked = (const void *)inner;
    struct m13_wire_ipv4 *ip = (void *)out;
    struct icmp *icmp = (void *)(out + sizeof *ip);
    uint32_t mtu_bytes = peer->whole_bytes_max;
    if (mtu_bytes < IPV4_MTU_MIN)
        mtu_bytes = IPV4_MTU_MIN;
    if (inner_bytes <= mtu_bytes || !deserves_answer(asked, inner_bytes))
        return 0;
    uint32_t quoted_bytes = IPV4_MESSAGE_MAX - sizeof *ip - sizeof *icmp;
    if (quoted_bytes > inner_bytes)
        quoted_bytes = inner_bytes;
    uint32_t icmp_bytes = (uint32_t)sizeof *icmp + quoted_bytes;
    *icmp = (struct icmp){.type = 3, .code = 4, .mtu_bytes = __builtin_bswap32(mtu_bytes)};
    memcpy(icmp + 1, inner, quoted_bytes);
    icmp->checksum = m13_checksum_fold(m13_checksum_add(0, icmp, icmp_bytes));
    *ip = (struct m13_wire_ipv4){
        .version_length = 0x45,
        .tos = PRECEDENCE,
        .total_bytes = __builtin_bswap16((uint16_t)(sizeof *ip + icmp_bytes)),
        .ttl = 64,
        .protocol = ICMP,
        .source = peer->tunnel_address,
        .destination = asked->source,
    };
    if (!path->config.is_hub)
        memcpy(&ip->source, path->config.hub_tunnel_address, sizeof ip->source);
    ip->checksum = m13_checksum_fold(m13_checksum_add(0, ip, sizeof *ip));
    return (uint32_t)sizeof *ip + icmp_bytes;
}

/* RFC 4443 §2.4: no error about an error, and none to who is not one; to many would be allowed. */
static bool deserves_answer6(const struct m13_wire_ipv6 *ip)
{
    static const uint8_t none[16];
    bool is_error = ip->next_header == ICMPV6 && *(const uint8_t *)(ip + 1) < 128;
    return !is_error && ip->source[0] != MULTICAST6 && ip->destination[0] != MULTICAST6 &&
           memcmp(ip->source, none, sizeof none);
}

static uint32_t write_ipv6(const struct m13_path *path, const struct m13_peer *peer,
                           const uint8_t *inner, uint32_t inner_bytes, uint8_t *out)
{
    const struct m13_wire_ipv6 *asked = (const void *)inner;
    struct m13_wire_ipv6 *ip = (void *)out;
    struct icmp *icmp = (void *)(out + sizeof *ip);
    uint32_t mtu_bytes = peer->whole_bytes_max;
    if (mtu_bytes < IPV6_MTU_MIN)
        mtu_bytes = IPV6_MTU_MIN;
    if (inner_bytes <= mtu_bytes || !deserves_answer6(asked))
        return 0;
    /* larger than the least MTU: it fills the message */
    uint32_t quoted_bytes = IPV6_MTU_MIN - sizeof *ip - sizeof *icmp;
    uint16_t payload_bytes = __builtin_bswap16((uint16_t)(sizeof *icmp + quoted_bytes));
    const uint8_t *from =
        path->config.is_hub ? peer->tunnel_address6 : path->config.hub_tunnel_address6;
    *ip = (struct m13_wire_ipv6){.version_class_label = __builtin_bswap32(6u << 28),
                                 .payload_bytes = payload_bytes,
                                 .next_header = ICMPV6,
                                 .hop_limit = 64};
    memcpy(ip->source, from, sizeof ip->source);
    memcpy(ip->destination, asked->source, sizeof ip->destination);
    *icmp = (struct icmp){.type = 2, .mtu_bytes = __builtin_bswap32(mtu_bytes)};
    memcpy(icmp + 1, inner, quoted_bytes);
    /* pseudo header of RFC 8200 §8.1: both addresses, length, next header */
    uint64_t sum = m13_checksum_add(0, ip->source, 32);
    sum += (uint64_t)payload_bytes + __builtin_bswap16(ICMPV6);
    icmp->checksum =
        m13_checksum_fold(m13_checksum_add(sum, icmp, (uint32_t)sizeof *icmp + quoted_bytes));
    return IPV6_MTU_MIN;
}

static uint32_t write_message(struct m13_path *path, struct m13_peer *peer, const uint8_t *inner,
                              uint32_t inner_bytes, uint8_t *out)
{
    /* while a search is on, what is known is too small to be told */
    if (!m13_pmtu_is_settled(&peer->pmtu))
        return 0;
    uint32_t bytes = *inner >> 4 == 4 ? write_ipv4(path, peer, inner, inner_bytes, out)
                                      : write_ipv6(path, peer, inner, inner_bytes, out);
    return bytes && may_tell(path, peer) ? bytes : 0;
}

void m13_too_big_tell(struct m13_path *path, struct m13_peer *peer, const uint8_t *inner,
                      uint32_t inner_bytes)
{
    uint8_t message[IPV6_MTU_MIN];
    struct virtio_net_hdr header = {.gso_type = VIRTIO_NET_HDR_GSO_NONE};
    uint32_t bytes = write_message(path, peer, inner, inner_bytes, message);
    if (!bytes)
        return;
    struct iovec pieces[] = {{.iov_base = &header, .iov_len = sizeof header},
                             {.iov_base = message, .iov_len = bytes}};
    if (writev(path->outlet.tun_fd, pieces, 2) < 0)
        m13_stats_drop(path->stats, M13_DROP_tun_write);
    else
        m13_stats_add(path->stats, M13_STAT_too_big_told, 1);
}
