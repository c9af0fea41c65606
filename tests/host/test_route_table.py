"""Routes against iproute2.

ours: ve0 192.0.2.1/24, 2001:db8::1/64 ── ve1
      vd0 198.51.100.1/24, 2001:db8:1::1/64 ── vd1, which is down, so vd0 has no carrier
"""

import errno
import os
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from m13.host import route_table
from m13.host.route_table import BLACKHOLE, LOCAL, TABLE_MAIN, UNICAST, UNREACHABLE, Hop, Route
from tests.host.namespace import Namespace

LO, VE0, VD0 = 1, 10, 20  # indices of interfaces
# linux/rtnetlink.h
KINDS = {"unicast": 1, "local": 2, "broadcast": 3, "anycast": 4, "multicast": 5}
KINDS |= {"blackhole": 6, "unreachable": 7, "prohibit": 8, "throw": 9}
PROTOCOLS = {"kernel": 2, "boot": 3, "static": 4, "213": 213}
SCOPES = {"global": 0, "link": 253, "host": 254}
TABLES = {"main": 254, "local": 255}
FLAGS = {"dead": 1, "onlink": 4, "linkdown": 16}
OURS = 213  # a protocol

LAID = """
link add ve0 index 10 type veth peer ve1
link add vd0 index 20 type veth peer vd1
link set ve0 addrgenmode none up
link set ve1 addrgenmode none up
link set vd0 addrgenmode none up
addr add 192.0.2.1/24 dev ve0
addr add 198.51.100.1/24 dev vd0
addr add 2001:db8::1/64 dev ve0 nodad
addr add 2001:db8:1::1/64 dev vd0 nodad
route add 10.1.0.0/16 via 192.0.2.2
route add 10.2.0.0/16 via inet6 fe80::2 dev ve0
route add 10.3.0.0/16 nexthop via 192.0.2.2 weight 3 nexthop via 198.51.100.2 weight 7
route add 10.4.0.0/16 via 192.0.2.3 table 1000 metric 77
route add unreachable 10.5.0.0/16 metric 4294967295
route add blackhole 10.6.0.0/16 proto static
route add prohibit 10.7.0.0/16
route add 10.8.0.0/16 nexthop via inet6 fe80::2 dev ve0 nexthop via 203.0.113.1 dev ve0 onlink
route add 10.9.0.0/16 dev ve0 src 192.0.2.1
route add default via 192.0.2.2 table 7
route add 2001:db8:a::/48 via 2001:db8::2
route add 2001:db8:b::/48 nexthop via 2001:db8::2 weight 3 nexthop via 2001:db8:1::2
route add unreachable 2001:db8:c::/48
route add blackhole 2001:db8:d::/48 metric 5
route add 2001:db8:e::/48 via fe80::2 dev ve0 table 70000 metric 3
route add default via 2001:db8::2 table 7 src 2001:db8::1
"""


@pytest.fixture
def namespace(tmp_path: Path) -> Iterator[Namespace]:
    """This thread is in it."""
    batch = tmp_path / "laid"
    batch.write_text(LAID)
    with Namespace(tmp_path) as made:
        made.command("ip", "-batch", str(batch))
        made.ip("-4", "rule", "add", "to", "10.4.0.0/16", "lookup", "1000")
        made.ip("-6", "rule", "add", "to", "2001:db8:e::/48", "lookup", "70000")
        with made.inside():
            yield made


def told(namespace: Namespace, family: int) -> list[Route]:
    """By iproute2, which leaves out the length of what is a single address."""
    option, bits = ("-6", 128) if family == socket.AF_INET6 else ("-4", 32)
    found = []
    for entry in namespace.ip(option, "route", "show", "table", "all"):
        destination = entry["dst"].replace("default", "::/0" if bits == 128 else "0.0.0.0/0")
        found.append(
            Route(
                destination + ("" if "/" in destination else f"/{bits}"),
                TABLES.get(entry["table"]) or int(entry["table"]),
                KINDS[entry["type"]],
                PROTOCOLS[entry["protocol"]],
                SCOPES[entry["scope"]],
                entry.get("metric", 0),
                entry.get("prefsrc"),
                tuple(map(_told_hop, entry.get("nexthops", [entry]))),
            )
        )
    return found


