"""The way to the hub below the tunnel: a UDP socket that lets only the hub in, or an Ethernet."""

import ctypes
import ipaddress
import os
import socket
import struct
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Protocol

from m13 import endpoint
from m13.config import EVERYBODY
from m13.errors import HostError, UsageError
from m13.host import nic, packet_socket, routes, udp_socket
from native.endpoint import IPV4, IPV6, L2, overhead_bytes

SO_ATTACH_FILTER = 26
# Classic BPF, linux/bpf_common.h and linux/filter.h
LOAD_WORD, LOAD_HALF_WORD, JUMP_IF_EQUAL, RETURN = 0x20, 0x28, 0x15, 0x06
NETWORK_HEADER = 0xFFF00000  # SKF_NET_OFF


class Settings(Protocol):
    """What is needed of the node's."""

    @property
    def hub_host(self) -> str: ...
    @property
    def hub_port(self) -> int: ...
    @property
    def hub_l2(self) -> tuple[str, bytes] | None: ...


@dataclass(frozen=True)
class Underlay:
    """`interface` is an index, 0 where routes tell; `reactor` what native.reactor takes."""

    overhead_bytes: int
    interface: int
    reactor: dict[str, Any]


def place(settings: Settings, host: str) -> str:
    """Where the hub is, as the options have it, with that host in the place of a name."""
    if settings.hub_l2 is None:
        return endpoint.with_port(host, settings.hub_port)
    interface, mac = settings.hub_l2
    return interface if mac == EVERYBODY else f"{interface}/{mac.hex(':')}"


def open_underlay(stack: ExitStack, settings: Settings, address: str) -> Underlay:
    if settings.hub_l2 is None:
        return _open_udp(stack, address, settings.hub_port)
    name, hub_mac = settings.hub_l2
    raw, facts = open_l2(name)
    stack.enter_context(raw)
    reactor = {"socket_fd": -1, "mac": facts.mac, "l2_fd": raw.fileno(), "hub": (hub_mac, 0)}
    return Underlay(overhead_bytes(L2), facts.index, reactor)


def _open_udp(stack: ExitStack, address: str, port: int) -> Underlay:
    udp = stack.enter_context(open_socket(address, port))
    reactor = {
        "socket_fd": udp.fileno(),
        "mac": random_mac(),
        "family": udp.family,
        "hub": (endpoint.pack(address), port),
    }
    return Underlay(overhead_bytes(IPV6 if ":" in address else IPV4), 0, reactor)


def hub_address(settings: Settings) -> str:
    """Of what the name resolves to, in the resolver's order (RFC 6724), the first that this machine
    knows a way to; without any, the first."""
    try:
        found = socket.getaddrinfo(
            settings.hub_host, settings.hub_port, type=socket.SOCK_DGRAM, proto=socket.IPPROTO_UDP
        )
    except (OSError, UnicodeError) as error:
        raise UsageError(f"'{settings.hub_host}' has no IP address: {error}") from error
    addresses = [str(entry[4][0]) for entry in found]
    return next(filter(_is_routable, addresses), addresses[0])


def _is_routable(address: str) -> bool:
    try:
        routes.lookup(address)
    except HostError:
        return False
    return True


def filter_program(address: str, port: int) -> list[tuple[int, int, int, int]]:
    """Lines of classic BPF: code, jumps if true and if false, operand. True to source and port."""
    packed = ipaddress.ip_address(address).packed
    source_at = NETWORK_HEADER + (8 if len(packed) == 16 else 12)  # in the IPv6 or IPv4 header
    wanted = [
        (LOAD_WORD, source_at + at, int.from_bytes(packed[at : at + 4], "big"))
        for at in range(0, len(packed), 4)
    ]
    wanted.append((LOAD_HALF_WORD, 0, port))  # the UDP header is where the packet begins
    lines = []
    for left, (load, offset, value) in zip(range(len(wanted), 0, -1), wanted, strict=True):
        lines += [(load, 0, 0, offset), (JUMP_IF_EQUAL, 0, 2 * left - 1, value)]
    return [*lines, (RETURN, 0, 0, 0xFFFF), (RETURN, 0, 0, 0)]


def open_socket(address: str, port: int) -> socket.socket:
    """Not connected: so the kernel chooses our source address for each send, as the way to the hub
    changes, and forged ICMP can neither end a receive nor fail a send. A filter lets in only
    datagrams from the hub (struct sock_fprog, linux/filter.h)."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    udp = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
    program = filter_program(address, port)
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in program))
    try:
        udp_socket.prepare(udp)
        attached = struct.pack("HL", len(program), ctypes.addressof(code))
        udp.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, attached)
        udp.bind(("", 0))
    except OSError as error:
        udp.close()
        raise HostError(f"no UDP socket: {error.strerror}") from error
    return udp


def open_l2(interface: str) -> tuple[socket.socket, nic.Nic]:
    """And the interface, by whose MAC the hub reaches us."""
    facts = nic.inspect(interface)
    if not facts.is_up:
        raise UsageError(f"{interface} is down; bring it up: ip link set {interface} up")
    if len(facts.mac) != 6:
        raise UsageError(f"{interface} is no Ethernet")
    try:
        return packet_socket.open_bound(interface), facts
    except OSError as error:
        raise HostError(f"no packet socket on {interface}: {error.strerror}") from error


def random_mac() -> bytes:
    """Locally administered, unicast (IEEE 802): names this process to the hub, nobody else."""
    mac = bytearray(os.urandom(6))
    mac[0] = mac[0] & 0xFC | 0x02
    return bytes(mac)
