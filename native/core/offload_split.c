/* Cutting TCP and UDP over IPv4 and IPv6 into packets that a kernel without offloads would send. */
#include <string.h>

#include "offload.h"
#include "offload_header.h"

/* The protocol behind the options of an IPv4 header; 0 for a fragment or a header that lies. */
static uint8_t find_transport4(const uint8_t *packet, uint32_t *ip_bytes)
{
    const struct m13_wire_ipv4 *ip = (const void *)packet;
    *ip_bytes = (ip->version_length & 0x0Fu) * 4;
    return ip->fragment & big16(IPV4_FRAGMENTED) ? 0 : ip->protocol;
}

/* The protocol behind the extension headers that say nothing about other bytes than their own
 * (RFC 8200 §4.3 and §4.6); whatever else there is, is answered instead. */
static uint8_t find_transport6(const uint8_t *packet, uint32_t bytes, uint32_t *ip_bytes)
{
    uint8_t protocol = ((const struct m13_wire_ipv6 *)(const void *)packet)->next_header;
    *ip_bytes = sizeof(struct m13_wire_ipv6);
    while ((protocol == IPPROTO_HOPOPTS || protocol == IPPROTO_DSTOPTS) && *ip_bytes + 8 <= bytes) {
        protocol = packet[*ip_bytes];
        *ip_bytes += (packet[*ip_bytes + 1] + 1u) * 8;
    }
    return protocol;
}

/* Where the headers end and what they are; false for a packet that is not cut. */
static bool find_headers(struct m13_split *split)
{
    if (!m13_inner_is_whole(split->packet, split->bytes))
        return false;
    split->is_ipv6 = is_ipv6(split->packet);
    split->protocol = split->is_ipv6
                          ? find_transport6(split->packet, split->bytes, &split->ip_bytes)
                          : find_transport4(split->packet, &split->ip_bytes);
    split->header_bytes =
        transport_end(split->packet, split->bytes, split->ip_bytes, split->protocol);
    return split->header_bytes;
}

/* The IPv4 header as cut() copies it, but for the fields it sets. */
static uint64_t sum_ipv4(const struct m13_split *split)
{
    const struct m13_wire_ipv4 *read = (const void *)split->packet;
    struct m13_wire_ipv4 ip = *read;
    ip.total_bytes = ip.id = ip.checksum = 0;
    return m13_checksum_words(0, &ip, sizeof ip / 4) +
           m13_checksum_words(0, read + 1, (split->ip_bytes - sizeof ip) / 4);
}

/* The same of the transport header; cut() adds what it sets for each packet. */
static uint64_t sum_transport(const struct m13_split *split)
{
    const struct tcp_header *tcp = (const void *)(split->packet + split->ip_bytes);
    uint64_t sum = pseudo_sum(split->packet, split->protocol);
    if (split->protocol == IPPROTO_UDP)
        return sum + m13_checksum_words(0, tcp, 1); /* ports */
    struct tcp_header fixed = *tcp;
    fixed.sequence = 0;
    fixed.flags = 0;
    fixed.checksum = 0;
    sum += m13_checksum_words(0, &fixed, sizeof fixed / 4);
    return sum + m13_checksum_words(0, tcp + 1,
                                    (split->header_bytes - split->ip_bytes - TCP_HEADER_BYTES) / 4);
}

static bool kind_agrees(const struct m13_split *split, uint8_t gso_type)
{
    uint8_t kind = gso_type & (uint8_t)~VIRTIO_NET_HDR_GSO_ECN;
    if (kind == M13_OFFLOAD_GSO_UDP_L4)
        return split->protocol == IPPROTO_UDP;
    return split->protocol == IPPROTO_TCP &&
           kind == (split->is_ipv6 ? VIRTIO_NET_HDR_GSO_TCPV6 : VIRTIO_NET_HDR_GSO_TCPV4);
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
    split->segment_bytes = header.gso_size;
    if (!header.gso_size || !find_headers(split) || !kind_agrees(split, header.gso_type))
        return false;
    split->ip_sum = split->is_ipv6 ? 0 : sum_ipv4(split);
    split->transport_sum = sum_transport(split);
    return true;
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

/* Each of these sets what differs in a packet of its kind; the latter two answer its sum. */
static void set_ip(const struct m13_split *split, uint8_t *out, uint32_t bytes)
{
    if (split->is_ipv6) {
        struct m13_wire_ipv6 *ip6 = (void *)out;
        ip6->payload_bytes = big16((uint16_t)(bytes - sizeof *ip6));
        return;
    }
    struct m13_wire_ipv4 *ip = (void *)out;
    ip->id = big16((uint16_t)(big16(ip->id) + split->index));
    ip->total_bytes = big16((uint16_t)bytes);
    ip->checksum = m13_checksum_fold(split->ip_sum + ip->id + ip->total_bytes);
}

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
    uint8_t *transport = out + split->ip_bytes;
    memcpy(out, split->packet, split->header_bytes);
    set_ip(split, out, bytes);
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
