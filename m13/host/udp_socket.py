"""What the UDP sockets of hub and node have in common."""

import socket

BUFFER_BYTES = 8 << 20
SO_SNDBUFFORCE, SO_RCVBUFFORCE = 32, 33  # beyond net.core.[rw]mem_max (socket(7))
IP_MTU_DISCOVER = 10  # linux/in.h
IP_PMTUDISC_PROBE = 3  # DF always set; forged ICMP cannot shrink our packets (ip(7))
UDP_GRO = 104  # linux/udp.h, Linux 5.0: many datagrams in one receive


def prepare(udp: socket.socket) -> None:
    """Buffers for bursts, no fragments, and datagrams that come joined. Raises OSError."""
    for option in (SO_RCVBUFFORCE, SO_SNDBUFFORCE):
        udp.setsockopt(socket.SOL_SOCKET, option, BUFFER_BYTES)
    udp.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_PROBE)
    udp.setsockopt(socket.IPPROTO_UDP, UDP_GRO, 1)
