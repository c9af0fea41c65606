/* Cutting and joining TCP and UDP over IPv4, header fields by the rules of RFC 791, 768 and 9293.
 */
#include "offload.h"

#include <netinet/in.h>
#include <string.h>

#include "checksum.h"
#include "wire.h"

#define TCP_HEADER_BYTES 20
#define UDP_HEADER_BYTES 8
#define TCP_FIN          0x01
#define TCP_PSH          0x08
#define TCP_ACK          0x10
#define TCP_CWR          0x80
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

static uint16_t big16(uint16_t value)
{
    return __builtin_bswap16(value);
}

static uint32_t big32(uint32_t value)
{
    return __builtin_bswap32(value);
}

static uint16_t checksum_offset(uint8_t protocol)
{
    return protocol == IPPROTO_TCP ? offsetof(struct tcp_header, checksum)
                                   : offsetof(struct m13_wire_udp, checksum);
}

/* One's-complement sum of the pseudo header of RFC 768 and 9293. */
static uint64_t pseudo_sum(const struct m13_wire_ipv4 *ip, uint32_t transport_bytes)
{
    return m13_checksum_words(0, &ip->source, 2) + big16(ip->protocol) +
           big16((uint16_t)transport_bytes);
}

static uint32_t ip_header_bytes(const void *packet)
{
    return (*(const uint8_t *)packet & 0x0Fu) * 4;
}

/* Length of IPv4 and transport header, 0 when the packet is not one we cut: fragments, other
 * protocols, headers that do not fit. */
static uint32_t headers_to_cut(const uint8_t *packet, uint32_t bytes)
{
    const struct m13_wire_ipv4 *ip = (const void *)packet;
    if (bytes < sizeof *ip || ip->version_length >> 4 != 4 || (ip->fragment & big16(0x3FFF)) ||
        big16(ip->total_bytes) != bytes)
        return 0;
    uint32_t ip_bytes = ip_header_bytes(packet);
    if (ip_bytes < sizeof *ip || bytes < ip_bytes + UDP_HEADER_BYTES)
        return 0;
    if (ip->protocol == IPPROTO_UDP)
        return ip_bytes + UDP_HEADER_BYTES;
    if (ip->protocol != IPPROTO_TCP || bytes < ip_bytes + TCP_HEADER_BYTES)
        return 0;
    const struct tcp_header *tcp = (const void *)(packet + ip_bytes);
    uint32_t tcp_bytes = (tcp->data_offset >> 4) * 4u;
    return tcp_bytes < TCP_HEADER_BYTES || ip_bytes + tcp_bytes > bytes ? 0 : ip_bytes + tcp_bytes;
}

/* The same of packets that may be joined: none with options in the IPv4 header. */
static uint32_t headers(const uint8_t *packet, uint32_t bytes)
{
    return *packet == 0x45 ? headers_to_cut(packet, bytes) : 0;
}

static void finish_ipv4(struct m13_wire_ipv4 *ip, uint32_t bytes)
{
    ip->total_bytes = big16((uint16_t)bytes);
    ip->checksum = 0;
    ip->checksum = m13_checksum_fold(m13_checksum_words(0, ip, sizeof *ip / 4));
}

/* --- cutting ---------------------------------------------------------------------------------- */

/* The headers as cut() copies them, but for the fields it sets: those it adds for each packet. */
static void sum_headers(struct m13_split *split)
{
    const struct m13_wire_ipv4 *read = (const void *)split->packet;
    const struct tcp_header *tcp = (const void *)(split->packet + split->ip_bytes);
    struct m13_wire_ipv4 ip = *read;
    ip.total_bytes = ip.id = ip.checksum = 0;
    split->ip_sum = m13_checksum_words(0, &ip, sizeof ip / 4);
    split->ip_sum += m13_checksum_words(0, read + 1, (split->ip_bytes - sizeof ip) / 4);
    split->transport_sum = m13_checksum_words(0, &ip.source, 2) + big16(ip.protocol);
    if (split->protocol == IPPROTO_UDP) {
        split->transport_sum += m13_checksum_words(0, tcp, 1); /* ports */
        return;
    }
    struct tcp_header fixed = *tcp;
    fixed.sequence = 0;
    fixed.flags = 0;
    fixed.checksum = 0;
    split->transport_sum += m13_checksum_words(0, &fixed, sizeof fixed / 4);
    split->transport_sum += m13_checksum_words(
        0, tcp + 1, (split->header_bytes - split->ip_bytes - TCP_HEADER_BYTES) / 4);
}