def _told_hop(entry: dict[str, Any]) -> Hop:
    index = socket.if_nametoindex(entry["dev"]) if "dev" in entry else None
    flags = sum(FLAGS[name] for name in entry["flags"])
    return Hop(index, entry.get("gateway"), flags, "via" in entry)


def family_of(route: Route) -> int:
    return socket.AF_INET6 if ":" in route.destination else socket.AF_INET


def assert_refused(number: int, call: Any, *arguments: object) -> None:
    with pytest.raises(OSError, match=os.strerror(number)) as refused:
        call(*arguments)
    assert refused.value.errno == number


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
@pytest.mark.parametrize(("state", "flags"), [("up", 0x10), ("down", 0x11)])
def test_tables_are_read_as_iproute2_tells_them(
    namespace: Namespace, family: int, state: str, flags: int
) -> None:
    namespace.ip("link", "set", "vd0", state)
    listed = told(namespace, family)
    for table in (7, 254, 255, 1000 if family == socket.AF_INET else 70000):
        expected = [route for route in listed if route.table == table]
        assert expected
        assert route_table.read(family, table) == expected
    assert route_table.read(family, 4711) == []
    # what the tables are laid for is in them
    assert {UNICAST, LOCAL, BLACKHOLE, UNREACHABLE} <= {route.kind for route in listed}
    hops = [hop for route in listed for hop in route.hops]
    assert {hop.flags for hop in hops if hop.interface == VD0} - {0} == {flags}
    assert sum(hop.has_via for hop in hops) == (2 if family == socket.AF_INET else 0)


# Kind, gateway, interface, source and table; table 0 is the kernel's guess.
@pytest.mark.parametrize(
    ("destination", "interface", "way"),
    [
        ("192.0.2.7", None, (UNICAST, None, "ve0", "192.0.2.1", 254)),
        ("10.1.0.1", None, (UNICAST, "192.0.2.2", "ve0", "192.0.2.1", 254)),
        ("10.1.0.1", VE0, (UNICAST, "192.0.2.2", "ve0", "192.0.2.1", 254)),
        ("10.1.0.1", VD0, (UNICAST, None, "vd0", "198.51.100.1", 0)),
        ("10.2.0.1", None, (UNICAST, None, "ve0", "192.0.2.1", 254)),
        ("10.3.0.1", VD0, (UNICAST, "198.51.100.2", "vd0", "198.51.100.1", 254)),
        ("10.4.0.1", None, (UNICAST, "192.0.2.3", "ve0", "192.0.2.1", 1000)),
        ("192.0.2.1", None, (LOCAL, None, "lo", "192.0.2.1", 255)),
        ("2001:db8::7", None, (UNICAST, None, "ve0", "2001:db8::1", 254)),
        ("2001:db8:a::1", None, (UNICAST, "2001:db8::2", "ve0", "2001:db8::1", 254)),
        ("2001:db8:b::1", VD0, (UNICAST, "2001:db8:1::2", "vd0", "2001:db8:1::1", 254)),
        ("2001:db8:e::1", None, (UNICAST, "fe80::2", "ve0", "2001:db8::1", 70000)),
        ("2001:db8::1", None, (LOCAL, None, "lo", "2001:db8::1", 255)),
    ],
)
def test_a_packet_goes_where_iproute2_says(
    namespace: Namespace, destination: str, interface: int | None, way: tuple[object, ...]
) -> None:
    found = route_table.lookup(destination, interface)
    (hop,) = found.hops
    assert found.destination == destination + ("/128" if ":" in destination else "/32")
    name = socket.if_indextoname(hop.interface or 0)
    assert (found.kind, hop.gateway, name, found.source, found.table) == way
    through = ("oif", socket.if_indextoname(interface)) if interface else ()
    (entry,) = namespace.ip("route", "get", destination, *through)
    table = TABLES.get(entry.get("table")) or int(entry.get("table", 0))
    assert hop.has_via == ("via" in entry) == (destination == "10.2.0.1")
    assert way[:2] == (KINDS[entry["type"]], entry.get("gateway"))
    assert way[2:] == (entry["dev"], entry["prefsrc"], table)


