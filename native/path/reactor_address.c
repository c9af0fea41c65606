/* Endpoints as the sockets of the kernel have them, and back: names and control data. */
#include <netinet/udp.h>

#include "reactor.h"

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103 /* include/uapi/linux/udp.h */
#endif
#ifndef UDP_GRO
#define UDP_GRO 104
#endif

/* What stands before the control data in a buffer; 16 bytes of io_uring's own and this leave it
 * aligned as its headers must be. */
#define NAME4_BYTES sizeof(struct sockaddr_in)
#define NAME6_BYTES 32
_Static_assert(NAME6_BYTES >= sizeof(struct sockaddr_in6), "the name");
_Static_assert((sizeof(struct io_uring_recvmsg_out) + NAME4_BYTES) % alignof(struct cmsghdr) == 0 &&
                   (sizeof(struct io_uring_recvmsg_out) + NAME6_BYTES) % alignof(struct cmsghdr) ==
                       0,
               "control data is aligned");

/* --- receives ------------------------------------------------------------------------------- */

void m13_reactor_address_shape(struct m13_reactor *reactor)
{
    bool is_ipv6 = reactor->config.family == AF_INET6;
    size_t control = CMSG_SPACE(sizeof(int)); /* UDP_GRO */
    if (reactor->config.path.is_hub)
        control += is_ipv6 ? CMSG_SPACE(sizeof(struct in6_pktinfo))
                           : CMSG_SPACE(sizeof(struct in_pktinfo));
    reactor->receive_shape = (struct msghdr){.msg_namelen = is_ipv6 ? NAME6_BYTES : NAME4_BYTES,
                                             .msg_controllen = control};
}

/* The sizes of the datagrams and the address they were sent to, as udp(7), ip(7) and ipv6(7) tell
 * them. */
static void read_control(struct m13_arrival *arrival, const struct cmsghdr *control,
                         uint8_t local_address[M13_ENDPOINT_ADDRESS_BYTES])
{
    if (control->cmsg_level == IPPROTO_UDP && control->cmsg_type == UDP_GRO) {
        int frame_bytes;
        memcpy(&frame_bytes, CMSG_DATA(control), sizeof frame_bytes);
        if (frame_bytes > 0)
            arrival->frame_bytes = (uint32_t)frame_bytes;
    } else if (control->cmsg_level == IPPROTO_IP && control->cmsg_type == IP_PKTINFO) {
        struct in_pktinfo info;
        memcpy(&info, CMSG_DATA(control), sizeof info);
        m13_endpoint_map_ipv4(local_address, info.ipi_spec_dst.s_addr);
    } else if (control->cmsg_level == IPPROTO_IPV6 && control->cmsg_type == IPV6_PKTINFO) {
        struct in6_pktinfo info;
        memcpy(&info, CMSG_DATA(control), sizeof info);
        memcpy(local_address, &info.ipi6_addr, sizeof info.ipi6_addr);
    }
}

void m13_reactor_address_read(struct m13_reactor *reactor, struct m13_arrival *arrival,
                              struct io_uring_recvmsg_out *out)
{
    struct msghdr *shape = &reactor->receive_shape;
    const union m13_reactor_name *from = io_uring_recvmsg_name(out);
    uint8_t local_address[M13_ENDPOINT_ADDRESS_BYTES] = {0};
    struct cmsghdr *control = io_uring_recvmsg_cmsg_firsthdr(out, shape);
    for (; control; control = io_uring_recvmsg_cmsg_nexthdr(out, shape, control))
        read_control(arrival, control, local_address);
    if (reactor->config.family == AF_INET6)
        m13_endpoint_set_udp(&arrival->source, &reactor->path.peers.secret,
                             from->ipv6.sin6_addr.s6_addr, local_address, from->ipv6.sin6_port);
    else
        m13_endpoint_set_ipv4(&arrival->source, from->ipv4.sin_addr.s_addr,
                              m13_endpoint_mapped_ipv4(local_address), from->ipv4.sin_port);
}

/* --- sends ---------------------------------------------------------------------------------- */

static void add_control(struct msghdr *message, int level, int type, const void *value,
                        uint32_t bytes)
{
    struct cmsghdr *control = (void *)((uint8_t *)message->msg_control + message->msg_controllen);
    *control =
        (struct cmsghdr){.cmsg_level = level, .cmsg_type = type, .cmsg_len = CMSG_LEN(bytes)};
    memcpy(CMSG_DATA(control), value, bytes);
    message->msg_controllen += CMSG_SPACE(bytes);
}

/* A socket of both families takes IPv4 addresses mapped, also as the source
 * (net/ipv4/ip_sockglue.c: ip_cmsg_send). */
static void write_ipv6(struct m13_reactor_send *send, const struct m13_endpoint *to, bool is_hub)
{
    send->to.ipv6 = (struct sockaddr_in6){.sin6_family = AF_INET6, .sin6_port = to->port};
    memcpy(&send->to.ipv6.sin6_addr, to->address, sizeof to->address);
    send->message.msg_namelen = sizeof send->to.ipv6;
    if (is_hub) {
        struct in6_pktinfo from = {.ipi6_ifindex = 0};
        memcpy(&from.ipi6_addr, to->local_address, sizeof to->local_address);
        add_control(&send->message, IPPROTO_IPV6, IPV6_PKTINFO, &from, sizeof from);
    }
}

static void write_ipv4(struct m13_reactor_send *send, const struct m13_endpoint *to, bool is_hub)
{
    send->to.ipv4 = (struct sockaddr_in){.sin_family = AF_INET,
                                         .sin_port = to->port,
                                         .sin_addr.s_addr = m13_endpoint_mapped_ipv4(to->address)};
    send->message.msg_namelen = sizeof send->to.ipv4;
    if (is_hub) {
        struct in_pktinfo from = {.ipi_spec_dst.s_addr =
                                      m13_endpoint_mapped_ipv4(to->local_address)};
        add_control(&send->message, IPPROTO_IP, IP_PKTINFO, &from, sizeof from);
    }
}

/* The socket is bound to where it sends. */
static void write_l2(struct m13_reactor_send *send, const struct m13_endpoint *to)
{
    struct m13_wire_frame *frame = send->piece.iov_base;
    memcpy(frame->ethernet.destination, to->mac, sizeof to->mac);
    send->message = (struct msghdr){.msg_iov = &send->piece, .msg_iovlen = 1};
}

enum m13_reactor_file m13_reactor_address_write(const struct m13_reactor *reactor,
                                                struct m13_reactor_send *send,
                                                const struct m13_endpoint *to,
                                                uint16_t segment_bytes)
{
    bool is_hub = reactor->config.path.is_hub;
    if (m13_endpoint_kind(to) == M13_ENDPOINT_L2) {
        write_l2(send, to);
        return M13_FILE_L2;
    }
    send->message = (struct msghdr){.msg_name = &send->to,
                                    .msg_iov = &send->piece,
                                    .msg_iovlen = 1,
                                    .msg_control = send->control};
    (reactor->config.family == AF_INET6 ? write_ipv6 : write_ipv4)(send, to, is_hub);
    if (segment_bytes)
        add_control(&send->message, IPPROTO_UDP, UDP_SEGMENT, &segment_bytes, sizeof segment_bytes);
    return M13_FILE_SOCKET;
}