bool m13_split_begin(struct m13_split *split, const uint8_t *data, uint32_t bytes)
{
    struct virtio_net_hdr header;
    if (bytes <= sizeof header)
        return false;
    memcpy(&header, data, sizeof header);
    *split = (struct m13_split){.packet = data + sizeof header,
                                .bytes = bytes - (uint32_t)sizeof header};
    if (header.flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) {
        split->checksum_start = header.csum_start;
        split->checksum_offset = header.csum_offset;
        if (!header.csum_start || header.csum_start + header.csum_offset + 2u > split->bytes)
            return false;
    }
    if (header.gso_type == VIRTIO_NET_HDR_GSO_NONE)
        return true;
    uint8_t kind = header.gso_type & (uint8_t)~VIRTIO_NET_HDR_GSO_ECN;
    split->header_bytes = headers_to_cut(split->packet, split->bytes);
    split->segment_bytes = header.gso_size;
    if (!split->header_bytes || !header.gso_size)
        return false;
    split->ip_bytes = ip_header_bytes(split->packet);
    split->protocol = ((const struct m13_wire_ipv4 *)(const void *)split->packet)->protocol;
    sum_headers(split);
    return (kind == VIRTIO_NET_HDR_GSO_TCPV4 && split->protocol == IPPROTO_TCP) ||
           (kind == M13_OFFLOAD_GSO_UDP_L4 && split->protocol == IPPROTO_UDP);
}

uint32_t m13_split_next_bytes(const struct m13_split *split)
{
    if (!split->header_bytes)
        return split->index ? 0 : split->bytes;
    uint32_t left = split->bytes - split->header_bytes - split->done;
    if (!left)
        return split->index ? 0 : split->bytes;
    return split->header_bytes + (left < split->segment_bytes ? left : split->segment_bytes);
}

/* Each of these sets what differs in a packet of its kind and answers its sum. */
static uint64_t set_tcp(const struct m13_split *split, struct tcp_header *tcp, bool last)
{
    tcp->sequence = big32(big32(tcp->sequence) + split->done);
    if (!last)
        tcp->flags &= (uint8_t) ~(TCP_FIN | TCP_PSH);
    if (split->index)
        tcp->flags &= (uint8_t)~TCP_CWR; /* RFC 3168: said once */
    /* the second byte of its 16-bit word: the high one in native order */
    return (uint64_t)tcp->sequence + ((uint32_t)tcp->flags << 8);
}

static uint64_t set_udp(struct m13_wire_udp *udp, uint32_t transport_bytes)
{
    udp->bytes = big16((uint16_t)transport_bytes);
    return udp->bytes;
}

static void cut(struct m13_split *split, uint8_t *out, uint32_t bytes)
{
    uint32_t payload_bytes = bytes - split->header_bytes;
    uint32_t transport_bytes = bytes - split->ip_bytes;
    bool last = split->done + payload_bytes == split->bytes - split->header_bytes;
    struct m13_wire_ipv4 *ip = (void *)out;
    uint8_t *transport = out + split->ip_bytes;
    memcpy(out, split->packet, split->header_bytes);
    ip->id = big16((uint16_t)(big16(ip->id) + split->index));
    ip->total_bytes = big16((uint16_t)bytes);
    ip->checksum = m13_checksum_fold(split->ip_sum + ip->id + ip->total_bytes);
    uint64_t sum = split->transport_sum + big16((uint16_t)transport_bytes);
    sum += split->protocol == IPPROTO_TCP ? set_tcp(split, (void *)transport, last)
                                          : set_udp((void *)transport, transport_bytes);
    sum = m13_checksum_copy(sum, out + split->header_bytes,
                            split->packet + split->header_bytes + split->done, payload_bytes);
    uint16_t checksum = m13_checksum_fold(sum);
    if (!checksum && split->protocol == IPPROTO_UDP)
        checksum = 0xFFFF;
    memcpy(transport + checksum_offset(split->protocol), &checksum, sizeof checksum);
    split->done += payload_bytes;
}

/* A packet that is not cut, with the checksum the kernel left to us: its field holds the pseudo
 * header's sum already, so summing from there over everything completes it. */
static void copy_whole(const struct m13_split *split, uint8_t *out)
{
    memcpy(out, split->packet, split->bytes);
    if (!split->checksum_start)
        return;
    uint16_t sum = m13_checksum_fold(
        m13_checksum_add(0, out + split->checksum_start, split->bytes - split->checksum_start));
    if (!sum && split->checksum_offset == checksum_offset(IPPROTO_UDP))
        sum = 0xFFFF;
    memcpy(out + split->checksum_start + split->checksum_offset, &sum, sizeof sum);
}

