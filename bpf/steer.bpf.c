/* Which packets are M13's: those go to the queue's AF_XDP socket, everything else to the kernel. */
#include "parse.h"
#include "steer.h"

const volatile struct m13_steer_settings settings = {0};

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, M13_STEER_ADDRESSES_MAX);
    __type(key, struct m13_steer_address);
    __type(value, __u8);
} own_addresses SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_XSKMAP);
    __uint(max_entries, M13_STEER_QUEUES_MAX);
    __type(key, __u32);
    __type(value, __u32);
} sockets SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, M13_STEER_VERDICT_COUNT);
    __type(key, __u32);
    __type(value, __u64);
} counters SEC(".maps");

/* The address is asked before the rest so that other hosts' fragments are not reported as ours. */
static __always_inline enum m13_steer_verdict classify_ipv4(struct ethhdr *ethernet, void *end)
{
    struct iphdr *ip = parse_ipv4(ethernet, end);
    struct m13_steer_address address = {};
    struct udphdr *udp;

    if (!ip)
        return M13_STEER_PASS_MALFORMED;
    if (ip->protocol != IPPROTO_UDP)
        return M13_STEER_PASS_OTHER;
    address.words[2] = bpf_htonl(0xffff);
    address.words[3] = ip->daddr;
    if (!bpf_map_lookup_elem(&own_addresses, &address))
        return M13_STEER_PASS_NOT_OURS;
    if (is_fragment(ip))
        return M13_STEER_PASS_FRAGMENT;
    udp = parse_udp(ip, end);
    if (!udp)
        return M13_STEER_PASS_MALFORMED;
    return udp->dest == settings.port ? M13_STEER_REDIRECT_UDP : M13_STEER_PASS_PORT;
}

/* On the wire it is nobody's (RFC 4291 §2.5.5.2 has it for sockets); in the map it is an IPv4 one.
 */
static __always_inline int is_mapped(const struct m13_steer_address *address)
{
    return !address->words[0] && !address->words[1] && address->words[2] == bpf_htonl(0xffff);
}

/* Extension headers, fragments among them, are the kernel's: we send none. */
static __always_inline enum m13_steer_verdict classify_ipv6(struct ethhdr *ethernet, void *end)
{
    struct ipv6hdr *ip = parse_ipv6(ethernet, end);
    struct m13_steer_address address;
    struct udphdr *udp;

    if (!ip)
        return M13_STEER_PASS_MALFORMED;
    if (ip->nexthdr != IPPROTO_UDP)
        return M13_STEER_PASS_OTHER;
    __builtin_memcpy(&address, &ip->daddr, sizeof(address));
    if (is_mapped(&address) || !bpf_map_lookup_elem(&own_addresses, &address))
        return M13_STEER_PASS_NOT_OURS;
    udp = parse_udp6(ip, end);
    if (!udp)
        return M13_STEER_PASS_MALFORMED;
    return udp->dest == settings.port ? M13_STEER_REDIRECT_UDP : M13_STEER_PASS_PORT;
}

static __always_inline enum m13_steer_verdict classify(const struct xdp_md *context)
{
    void *data = (void *)(long)context->data;
    void *end = (void *)(long)context->data_end;
    struct ethhdr *ethernet = parse_ethernet(data, end);

    if (!ethernet)
        return M13_STEER_PASS_MALFORMED;
    if (ethernet->h_proto == bpf_htons(M13_STEER_ETHERTYPE))
        return M13_STEER_REDIRECT_L2;
    if (ethernet->h_proto == bpf_htons(ETH_P_IP))
        return classify_ipv4(ethernet, end);
    if (ethernet->h_proto == bpf_htons(ETH_P_IPV6))
        return classify_ipv6(ethernet, end);
    return M13_STEER_PASS_OTHER;
}

SEC("xdp")
int m13_steer(struct xdp_md *context)
{
    __u32 verdict = classify(context);
    int action = XDP_PASS;
    __u64 *count;

    if (verdict == M13_STEER_REDIRECT_L2 || verdict == M13_STEER_REDIRECT_UDP) {
        action = bpf_redirect_map(&sockets, context->rx_queue_index, XDP_PASS);
        if (action != XDP_REDIRECT)
            verdict = M13_STEER_PASS_NO_SOCKET;
    }
    count = bpf_map_lookup_elem(&counters, &verdict);
    if (count)
        *count += 1;
    return action;
}
