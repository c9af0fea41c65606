"""Routes: where the kernel would send a packet, and routes of our own in the main table.

Ours carry a protocol number nobody else uses, so undoing one can never remove another's.
"""

import errno
import ipaddress
import os
import socket
from dataclasses import dataclass
from typing import Any

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from m13.errors import HostError
from m13.host.journal import Facts, Journal, undoes

PROTOCOL = 213
TABLE_MAIN = 254
UNICAST, LOCAL, UNREACHABLE = 1, 2, 7
METRIC_LAST = 0xFFFFFFFF
METRIC_DEFAULT6 = 1024  # IP6_RT_PRIO_USER, net/ipv6.h
RTM_F_LOOKUP_TABLE = 0x1000
NEXT_HOP_DEAD, NEXT_HOP_ONLINK, NEXT_HOP_LINK_DOWN = 1, 4, 16
GONE = (errno.ESRCH, errno.ENODEV, errno.ENOENT, errno.EADDRNOTAVAIL)


@dataclass(frozen=True)
class NextHop:
    """`gateway` is None where the destination is on the link itself."""

    interface: int
    gateway: str | None
    source: str | None
    table: int = TABLE_MAIN
    is_local: bool = False

    def is_same_way(self, other: "NextHop") -> bool:
        return (self.interface, self.gateway) == (other.interface, other.gateway)


def lookup(destination: str, interface: int | None = None) -> NextHop:
    """Where the kernel sends a packet now, by all its rules; HostError when nowhere."""
    query: dict[str, Any] = {"dst": destination, "flags": RTM_F_LOOKUP_TABLE}
    if interface is not None:
        query["oif"] = interface
    with IPRoute() as netlink:
        try:
            route = netlink.route("get", **query)[0]
        except NetlinkError as error:
            reason = os.strerror(error.code)
            raise HostError(f"no route to {destination} ({reason}): is the network up?") from error
    # Asked for one interface, the kernel guesses "on the link" when it has no route there.
    if route.get_attr("RTA_TABLE") == 0:
        raise HostError(f"no route to {destination} by this interface: is the network up?")
    return _next_hop(destination, route, route)


def best(destination: str, table: int, without_interface: int) -> NextHop | None:
    """The way the table would offer without our own routes: longest prefix, then metric; a link
    without carrier only when there is nothing else."""
    target = ipaddress.ip_address(destination)
    candidates = []
    with IPRoute() as netlink:
        routes = list(netlink.get_routes(family=_family(destination), table=table))
    for route in routes:
        foreign = route["type"] == UNICAST and route["proto"] != PROTOCOL
        if not foreign or target not in ipaddress.ip_network(_prefix(route)):
            continue
        for hop in route.get_attr("RTA_MULTIPATH") or [route]:
            down = bool(hop["flags"] & NEXT_HOP_LINK_DOWN)
            dead = bool(hop["flags"] & NEXT_HOP_DEAD) and not down
            if dead or hop.get_attr("RTA_VIA") is not None:
                continue
            found = _next_hop(destination, route, hop)
            if found.interface != without_interface:
                metric = route.get_attr("RTA_PRIORITY") or 0
                candidates.append(((down, -route["dst_len"], metric), found))
    return min(candidates, key=lambda entry: entry[0])[1] if candidates else None


def add(
    journal: Journal,
    network: str,
    *,
    interface: int | None = None,
    gateway: str | None = None,
    metric: int = 0,
    replace: bool = False,
) -> int | None:
    """A route until the journal is closed; without an interface an unreachable one. None when
    an identical route of somebody else's is there: that one stays, now and at exit."""
    route = _route(network, interface, gateway, metric)
    token = journal.record("routes", route=route)
    with IPRoute() as netlink:
        try:
            netlink.route("replace" if replace else "add", **route)
        except NetlinkError as error:
            journal.discard(token)
            if error.code != errno.EEXIST:
                reason = os.strerror(error.code)
                raise HostError(f"cannot add a route to {network}: {reason}") from error
        else:
            return token
    if _is_identical(route):
        return None
    raise HostError(
        f"there is a route to {network} already ({show(network)}): "
        "remove it, or leave this network out of the tunnel"
    )


def existing(network: str, metric: int = 0) -> list[Any]:
    """Routes of the main table to exactly this network at this metric, ours and others'."""
    found = []
    with IPRoute() as netlink:
        for route in netlink.get_routes(family=_family(network), table=TABLE_MAIN):
            priority = route.get_attr("RTA_PRIORITY") or 0
            if _prefix(route) == network and priority == _priority(network, metric):
                found.append(route)
    return found


def delete(route: Facts) -> None:
    with IPRoute() as netlink:
        try:
            netlink.route("del", **route)
        except NetlinkError as error:
            if error.code not in GONE:
                raise OSError(error.code, os.strerror(error.code)) from error


@undoes("routes")
def _undo_add(facts: Facts) -> None:
    delete(facts["route"])


def show(network: str) -> str:
    """The command by which a person sees the routes to exactly this network."""
    return f"ip {'-6 ' if ':' in network else ''}route show exact {network}"


def _route(network: str, interface: int | None, gateway: str | None, metric: int) -> Facts:
    route: Facts = {"dst": network, "proto": PROTOCOL, "table": TABLE_MAIN}
    route["priority"] = _priority(network, metric)
    if interface is None:
        return {**route, "type": UNREACHABLE}
    route["oif"] = interface
    if gateway is None:
        return {**route, "scope": 253}  # link
    # The gateway need not be in a subnet of ours: cloud machines often have a /32 address.
    return {**route, "gateway": gateway, "flags": NEXT_HOP_ONLINK}


def _family(place: str) -> int:
    return socket.AF_INET6 if ":" in place else socket.AF_INET


def _priority(network: str, metric: int) -> int:
    """IPv6 knows no metric 0: the kernel takes its default for it."""
    return metric or (METRIC_DEFAULT6 if ":" in network else 0)


def _prefix(route: Any) -> str:
    nowhere = "::" if route["family"] == socket.AF_INET6 else "0.0.0.0"
    return f"{route.get_attr('RTA_DST') or nowhere}/{route['dst_len']}"


def _is_identical(route: Facts) -> bool:
    return any(
        (found.get_attr("RTA_OIF") == route.get("oif") or "oif" not in route)
        and found.get_attr("RTA_GATEWAY") == route.get("gateway")
        and found["type"] == route.get("type", UNICAST)
        for found in existing(route["dst"], route["priority"])
    )


def _next_hop(destination: str, route: Any, hop: Any) -> NextHop:
    if hop.get_attr("RTA_VIA") is not None:
        raise HostError(f"the route to {destination} has an IPv6 gateway, which M13 cannot follow")
    interface = hop.get_attr("RTA_OIF")
    return NextHop(
        interface=interface if interface is not None else hop["oif"],
        gateway=hop.get_attr("RTA_GATEWAY"),
        source=route.get_attr("RTA_PREFSRC"),
        table=route.get_attr("RTA_TABLE") or TABLE_MAIN,
        is_local=route["type"] == LOCAL,
    )