void m13_split_next(struct m13_split *split, uint8_t *out)
{
    uint32_t bytes = m13_split_next_bytes(split);
    if (split->header_bytes)
        cut(split, out, bytes);
    else
        copy_whole(split, out);
    split->index++;
}

/* --- joining ---------------------------------------------------------------------------------- */

static bool checksum_is_right(const uint8_t *packet, uint32_t bytes)
{
    const struct m13_wire_ipv4 *ip = (const void *)packet;
    const struct m13_wire_udp *udp = (const void *)(packet + sizeof *ip);
    uint32_t transport_bytes = bytes - (uint32_t)sizeof *ip;
    if (ip->protocol == IPPROTO_UDP && (!udp->checksum || big16(udp->bytes) != transport_bytes))
        return false; /* no checksum cannot be made one again */
    return !m13_checksum_fold(m13_checksum_words(0, ip, sizeof *ip / 4)) &&
           !m13_checksum_fold(m13_checksum_add(pseudo_sum(ip, transport_bytes), packet + sizeof *ip,
                                               transport_bytes));
}

/* Whether a TCP segment is plain data: only ACK, perhaps PSH. */
static bool is_plain_data(const struct tcp_header *tcp)
{
    return (tcp->flags & (uint8_t)~TCP_PSH) == TCP_ACK;
}

/* Begins a write with one packet. It may be changed in place until m13_merge_finish(). */
static void begin_merge(struct m13_merge *merge, uint8_t *packet, uint32_t bytes, uint32_t origin)
{
    const struct m13_wire_ipv4 *ip = (const void *)packet;
    const struct tcp_header *tcp = (const void *)(packet + sizeof *ip);
    uint32_t header_bytes = headers(packet, bytes);
    memset(&merge->header, 0, sizeof merge->header);
    merge->count = 1;
    merge->bytes = bytes;
    merge->packet = packet;
    merge->header_bytes = header_bytes;
    merge->closed = true;
    merge->protocol = 0;
    merge->pieces[0] = (struct iovec){.iov_base = &merge->header, .iov_len = sizeof merge->header};
    merge->pieces[1] = (struct iovec){.iov_base = packet, .iov_len = bytes};
    merge->origin[0] = origin;
    if (!header_bytes)
        return;
    merge->protocol = ip->protocol;
    merge->segment_bytes = bytes - header_bytes;
    merge->next_id = (uint16_t)(big16(ip->id) + 1);
    merge->closed = !merge->segment_bytes;
    if (ip->protocol == IPPROTO_TCP) {
        merge->next_sequence = big32(tcp->sequence) + merge->segment_bytes;
        merge->closed |= !is_plain_data(tcp) || (tcp->flags & TCP_PSH);
    }
}

/* If it is and cannot be added, the merge is written before it: else the flow were reordered. */
static bool is_same_flow(const struct m13_merge *merge, const uint8_t *packet, uint32_t bytes)
{
    const struct m13_wire_ipv4 *ours = (const void *)merge->packet, *ip = (const void *)packet;
    /* protocol, addresses and ports; packets without ports are flows by their addresses */
    if (ours->protocol != ip->protocol || ours->source != ip->source ||
        ours->destination != ip->destination)
        return false;
    return !merge->header_bytes || !headers(packet, bytes) ||
           !memcmp(merge->packet + sizeof *ip, packet + sizeof *ip, 4);
}

/* Everything that cutting would copy from the first header must be equal in this one. */
static bool headers_agree(const struct m13_merge *merge, const uint8_t *packet)
{
    const struct m13_wire_ipv4 *ours = (const void *)merge->packet, *ip = (const void *)packet;
    bool fixed_id = ip->fragment & big16(DONT_FRAGMENT);
    if (ours->tos != ip->tos || ours->ttl != ip->ttl || ours->fragment != ip->fragment ||
        (!fixed_id && big16(ip->id) != merge->next_id))
        return false;
    if (merge->protocol == IPPROTO_UDP)
        return true;
    const struct tcp_header *first = (const void *)(merge->packet + sizeof *ip);
    const struct tcp_header *tcp = (const void *)(packet + sizeof *ip);
    return big32(tcp->sequence) == merge->next_sequence && is_plain_data(tcp) &&
           tcp->acknowledgement == first->acknowledgement && tcp->window == first->window &&
           tcp->data_offset == first->data_offset && tcp->urgent == first->urgent &&
           !memcmp(first + 1, tcp + 1, merge->header_bytes - sizeof *ip - sizeof *tcp);
}

