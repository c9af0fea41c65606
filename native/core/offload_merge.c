/* Joining TCP and UDP over IPv4 and IPv6 into packets that are cut back into the same ones. */
#include <string.h>

#include "offload.h"
#include "offload_header.h"

/* Length of the IP header of a packet that may be joined: none with options, extension headers or
 * fragments. 0: it stays alone. */
static uint32_t plain_ip_bytes(const uint8_t *packet, uint32_t bytes)
{
    const struct m13_wire_ipv4 *ip = (const void *)packet;
    if (is_ipv6(packet))
        return bytes >= sizeof(struct m13_wire_ipv6) ? sizeof(struct m13_wire_ipv6) : 0;
    return bytes >= sizeof *ip && *packet == 0x45 && !(ip->fragment & big16(IPV4_FRAGMENTED))
               ? sizeof *ip
               : 0;
}

static uint8_t protocol_of(const uint8_t *packet)
{
    return is_ipv6(packet) ? ((const struct m13_wire_ipv6 *)(const void *)packet)->next_header
                           : ((const struct m13_wire_ipv4 *)(const void *)packet)->protocol;
}

/* Length of IP and transport header of a packet that may be joined, or 0. */
static uint32_t headers(const uint8_t *packet, uint32_t bytes)
{
    uint32_t ip_bytes = plain_ip_bytes(packet, bytes);
    return ip_bytes ? transport_end(packet, bytes, ip_bytes, protocol_of(packet)) : 0;
}

static void finish_ip(uint8_t *packet, uint32_t bytes)
{
    if (is_ipv6(packet)) {
        struct m13_wire_ipv6 *ip6 = (void *)packet;
        ip6->payload_bytes = big16((uint16_t)(bytes - sizeof *ip6));
        return;
    }
    struct m13_wire_ipv4 *ip = (void *)packet;
    ip->total_bytes = big16((uint16_t)bytes);
    ip->checksum = 0;
    ip->checksum = m13_checksum_fold(m13_checksum_words(0, ip, sizeof *ip / 4));
}

static bool checksum_is_right(const struct m13_merge *merge, const uint8_t *packet, uint32_t bytes)
{
    const struct m13_wire_udp *udp = (const void *)(packet + merge->ip_bytes);
    uint32_t transport_bytes = bytes - merge->ip_bytes;
    if (merge->protocol == IPPROTO_UDP && (!udp->checksum || big16(udp->bytes) != transport_bytes))
        return false; /* no checksum cannot be made one again */
    uint64_t sum = pseudo_sum(packet, merge->protocol) + big16((uint16_t)transport_bytes);
    bool header_is_right =
        is_ipv6(packet) ||
        !m13_checksum_fold(m13_checksum_words(0, packet, sizeof(struct m13_wire_ipv4) / 4));
    return header_is_right && !m13_checksum_fold(m13_checksum_add(sum, udp, transport_bytes));
}

/* Whether a TCP segment is plain data: only ACK, perhaps PSH. */
static bool is_plain_data(const struct tcp_header *tcp)
{
    return (tcp->flags & (uint8_t)~TCP_PSH) == TCP_ACK;
}

/* Begins a write with one packet. It may be changed in place until m13_merge_finish(). */
static void begin_merge(struct m13_merge *merge, uint8_t *packet, uint32_t bytes, uint32_t origin)
{
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
    merge->ip_bytes = plain_ip_bytes(packet, bytes);
    merge->protocol = protocol_of(packet);
    merge->segment_bytes = bytes - header_bytes;
    merge->next_id =
        (uint16_t)(big16(((const struct m13_wire_ipv4 *)(const void *)packet)->id) + 1);
    merge->closed = !merge->segment_bytes;
    if (merge->protocol == IPPROTO_TCP) {
        const struct tcp_header *tcp = (const void *)(packet + merge->ip_bytes);
        merge->next_sequence = big32(tcp->sequence) + merge->segment_bytes;
        merge->closed |= !is_plain_data(tcp) || (tcp->flags & TCP_PSH);
    }
}

static bool same_addresses(const uint8_t *ours, const uint8_t *packet)
{
    if (is_ipv6(ours) != is_ipv6(packet))
        return false;
    if (is_ipv6(packet))
        return !memcmp(ours + offsetof(struct m13_wire_ipv6, source),
                       packet + offsetof(struct m13_wire_ipv6, source), 32);
    const struct m13_wire_ipv4 *first = (const void *)ours, *ip = (const void *)packet;
    return first->source == ip->source && first->destination == ip->destination;
}

/* Whether the packet's first header tells what it carries: in IPv6 an extension header may stand
 * there, and anything behind it. */
static bool tells_protocol(const uint8_t *packet)
{
    uint8_t protocol = protocol_of(packet);
    return !is_ipv6(packet) || protocol == IPPROTO_TCP || protocol == IPPROTO_UDP ||
           protocol == IPPROTO_ICMPV6;
}

