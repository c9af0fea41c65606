"""What the UDP sockets of hub and node have in common."""

import errno
import socket

BUFFER_BYTES = 8 << 20
SO_SNDBUFFORCE, SO_RCVBUFFORCE = 32, 33  # beyond net.core.[rw]mem_max (socket(7))
IP_MTU_DISCOVER = 10  # linux/in.h
IP_PMTUDISC_PROBE = 3  # DF always set; forged ICMP cannot shrink our packets (ip(7))
IP_PKTINFO = 8  # linux/in.h
IPV6_MTU_DISCOVER = 23  # linux/in6.h; the same values
UDP_GRO = 104  # linux/udp.h, Linux 5.0: many datagrams in one receive


def enlarge_buffers(sock: socket.socket) -> None:
    for option in (SO_RCVBUFFORCE, SO_SNDBUFFORCE):
        sock.setsockopt(socket.SOL_SOCKET, option, BUFFER_BYTES)


def prepare(udp: socket.socket) -> None:
    """Buffers for bursts, no fragments, and datagrams that come joined. Raises OSError."""
    enlarge_buffers(udp)
    udp.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_PROBE)
    if udp.family == socket.AF_INET6:
        udp.setsockopt(socket.IPPROTO_IPV6, IPV6_MTU_DISCOVER, IP_PMTUDISC_PROBE)
    udp.setsockopt(socket.IPPROTO_UDP, UDP_GRO, 1)


def open_serving() -> socket.socket:
    """For both families at once, IPv4 addresses mapped; for IPv4 where the machine has no IPv6.
    Raises OSError."""
    try:
        udp = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
    except OSError as error:
        if error.errno != errno.EAFNOSUPPORT:
            raise
        return socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
    udp.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    return udp


def tell_local_address(udp: socket.socket) -> None:
    """With every datagram comes which of our addresses it was sent to. Raises OSError."""
    if udp.family == socket.AF_INET6:
        udp.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
    else:
        udp.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
