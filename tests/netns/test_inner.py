"""IPv6 in the tunnel, and networks behind a node: who gets what, and who may say it is theirs.

node  203.0.113.2   ─┐
                     router 192.0.2.254 ─── 192.0.2.1 hub ─── 198.51.100.2 internet
node2 203.0.113.130 ─┘                           2001:db8:51::1 ─── 2001:db8:51::2
192.168.7.1, 2001:db8:7::1 behind it
"""

import contextlib
import dataclasses
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench import traffic
from bench.bed import Bed
from bench.namespace import Namespace
from bench.tunnel import Keys, Program, start_hub, start_node, tunnel_address
from hub.prefixes import local_subnet6
from tests.netns.conftest import assert_all_frames_accounted, laid_out

NODE, NODE2 = tunnel_address("node"), tunnel_address("node2")
LAN, LAN6 = "192.168.7.1", "2001:db8:7::1"
INTERNET6, HUB_OUTSIDE6 = "2001:db8:51::2", "2001:db8:51::1"
BYTES = 5_000_000
TUN = "m13tun0"
PROTOCOL = 253  # RFC 3692


@dataclasses.dataclass(frozen=True)
class Site:
    bed: Bed
    hub: Program
    hub6: str
    node6: str
    node2_6: str


def roster_with_networks(keys: Keys, directory: Path) -> Keys:
    """The same keys; node2 has networks behind it."""
    roster = directory / "networks.toml"
    text = keys.roster.read_text()
    assert text.rstrip().endswith(f'address = "{NODE2}"')
    roster.write_text(f'{text}allowed_ips = ["192.168.7.0/24", "2001:db8:7::/48"]\n')
    other = object.__new__(Keys)
    other.__dict__.update(keys.__dict__, roster=roster)
    return other


@contextlib.contextmanager
def addresses(namespace: Namespace, interface: str, *texts: str) -> Iterator[None]:
    for text in texts:
        namespace.address(interface, text)
    try:
        yield
    finally:
        with namespace.netlink() as netlink:
            index = netlink.link_lookup(ifname=interface)[0]
            for text in texts:
                address, _, bits = text.partition("/")
                netlink.addr("del", index=index, address=address, prefixlen=int(bits))


def start_site(bed: Bed, keys: Keys, *options: str) -> tuple[Site, list[Program]]:
    hub = start_hub(bed, keys, *options)
    nodes = [start_node(bed, keys, name=name) for name in ("node", "node2")]
    for name, node in zip(("node", "node2"), nodes, strict=True):
        hub.wait_log(f"session up: {name} ")
        node.wait_log(r"tunnel 10\.13\.0\.\d+/24, MTU \d+, IPv6 fd")
    first = local_subnet6(keys.fingerprints["hub"])
    named = (str(first[number]) for number in (1, 2, 3))
    return Site(bed, hub, *named), [*nodes, hub]


@pytest.fixture(scope="module")
def site(keys: Keys, rx: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    listed = roster_with_networks(keys, tmp_path_factory.mktemp("roster"))
    for bed in laid_out(Bed(nodes=2)):
        with (
            addresses(bed.hub, "net0", f"{HUB_OUTSIDE6}/64"),
            addresses(bed.internet, "eth0", f"{INTERNET6}/64"),
            addresses(bed.node2, "lo", f"{LAN}/32", f"{LAN6}/128"),
        ):
            found, programs = start_site(bed, listed, "--rx", rx)
            yield found
            assert [program.stop() for program in programs] == [0, 0, 0]
            assert_all_frames_accounted(found.hub)


def test_ipv6_passes_between_node_hub_and_node(site: Site) -> None:
    bed = site.bed
    assert traffic.tcp(bed.node, bed.hub, site.hub6, BYTES).is_intact
    assert traffic.tcp(bed.hub, bed.node, site.node6, BYTES).is_intact
    assert traffic.tcp(bed.node, bed.node2, site.node2_6, BYTES).is_intact
    assert traffic.udp(bed.node2, bed.node, site.node6, 3000).is_intact


def test_ipv6_reaches_the_internet_by_the_hubs_address(site: Site) -> None:
    bed = site.bed
    with bed.internet.inside():
        listener = socket.create_server(("::", 0), family=socket.AF_INET6)
    with bed.node.inside():
        client = socket.create_connection((INTERNET6, listener.getsockname()[1]), 5)
    with listener, client:
        connection, seen_from = listener.accept()
        connection.close()
    assert seen_from[0] == HUB_OUTSIDE6


def test_a_full_tunnel_takes_ipv6_too(site: Site) -> None:
    with site.bed.node.netlink() as netlink:
        for target in ("2001:db8:99::1", "fd99::1", "8000::1"):
            route = netlink.route("get", dst=target)[0]
            assert route.get_attr("RTA_OIF") == netlink.link_lookup(ifname=TUN)[0]


@pytest.mark.parametrize("address", [LAN, LAN6])
def test_networks_behind_a_node_are_reached(site: Site, address: str) -> None:
    bed = site.bed
    assert traffic.tcp(bed.hub, bed.node2, address, BYTES).is_intact
    assert traffic.tcp(bed.node, bed.node2, address, BYTES).is_intact
