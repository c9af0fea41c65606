/* The outer headers of a received frame; every step answers NULL for what does not fit. */
#ifndef M13_STEER_PARSE_H
#define M13_STEER_PARSE_H

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/udp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define FRAGMENT_MORE_OR_OFFSET 0x3fff

static __always_inline struct ethhdr *parse_ethernet(void *data, void *end)
{
    struct ethhdr *ethernet = data;

    return (void *)(ethernet + 1) > end ? NULL : ethernet;
}

static __always_inline struct iphdr *parse_ipv4(struct ethhdr *ethernet, void *end)
{
    struct iphdr *ip = (void *)(ethernet + 1);

    if ((void *)(ip + 1) > end || ip->version != 4 || ip->ihl < 5)
        return NULL;
    return ip;
}

static __always_inline struct ipv6hdr *parse_ipv6(struct ethhdr *ethernet, void *end)
{
    struct ipv6hdr *ip = (void *)(ethernet + 1);

    if ((void *)(ip + 1) > end || ip->version != 6)
        return NULL;
    return ip;
}

static __always_inline int is_fragment(const struct iphdr *ip)
{
    return (ip->frag_off & bpf_htons(FRAGMENT_MORE_OR_OFFSET)) != 0;
}

/*
 * The frame may be longer than the IP packet (Ethernet pads to 60 bytes), never shorter; and the
 * datagram must fill the packet exactly, because the worker takes its length from the UDP header.
 */
static __always_inline struct udphdr *parse_udp(struct iphdr *ip, void *end)
{
    __u32 header_bytes = ip->ihl * 4;
    __u32 total_bytes = bpf_ntohs(ip->tot_len);
    struct udphdr *udp = (void *)ip + header_bytes;
    __u32 udp_bytes;

    if ((void *)(udp + 1) > end || (long)total_bytes > end - (void *)ip)
        return NULL;
    udp_bytes = bpf_ntohs(udp->len);
    if (udp_bytes < sizeof(*udp) || header_bytes + udp_bytes != total_bytes)
        return NULL;
    return udp;
}

/* A datagram that fills its packet exactly, with no extension header before it. */
static __always_inline struct udphdr *parse_udp6(struct ipv6hdr *ip, void *end)
{
    struct udphdr *udp = (void *)(ip + 1);
    __u32 payload_bytes = bpf_ntohs(ip->payload_len);

    if ((void *)(udp + 1) > end || (long)payload_bytes > end - (void *)udp)
        return NULL;
    if (payload_bytes < sizeof(*udp) || bpf_ntohs(udp->len) != payload_bytes)
        return NULL;
    return udp;
}

#endif
