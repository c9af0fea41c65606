"""The node's routes, link watch and IPv6 guard.

node: ve0 192.0.2.1/24 --- 192.0.2.2 and .3 gateways; wl0 198.51.100.1/24 --- 198.51.100.2
hub 203.0.113.5, behind the default gateway
"""

import json
import select
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.host.namespace import Namespace

HUB = "203.0.113.5"
SOMEWHERE = "8.8.8.8"

START = """
from m13.host.tun import Tun
from node import leak_guard
from node.routes import NodeRoutes
device = Tun("m13t0", 1380)
device.add_address("10.13.0.2", 24)
routes = NodeRoutes(journal, HUB, device.ifindex, PREFIXES)
way = routes.pin()
device.up()
routes.capture()
if routes.is_full_tunnel:
    leak_guard.enable(journal, "m13t0", HUB, 443)
"""

# Prints each new way to the hub, until standard input ends.
FOLLOW = """
import select, socket
from node.link import LinkWatch
def changed(way):
    print(socket.if_indextoname(way.interface), way.gateway, way.source, flush=True)
watch = LinkWatch(routes, changed)
print("ready", flush=True)
while sys.stdin not in (ready := select.select([watch, sys.stdin], [], [])[0]):
    watch.handle()
watch.close()
"""


def _start(hub: str = HUB, prefixes: list[str] | None = None) -> str:
    return START.replace("HUB", repr(hub)).replace("PREFIXES", repr(prefixes))


BEYOND6 = "2001:db8:99::5"  # behind the default gateway of IPv6
PREFIX6 = "2001:db8:99::/48"


@contextmanager
def _node(tmp_path: Path) -> Iterator[Namespace]:
    with Namespace(tmp_path, "routes") as node, Namespace(tmp_path, "routes") as world:
        for namespace in (node, world):
            # Duplicate address detection would change address flags for a second or two.
            namespace.command("sysctl", "-qw", "net.ipv6.conf.default.accept_dad=0")
        node.veth("ve0", "ve1", "192.0.2.1/24", peer_namespace=world.name)
        node.veth("wl0", "wl1", "198.51.100.1/24", peer_namespace=world.name)
        for name, address in (("ve1", "192.0.2.2/24"), ("wl1", "198.51.100.2/24")):
            world.ip("addr", "add", address, "dev", name)
            world.ip("link", "set", name, "up")
        world.ip("addr", "add", "2001:db8::2/64", "dev", "ve1", "nodad")
        node.ip("addr", "add", "2001:db8::1/64", "dev", "ve0", "nodad")
        node.ip("route", "add", "default", "via", "192.0.2.2")
        node.ip("-6", "route", "add", "default", "via", "2001:db8::2")
        yield node


def _way(node: Namespace, address: str) -> tuple[str, str | None]:
    route: dict[str, Any] = node.ip("route", "get", address)[0]
    return route["dev"], route.get("gateway")