/* If it is and cannot be added, the merge is written before it: else the flow were reordered. */
static bool is_same_flow(const struct m13_merge *merge, const uint8_t *packet, uint32_t bytes)
{
    /* protocol, addresses and ports; packets without ports are flows by their addresses */
    if (!same_addresses(merge->packet, packet) ||
        (protocol_of(merge->packet) != protocol_of(packet) && tells_protocol(merge->packet) &&
         tells_protocol(packet)))
        return false;
    return !merge->header_bytes || !headers(packet, bytes) ||
           !memcmp(merge->packet + merge->ip_bytes, packet + merge->ip_bytes, 4);
}

static bool ip_headers_agree(const struct m13_merge *merge, const uint8_t *packet)
{
    if (is_ipv6(packet)) {
        const struct m13_wire_ipv6 *ours = (const void *)merge->packet;
        const struct m13_wire_ipv6 *ip6 = (const void *)packet;
        return ours->version_class_label == ip6->version_class_label &&
               ours->hop_limit == ip6->hop_limit;
    }
    const struct m13_wire_ipv4 *ours = (const void *)merge->packet, *ip = (const void *)packet;
    bool fixed_id = ip->fragment & big16(DONT_FRAGMENT);
    return ours->tos == ip->tos && ours->ttl == ip->ttl && ours->fragment == ip->fragment &&
           (fixed_id || big16(ip->id) == merge->next_id);
}

/* Everything that cutting would copy from the first header must be equal in this one. */
static bool headers_agree(const struct m13_merge *merge, const uint8_t *packet)
{
    if (!ip_headers_agree(merge, packet))
        return false;
    if (merge->protocol == IPPROTO_UDP)
        return true;
    const struct tcp_header *first = (const void *)(merge->packet + merge->ip_bytes);
    const struct tcp_header *tcp = (const void *)(packet + merge->ip_bytes);
    return big32(tcp->sequence) == merge->next_sequence && is_plain_data(tcp) &&
           tcp->acknowledgement == first->acknowledgement && tcp->window == first->window &&
           tcp->data_offset == first->data_offset && tcp->urgent == first->urgent &&
           !memcmp(first + 1, tcp + 1, merge->header_bytes - merge->ip_bytes - sizeof *tcp);
}

static bool add_to_merge(struct m13_merge *merge, uint8_t *packet, uint32_t bytes, uint32_t origin)
{
    if (merge->closed || merge->count == M13_MERGE_PACKETS_MAX ||
        headers(packet, bytes) != merge->header_bytes)
        return false;
    uint32_t payload_bytes = bytes - merge->header_bytes;
    if (!payload_bytes || payload_bytes > merge->segment_bytes ||
        merge->bytes + payload_bytes > M13_OFFLOAD_PACKET_MAX || !headers_agree(merge, packet) ||
        !checksum_is_right(merge, packet, bytes) ||
        (merge->count == 1 && !checksum_is_right(merge, merge->packet, merge->bytes)))
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
        const struct tcp_header *tcp = (const void *)(packet + merge->ip_bytes);
        struct tcp_header *first = (void *)(merge->packet + merge->ip_bytes);
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
        const struct iovec *packet = &set->open[i]->pieces[1];
        if (is_same_flow(set->open[j], packet->iov_base, (uint32_t)packet->iov_len)) {
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
    uint8_t *transport = merge->packet + merge->ip_bytes;
    if (merge->count == 1)
        return;
    uint32_t transport_bytes = merge->bytes - merge->ip_bytes;
    uint8_t kind = M13_OFFLOAD_GSO_UDP_L4;
    if (merge->protocol == IPPROTO_TCP)
        kind = is_ipv6(merge->packet) ? VIRTIO_NET_HDR_GSO_TCPV6 : VIRTIO_NET_HDR_GSO_TCPV4;
    else
        ((struct m13_wire_udp *)(void *)transport)->bytes = big16((uint16_t)transport_bytes);
    finish_ip(merge->packet, merge->bytes);
    /* the field holds the pseudo header's sum, not inverted; the kernel adds the rest */
    uint64_t pseudo = pseudo_sum(merge->packet, merge->protocol);
    uint16_t sum = (uint16_t)~m13_checksum_fold(pseudo + big16((uint16_t)transport_bytes));
    memcpy(transport + checksum_offset(merge->protocol), &sum, sizeof sum);
    merge->header = (struct virtio_net_hdr){.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
                                            .gso_type = kind,
                                            .hdr_len = (uint16_t)merge->header_bytes,
                                            .gso_size = (uint16_t)merge->segment_bytes,
                                            .csum_start = (uint16_t)merge->ip_bytes,
                                            .csum_offset = checksum_offset(merge->protocol)};
}