static bool add_to_merge(struct m13_merge *merge, uint8_t *packet, uint32_t bytes, uint32_t origin)
{
    if (merge->closed || merge->count == M13_MERGE_PACKETS_MAX ||
        headers(packet, bytes) != merge->header_bytes)
        return false;
    uint32_t payload_bytes = bytes - merge->header_bytes;
    if (!payload_bytes || payload_bytes > merge->segment_bytes ||
        merge->bytes + payload_bytes > M13_OFFLOAD_PACKET_MAX || !headers_agree(merge, packet) ||
        !checksum_is_right(packet, bytes) ||
        (merge->count == 1 && !checksum_is_right(merge->packet, merge->bytes)))
        return false;
    merge->count++;
    merge->pieces[merge->count] =
        (struct iovec){.iov_base = packet + merge->header_bytes, .iov_len = payload_bytes};
    merge->origin[merge->count - 1] = origin;
    merge->bytes += payload_bytes;
    merge->next_id++;
    merge->next_sequence += payload_bytes;
    merge->closed = payload_bytes < merge->segment_bytes;
    if (merge->protocol == IPPROTO_TCP) {
        const struct tcp_header *tcp = (const void *)(packet + sizeof(struct m13_wire_ipv4));
        struct tcp_header *first = (void *)(merge->packet + sizeof(struct m13_wire_ipv4));
        if (tcp->flags & TCP_PSH) {
            first->flags |= TCP_PSH;
            merge->closed = true;
        }
    }
    return true;
}

/* The newest of the packet's flow: after it came nothing that the packet must not overtake. */
static uint32_t find_flow(const struct m13_merge_set *set, const uint8_t *packet, uint32_t bytes)
{
    uint32_t i = set->count;
    while (i && !is_same_flow(set->open[i - 1], packet, bytes))
        i--;
    return i ? i - 1 : set->count;
}

/* What is to be written so that the merge can be. A packet without ports counts as of every flow
 * between its addresses, so merges of different flows may have to keep their order too. */
static uint32_t find_oldest_before(const struct m13_merge_set *set, uint32_t i)
{
    for (uint32_t j = 0; j < i;) {
        const struct m13_wire_ipv4 *ip = (const void *)set->open[i]->packet;
        if (is_same_flow(set->open[j], set->open[i]->packet, big16(ip->total_bytes))) {
            i = j;
            j = 0;
        } else {
            j++;
        }
    }
    return i;
}

bool m13_merge_join(struct m13_merge_set *set, uint8_t *packet, uint32_t bytes, uint32_t origin)
{
    uint32_t i = find_flow(set, packet, bytes);
    return i < set->count && add_to_merge(set->open[i], packet, bytes, origin);
}

struct m13_merge *m13_merge_open(struct m13_merge_set *set, struct m13_merge *fresh,
                                 uint8_t *packet, uint32_t bytes, uint32_t origin)
{
    struct m13_merge *leaving = NULL;
    uint32_t i = find_flow(set, packet, bytes);
    if (i == set->count && set->count == M13_MERGE_FLOWS_MAX)
        i = 0;
    if (i < set->count) {
        i = find_oldest_before(set, i);
        leaving = set->open[i];
        set->count--;
        memmove(&set->open[i], &set->open[i + 1], (set->count - i) * sizeof set->open[0]);
    }
    begin_merge(fresh, packet, bytes, origin);
    fresh->closed |= set->udp_stays_alone && fresh->protocol == IPPROTO_UDP;
    set->open[set->count++] = fresh;
    return leaving;
}

void m13_merge_finish(struct m13_merge *merge)
{
    struct m13_wire_ipv4 *ip = (void *)merge->packet;
    uint8_t *transport = merge->packet + sizeof *ip;
    if (merge->count == 1)
        return;
    uint32_t transport_bytes = merge->bytes - (uint32_t)sizeof *ip;
    bool tcp = merge->protocol == IPPROTO_TCP;
    finish_ipv4(ip, merge->bytes);
    if (!tcp)
        ((struct m13_wire_udp *)(void *)transport)->bytes = big16((uint16_t)transport_bytes);
    /* the field holds the pseudo header's sum, not inverted; the kernel adds the rest */
    uint16_t sum = (uint16_t)~m13_checksum_fold(pseudo_sum(ip, transport_bytes));
    memcpy(transport + checksum_offset(merge->protocol), &sum, sizeof sum);
    merge->header =
        (struct virtio_net_hdr){.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
                                .gso_type = tcp ? VIRTIO_NET_HDR_GSO_TCPV4 : M13_OFFLOAD_GSO_UDP_L4,
                                .hdr_len = (uint16_t)merge->header_bytes,
                                .gso_size = (uint16_t)merge->segment_bytes,
                                .csum_start = sizeof *ip,
                                .csum_offset = checksum_offset(merge->protocol)};
}
