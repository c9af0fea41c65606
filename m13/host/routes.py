"""Routes: where the kernel would send a packet, and routes of our own in the main table.

Ours carry a protocol number nobody else uses, so undoing one can never remove another's.
"""

import errno
import ipaddress
from dataclasses import dataclass

from m13.errors import HostError
from m13.host import route_table, rtnetlink
from m13.host.journal import Facts, Journal, undoes
from m13.host.route_table import TABLE_MAIN, Hop, Route

PROTOCOL = 213
METRIC_LAST = 0xFFFFFFFF
METRIC_DEFAULT6 = 1024  # IP6_RT_PRIO_USER, net/ipv6.h
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
    try:
        route = route_table.lookup(destination, interface)
    except OSError as error:
        reason = error.strerror
        raise HostError(f"no route to {destination} ({reason}): is the network up?") from error
    # Asked for one interface, the kernel guesses "on the link" when it has no route there.
    if route.table == route_table.TABLE_UNSPECIFIED:
        raise HostError(f"no route to {destination} by this interface: is the network up?")
    return _next_hop(destination, route, route.hops[0])


def best(destination: str, table: int, without_interface: int) -> NextHop | None:
    """The way the table would offer without our own routes: longest prefix, then metric; a link
    without carrier only when there is nothing else."""
    target = ipaddress.ip_address(destination)
    candidates = []
    for route in route_table.read(rtnetlink.address_family(destination), table):
        foreign = route.kind == route_table.UNICAST and route.protocol != PROTOCOL
        if not foreign or target not in ipaddress.ip_network(route.destination):
            continue
        for hop in route.hops:
            down = bool(hop.flags & route_table.NEXT_HOP_LINK_DOWN)
            dead = bool(hop.flags & route_table.NEXT_HOP_DEAD) and not down
            # without an interface: one of the nexthop objects, which only their owner resolves
            if dead or hop.has_via or hop.interface is None:
                continue
            found = _next_hop(destination, route, hop)
            if found.interface != without_interface:
                candidates.append(((down, -route.bits, route.priority), found))
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
    facts = _facts(network, interface, gateway, metric)
    token = journal.record("routes", route=facts)
    try:
        route_table.add(_route(facts), replace)
    except OSError as error:
        journal.discard(token)
        if error.errno != errno.EEXIST:
            raise HostError(f"cannot add a route to {network}: {error.strerror}") from error
    else:
        return token
    if _is_identical(_route(facts)):
        return None
    raise HostError(
        f"there is a route to {network} already ({show(network)}): "
        "remove it, or leave this network out of the tunnel"
    )


def existing(network: str, metric: int = 0) -> list[Route]:
    """Routes of the main table to exactly this network at this metric, ours and others'."""
    wanted = (network, _priority(network, metric))
    routes = route_table.read(rtnetlink.address_family(network), TABLE_MAIN)
    return [route for route in routes if (route.destination, route.priority) == wanted]


@undoes("routes")
def _undo_add(facts: Facts) -> None:
    try:
        route_table.remove(_route(facts["route"]))
    except OSError as error:
        if error.errno not in GONE:
            raise


def show(network: str) -> str:
    """The command by which a person sees the routes to exactly this network."""
    return f"ip {'-6 ' if ':' in network else ''}route show exact {network}"


def _facts(network: str, interface: int | None, gateway: str | None, metric: int) -> Facts:
    """What the journal keeps of a route."""
    facts: Facts = {"dst": network, "proto": PROTOCOL, "table": TABLE_MAIN}
    facts["priority"] = _priority(network, metric)
    if interface is None:
        return {**facts, "type": route_table.UNREACHABLE}
    facts["oif"] = interface
    if gateway is None:
        return {**facts, "scope": route_table.SCOPE_LINK}
    # The gateway need not be in a subnet of ours: cloud machines often have a /32 address.
    return {**facts, "gateway": gateway, "flags": route_table.NEXT_HOP_ONLINK}


def _route(facts: Facts) -> Route:
    return Route(
        destination=facts["dst"],
        table=facts["table"],
        kind=facts.get("type", route_table.UNICAST),
        protocol=facts["proto"],
        scope=facts.get("scope", route_table.SCOPE_UNIVERSE),
        priority=facts["priority"],
        hops=(Hop(facts.get("oif"), facts.get("gateway"), facts.get("flags", 0)),),
    )


def _priority(network: str, metric: int) -> int:
    """IPv6 knows no metric 0: the kernel takes its default for it."""
    return metric or (METRIC_DEFAULT6 if ":" in network else 0)


def _is_identical(route: Route) -> bool:
    """An unreachable one of IPv6 is on the loopback device, as the kernel has it."""
    (wanted,) = route.hops
    return any(
        found.kind == route.kind
        and hop.gateway == wanted.gateway
        and wanted.interface in (None, hop.interface)
        for found in existing(route.destination, route.priority)
        for hop in found.hops[:1]
    )


def _next_hop(destination: str, route: Route, hop: Hop) -> NextHop:
    if hop.has_via:
        raise HostError(f"the route to {destination} has an IPv6 gateway, which M13 cannot follow")
    assert hop.interface is not None
    return NextHop(
        interface=hop.interface,
        gateway=hop.gateway,
        source=route.source,
        table=route.table or TABLE_MAIN,
        is_local=route.kind == route_table.LOCAL,
    )
