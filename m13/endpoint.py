"""Endpoints for people and for the kernel: an IPv4 or IPv6 address with a port, or a MAC.

In the data path an address is 16 bytes, IPv4 as ::ffff:a.b.c.d (RFC 4291 §2.5.5.2).
"""

import ipaddress

from native.endpoint import L2

MAPPED = bytes(10) + b"\xff\xff"


def pack(address: str) -> bytes:
    """Raises ValueError for what is no address."""
    packed = ipaddress.ip_address(address).packed
    return packed if len(packed) == 16 else MAPPED + packed


def host(kind: int, address: bytes) -> str:
    """The address without the port; `kind` as in native.endpoint."""
    if kind == L2:
        return ":".join(f"{byte:02x}" for byte in address[:6])
    found = ipaddress.IPv6Address(address)
    return str(found.ipv4_mapped or found)


def place(kind: int, address: bytes, port: int) -> str:
    return host(kind, address) if kind == L2 else with_port(host(kind, address), port)


def with_port(host: str, port: int) -> str:
    """As `--hub` takes it: [2001:db8::1]:443, 192.0.2.1:443, hub.example:443."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
