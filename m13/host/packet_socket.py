"""M13 frames on an Ethernet, past IP: a packet socket on one interface (packet(7))."""

import ctypes
import socket
import struct

from m13.host.udp_socket import enlarge_buffers
from native.steer import ETHERTYPE

SO_ATTACH_FILTER = 26  # asm-generic/socket.h
# Classic BPF, linux/bpf_common.h and linux/filter.h
LOAD_WORD, JUMP_IF_EQUAL, RETURN = 0x20, 0x15, 0x06
PACKET_TYPE = 0xFFFFF004  # SKF_AD_OFF + SKF_AD_PKTTYPE
OTHER_HOST = 3  # PACKET_OTHERHOST, linux/if_packet.h
OURS = (
    (LOAD_WORD, 0, 0, PACKET_TYPE),
    (JUMP_IF_EQUAL, 1, 0, OTHER_HOST),
    (RETURN, 0, 0, 0xFFFF),
    (RETURN, 0, 0, 0),
)


def open_bound(interface: str) -> socket.socket:
    """Takes what comes to the interface's MAC or to everybody, also while somebody has the
    interface listen to all. Raises OSError."""
    raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC)
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in OURS))
    try:
        enlarge_buffers(raw)
        attached = struct.pack("HL", len(OURS), ctypes.addressof(code))
        raw.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, attached)
        raw.bind((interface, ETHERTYPE))
    except OSError:
        raw.close()
        raise
    return raw
