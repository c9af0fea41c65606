"""Routes as the kernel's tables have them: rtnetlink(7)."""

import socket
import struct
from dataclasses import dataclass

from m13.host import rtnetlink
from m13.host.rtnetlink import Attributes, RtNetlink, attribute

# linux/rtnetlink.h
RTM_NEWROUTE, RTM_DELROUTE, RTM_GETROUTE = 24, 25, 26
RTA_DST, RTA_OIF, RTA_GATEWAY, RTA_PRIORITY, RTA_PREFSRC = 1, 4, 5, 6, 7
RTA_MULTIPATH, RTA_TABLE, RTA_VIA = 9, 15, 18
UNICAST, LOCAL, BLACKHOLE, UNREACHABLE = 1, 2, 6, 7
SCOPE_UNIVERSE, SCOPE_LINK = 0, 253
TABLE_UNSPECIFIED, TABLE_MAIN = 0, 254
RTM_F_LOOKUP_TABLE = 0x1000
NEXT_HOP_DEAD, NEXT_HOP_ONLINK, NEXT_HOP_LINK_DOWN = 1, 4, 16

# struct rtmsg: family, bits of destination and source, TOS, table, protocol, scope, type, flags
ROUTE = struct.Struct("=BBBBBBBBI")
NEXT_HOP = struct.Struct("=HBBi")  # struct rtnexthop: length, flags, weight, interface


@dataclass(frozen=True)
class Hop:
    """`has_via`: the gateway is of the other family."""

    interface: int | None
    gateway: str | None
    flags: int = 0
    has_via: bool = False


@dataclass(frozen=True)
class Route:
    """`hops` are several for a multipath route, else one."""

    destination: str  # ADDRESS/BITS
    table: int
    kind: int = UNICAST
    protocol: int = 0
    scope: int = SCOPE_UNIVERSE
    priority: int = 0
    source: str | None = None
    hops: tuple[Hop, ...] = ()

    @property
    def bits(self) -> int:
        return int(self.destination.rpartition("/")[2])


def lookup(destination: str, interface: int | None = None) -> Route:
    """Which route a packet takes; OSError when none."""
    family, packed = rtnetlink.address_family(destination), rtnetlink.pack_address(destination)
    bits = 8 * len(packed)
    message = ROUTE.pack(family, bits, 0, 0, 0, 0, 0, 0, RTM_F_LOOKUP_TABLE)
    message += attribute(RTA_DST, packed)
    if interface is not None:
        message += attribute(RTA_OIF, interface)
    with RtNetlink() as netlink:
        return _route(netlink.ask(RTM_GETROUTE, message))


def read(family: int, table: int) -> list[Route]:
    with RtNetlink() as netlink:
        bodies = netlink.dump(RTM_GETROUTE, ROUTE.pack(family, 0, 0, 0, 0, 0, 0, 0, 0))
    return [route for route in map(_route, bodies) if route.table == table]


def add(route: Route, replace: bool = False) -> None:
    """With its one hop, and no source. EEXIST when there is one to this destination at this
    priority, but to be replaced."""
    flags = rtnetlink.REPLACE if replace else rtnetlink.EXCLUSIVE
    with RtNetlink() as netlink:
        netlink.order(RTM_NEWROUTE, _message(route), rtnetlink.CREATE | flags)


def remove(route: Route) -> None:
    """ESRCH when it is not there. Priority 0 stands for any, in IPv4."""
    with RtNetlink() as netlink:
        netlink.order(RTM_DELROUTE, _message(route))


def _message(route: Route) -> bytes:
    address, _, _ = route.destination.partition("/")
    family = rtnetlink.address_family(address)
    hop = route.hops[0] if route.hops else Hop(None, None)
    message = ROUTE.pack(
        family,
        route.bits,
        0,
        0,
        TABLE_UNSPECIFIED,  # the attribute has it, in all its bits
        route.protocol,
        route.scope,
        route.kind,
        hop.flags,
    )
    message += attribute(RTA_DST, rtnetlink.pack_address(address))
    message += attribute(RTA_TABLE, route.table) + attribute(RTA_PRIORITY, route.priority)
    if hop.interface is not None:
        message += attribute(RTA_OIF, hop.interface)
    if hop.gateway is not None:
        message += attribute(RTA_GATEWAY, rtnetlink.pack_address(hop.gateway))
    return message


def _route(body: bytes) -> Route:
    family, bits, _, _, table, protocol, scope, kind, flags = ROUTE.unpack_from(body)
    found = rtnetlink.attributes(body[ROUTE.size :])
    nowhere = "::" if family == socket.AF_INET6 else "0.0.0.0"
    destination = rtnetlink.address(family, found.get(RTA_DST)) or nowhere
    whole_table = rtnetlink.number(found.get(RTA_TABLE))
    interface = rtnetlink.number(found.get(RTA_OIF))
    several = _hops(family, found.get(RTA_MULTIPATH, b""))
    return Route(
        destination=f"{destination}/{bits}",
        table=table if whole_table is None else whole_table,
        kind=kind,
        protocol=protocol,
        scope=scope,
        priority=rtnetlink.number(found.get(RTA_PRIORITY)) or 0,
        source=rtnetlink.address(family, found.get(RTA_PREFSRC)),
        hops=several or (_hop(family, interface, flags, found),),
    )


def _hops(family: int, data: bytes) -> tuple[Hop, ...]:
    hops = []
    while len(data) >= NEXT_HOP.size:
        length, flags, _, interface = NEXT_HOP.unpack_from(data)
        found = rtnetlink.attributes(data[NEXT_HOP.size : length])
        hops.append(_hop(family, interface, flags, found))
        data = data[max(length, NEXT_HOP.size) :]
    return tuple(hops)


def _hop(family: int, interface: int | None, flags: int, found: Attributes) -> Hop:
    gateway = rtnetlink.address(family, found.get(RTA_GATEWAY))
    return Hop(interface, gateway, flags, RTA_VIA in found)