def _next(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    assert select.select([process.stdout], [], [], 5)[0], "nothing was reported"
    return process.stdout.readline().strip()


def _silent(process: subprocess.Popen[str]) -> bool:
    assert process.stdout is not None
    return not select.select([process.stdout], [], [], 0.3)[0]


@pytest.mark.parametrize("ending", ["leave", "kill"])
@pytest.mark.parametrize(
    ("hub", "prefixes", "pinned", "inside"),
    [
        (HUB, None, True, True),
        ("192.0.2.2", None, True, True),  # on the link
        (HUB, ["8.8.0.0/16"], False, True),
        (HUB, ["8.8.0.0/16", "203.0.113.0/24"], True, True),
        (HUB, ["9.9.9.0/24"], False, False),
    ],
)
def test_traffic_goes_in_the_hub_stays_out_and_all_is_put_back(
    tmp_path: Path, ending: str, hub: str, prefixes: list[str] | None, pinned: bool, inside: bool
) -> None:
    with _node(tmp_path) as node:
        before, way = node.picture(), _way(node, hub)
        default = node.ip("route", "show", "default")
        process = node.owner(_start(hub, prefixes))
        assert _way(node, hub) == way
        assert (_way(node, SOMEWHERE)[0] == "m13t0") == inside
        assert bool(node.ip("route", "show", "exact", hub)) == pinned
        assert node.ip("route", "show", "default") == default
        getattr(node, ending)(process)
        if ending == "kill":
            assert bool(node.ip("route", "show", "exact", hub)) == pinned
            node.leave(node.owner(_start(hub, prefixes)))
        assert node.picture() == before


DIE = """
import os, signal
record, left = Journal.record, [{count}]
def record_and_die(self, *arguments, **facts):
    token = record(self, *arguments, **facts)
    left[0] -= 1
    if left[0] == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return token
Journal.record = record_and_die
"""


@pytest.mark.parametrize("count", range(1, 6))
def test_a_kill_between_writing_down_and_changing_is_put_back(tmp_path: Path, count: int) -> None:
    with _node(tmp_path) as node:
        before = node.picture()
        with pytest.raises(AssertionError):
            node.owner(DIE.format(count=count) + _start())
        assert f"restored {count} changes" in node.leave(node.owner(_start()))
        assert node.picture() == before


def test_an_ipv6_hub_is_pinned_when_ipv6_goes_into_the_tunnel(tmp_path: Path) -> None:
    """By its gateway, with an unreachable route behind, and nothing stays."""
    with _node(tmp_path) as node:
        before = node.picture()
        process = node.owner(_start(BEYOND6, [PREFIX6]) + "routes.capture6()\n")
        assert _way(node, BEYOND6) == ("ve0", "2001:db8::2")
        assert _way(node, "2001:db8:99::6")[0] == "m13t0"
        hops = [(r["type"], r["metric"]) for r in node.ip("-d", "-6", "route", "show", BEYOND6)]
        assert hops == [("unicast", 1024), ("unreachable", 0xFFFFFFFF)]
        assert node.leave(process) == ""
        assert node.picture() == before


def test_an_ipv6_hub_needs_no_pin_beside_an_ipv4_tunnel(tmp_path: Path) -> None:
    with _node(tmp_path) as node:
        process = node.owner(_start(BEYOND6, ["0.0.0.0/1", "128.0.0.0/1"]))
        assert node.ip("-6", "route", "show", BEYOND6) == []
        assert _way(node, BEYOND6) == ("ve0", "2001:db8::2")
        assert _way(node, SOMEWHERE)[0] == "m13t0"
        assert node.leave(process) == ""


def test_routes_of_the_user_stay(tmp_path: Path) -> None:
    with _node(tmp_path) as node:
        node.ip("route", "add", HUB, "via", "192.0.2.3")
        node.ip("route", "add", "unreachable", HUB, "metric", "4294967295")
        before = node.picture()
        process = node.owner(_start())
        assert _way(node, HUB) == ("ve0", "192.0.2.3")
        node.leave(process)
        assert node.picture() == before


def test_a_route_in_the_way_is_an_error_that_changes_nothing(tmp_path: Path) -> None:
    with _node(tmp_path) as node:
        node.ip("route", "add", "128.0.0.0/1", "via", "192.0.2.2")
        before = node.picture()
        with pytest.raises(AssertionError, match=r"there is a route to 128.0.0.0/1 already"):
            node.owner(_start())
        assert node.picture() == before


def test_no_way_to_the_hub_is_an_error_that_changes_nothing(tmp_path: Path) -> None:
    with _node(tmp_path) as node:
        node.ip("route", "del", "default")
        before = node.picture()
        with pytest.raises(AssertionError, match=r"no route to 203.0.113.5 .* is the network up"):
            node.owner(_start())
        assert node.picture() == before


def test_the_pin_follows_gateways_and_links(tmp_path: Path) -> None:
    with _node(tmp_path) as node:
        before = node.picture()
        process = node.owner(_start() + FOLLOW)
        node.ip("route", "replace", "default", "via", "192.0.2.3")
        assert _next(process) == "ve0 192.0.2.3 192.0.2.1"
        assert _way(node, HUB) == ("ve0", "192.0.2.3")
        node.ip("route", "replace", "default", "via", "198.51.100.2")
        assert _next(process) == "wl0 198.51.100.2 198.51.100.1"
        node.ip("route", "replace", "default", "via", "192.0.2.2")
        assert _next(process) == "ve0 192.0.2.2 192.0.2.1"
        two = ("nexthop", "via", "192.0.2.3", "nexthop", "via", "198.51.100.2")
        node.ip("route", "replace", "default", *two)
        assert _next(process) == "ve0 192.0.2.3 192.0.2.1"
        node.ip("route", "replace", "default", "via", "192.0.2.2")
        assert _next(process) == "ve0 192.0.2.2 192.0.2.1"
        # Routes of no concern to the hub are not reported.
        node.ip("route", "add", "9.9.9.0/24", "via", "192.0.2.3")
        node.ip("route", "del", "9.9.9.0/24")
        assert _silent(process)
        node.leave(process)
        assert node.picture() == before


def test_a_link_flap_never_routes_the_hub_into_the_tunnel(tmp_path: Path) -> None:
    with _node(tmp_path) as node:
        process = node.owner(_start() + FOLLOW)
        node.ip("link", "set", "ve0", "down")
        with pytest.raises(subprocess.CalledProcessError):
            _way(node, HUB)
        assert _way(node, SOMEWHERE)[0] == "m13t0"
        node.ip("link", "set", "ve0", "up")
        node.ip("addr", "add", "192.0.2.77/24", "dev", "ve0")
        node.ip("addr", "del", "192.0.2.1/24", "dev", "ve0")
        node.ip("addr", "replace", "192.0.2.77/24", "dev", "ve0")
        node.ip("route", "add", "default", "via", "192.0.2.2")
        assert _next(process) == "ve0 192.0.2.2 192.0.2.77"
        assert _way(node, HUB) == ("ve0", "192.0.2.2")
        node.leave(process)
        assert [r for r in node.ip("route") if r["dst"] == HUB] == []


def test_a_split_tunnel_reports_new_addresses_too(tmp_path: Path) -> None:
    with _node(tmp_path) as node:
        process = node.owner(_start(prefixes=["8.8.0.0/16"]) + FOLLOW)
        node.ip("route", "replace", "default", "via", "198.51.100.2")
        assert _next(process) == "wl0 198.51.100.2 198.51.100.1"
        node.leave(process)


CONNECT = """
import json, socket
def attempt(address, scope=0):
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as s:
        s.settimeout(1)
        try:
            s.connect((address, 9, 0, scope))
            s.send(b"x")
            s.send(b"x")  # the refusal of the first arrives here at the latest
            return "sent"
        except OSError as error:
            return error.strerror
index = socket.if_nametoindex("ve0")
print(json.dumps([attempt("2001:db8::2"), attempt("2001:db8:7::1"), attempt("::1"),
                  attempt("ff02::1", index), attempt("fe80::1", index)]))
"""


def test_the_guard_refuses_ipv6_but_not_its_neighbours(tmp_path: Path) -> None:
    with _node(tmp_path) as node:
        reached = ("sent", "Connection refused")
        outside = node.python(CONNECT)
        assert outside[0] in reached
        process = node.owner(_start())
        refused = ("Permission denied", "Operation not permitted", "No route to host")
        global_1, global_2, loopback, multicast, link_local = node.python(CONNECT)
        assert global_1 in refused
        assert global_2 in refused
        assert loopback in reached
        assert (multicast, link_local) == ("sent", "sent")
        node.leave(process)
        assert node.python(CONNECT)[0] in reached


def test_the_two_roles_share_no_table(tmp_path: Path) -> None:
    code = "import json; from hub import nat; from node import leak_guard\n"
    code += "print(json.dumps([m.table_name('m13t0') for m in (nat, leak_guard)]))"
    with Namespace(tmp_path, "routes") as node:
        assert json.loads(json.dumps(node.python(code))) == ["m13_hub_m13t0", "m13_node_m13t0"]