@pytest.mark.usefixtures("namespace")
@pytest.mark.parametrize(
    ("destination", "interface", "number"),
    [
        ("203.0.113.1", None, errno.ENETUNREACH),
        ("10.5.0.1", None, errno.EHOSTUNREACH),
        ("10.6.0.1", None, errno.EINVAL),
        ("10.7.0.1", None, errno.EACCES),
        ("2001:db8:f::1", None, errno.ENETUNREACH),
        ("2001:db8:a::1", VD0, errno.ENETUNREACH),
        ("2001:db8:c::1", None, errno.EHOSTUNREACH),
        ("192.0.2.7", 4711, errno.ENODEV),
    ],
)
def test_no_way_has_the_kernels_reason(
    destination: str, interface: int | None, number: int
) -> None:
    assert_refused(number, route_table.lookup, destination, interface)


LINK = {"protocol": OURS, "scope": route_table.SCOPE_LINK, "hops": (Hop(VE0, None),)}
ONLINK = (Hop(VE0, "203.0.113.9", route_table.NEXT_HOP_ONLINK),)
ROUTES = [
    Route("10.20.0.0/16", 254, protocol=OURS, hops=(Hop(VE0, "192.0.2.2"),)),
    Route("0.0.0.0/0", 254, protocol=OURS, priority=0xFFFFFFFF, hops=ONLINK),
    Route("10.20.30.40/32", 1000, **LINK),  # type: ignore[arg-type]
    Route("10.20.0.0/17", 254, UNREACHABLE, OURS),
    Route("10.20.0.0/18", 70000, BLACKHOLE, OURS, priority=9),
    Route("2001:db8:20::/48", 254, protocol=OURS, priority=9, hops=(Hop(VE0, "2001:db8::2"),)),
    Route("::/0", 70000, protocol=OURS, priority=0xFFFFFFFF, hops=(Hop(VE0, None),)),
    Route("2001:db8:20::/47", 254, UNREACHABLE, OURS, priority=1024),
    Route("2001:db8:20::/46", 254, BLACKHOLE, OURS, priority=3),
]


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.destination)
def test_a_route_is_added_once_and_removed_once(namespace: Namespace, route: Route) -> None:
    family = family_of(route)
    before = told(namespace, family)
    # IPv6 has what goes nowhere on the loopback device
    nowhere = Hop(LO if family == socket.AF_INET6 else None, None)
    wanted = replace(route, hops=route.hops or (nowhere,))
    for given in (route, wanted):
        assert_refused(errno.ESRCH, route_table.remove, given)
        route_table.add(route)
        assert [entry for entry in told(namespace, family) if entry not in before] == [wanted]
        assert wanted in route_table.read(family, route.table)
        assert_refused(errno.EEXIST, route_table.add, route)
        assert_refused(errno.ESRCH, route_table.remove, replace(route, protocol=OURS + 1))
        route_table.remove(given)
        assert told(namespace, family) == before


@pytest.mark.parametrize(
    ("destination", "gateways"),
    [("10.20.0.0/16", ["192.0.2.2", "192.0.2.3"]), ("2001:db8:20::/48", ["fe80::2", "fe80::3"])],
)
def test_a_route_replaces_the_one_of_its_priority(
    namespace: Namespace, destination: str, gateways: list[str]
) -> None:
    one, two = (
        Route(destination, 1000, protocol=OURS, priority=5, hops=(Hop(VE0, gateway),))
        for gateway in gateways
    )
    other = replace(one, priority=6)
    route_table.add(other)
    for route in (one, two):
        route_table.add(route, replace=True)
        found = [entry for entry in told(namespace, family_of(one)) if entry.protocol == OURS]
        assert sorted(found, key=lambda entry: entry.priority) == [route, other]
    assert_refused(errno.EEXIST, route_table.add, one)
    assert_refused(errno.ESRCH, route_table.remove, one)


@pytest.mark.usefixtures("namespace")
@pytest.mark.parametrize(
    ("hop", "number"),
    [(Hop(4711, None), errno.ENODEV), (Hop(VE0, "203.0.113.1"), errno.ENETUNREACH)],
)
def test_a_route_to_where_nothing_is_has_the_kernels_reason(hop: Hop, number: int) -> None:
    assert_refused(number, route_table.add, Route("10.20.0.0/16", TABLE_MAIN, hops=(hop,)))
