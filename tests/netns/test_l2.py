"""The tunnel on plain Ethernet: everything a session does over UDP, with no IP below it.

node up0 (MAC only) ─── (MAC only) wan0 hub net0 198.51.100.1 ─── 198.51.100.2 internet
"""

import contextlib
import socket
import time
from collections.abc import Iterator

import pytest

from bench import traffic
from bench.bed import INTERNET_ADDRESS, Bed
from bench.namespace import Namespace
from bench.tunnel import Keys, Program, start_hub
from m13.host import nic
from native.steer import ETHERTYPE
from tests.netns.conftest import Tunnel, assert_all_frames_accounted, laid_out, nics, wait_endpoint
from tests.netns.test_traffic import HUB, NODE, exchange

OTHER_MAC = "02:00:00:00:00:99"


def strip(namespace: Namespace, interface: str) -> None:
    """Of its IP addresses, and of the routes that hang on them."""
    with namespace.netlink() as netlink:
        netlink.flush_addr(index=namespace.interface_index(interface))


def mac_of(namespace: Namespace, interface: str) -> str:
    with namespace.inside():
        return nic.inspect(interface).mac.hex(":")


def start_node(bed: Bed, keys: Keys, *options: str, station: str = "") -> Program:
    trust = ["--identity", str(keys.identity("node")), "--hub-key", keys.fingerprints["hub"]]
    where = bed.node_interface + station
    node = Program(bed, bed.node, "node", ["--hub-l2", where, "--tunnel", *trust, *options])
    node.wait_log(r"\btunnel [0-9.]+/\d+, MTU")
    return node


class BareBed(Bed):
    """Without IP between node and hub, from before anything is compared."""

    def _lay_direct(self) -> None:
        super()._lay_direct()
        strip(self.node, self.node_interface)
        strip(self.hub, self.hub_interface)


@pytest.fixture(scope="module")
def ethernet(request: pytest.FixtureRequest, keys: Keys, rx: str) -> Iterator[Tunnel]:
    for bed in laid_out(BareBed(**nics(request.config))):
        hub = start_hub(bed, keys, "--rx", rx, "--l2")
        node = start_node(bed, keys)
        yield Tunnel(bed, hub, node, rx)
        assert (node.stop(), hub.stop()) == (0, 0), node.log + hub.log
        assert_all_frames_accounted(hub)


def test_ends_know_each_other_by_their_macs(ethernet: Tunnel) -> None:
    bed = ethernet.bed
    hub_mac = mac_of(bed.hub, bed.hub_interface)
    node_mac = mac_of(bed.node, bed.node_interface)
    wait_endpoint(ethernet.node, hub_mac)
    wait_endpoint(ethernet.hub, node_mac)
    ethernet.hub.wait_log(f"session up: node .* from {node_mac}")


def test_traffic_arrives_intact_both_ways(ethernet: Tunnel) -> None:
    bed = ethernet.bed
    assert traffic.tcp(bed.node, bed.internet, INTERNET_ADDRESS, 10_000_000).is_intact
    assert traffic.tcp(bed.internet, bed.node, NODE, 10_000_000).is_intact
    for source, target, own, other in (
        (bed.node, bed.hub, NODE, HUB),
        (bed.hub, bed.node, HUB, NODE),
    ):
        sent, received = exchange(source, target, own, other, count=2000)
        assert sorted(received) == sorted(sent)


def test_only_frames_for_the_hub_from_one_station_are_looked_at(ethernet: Tunnel) -> None:
    """Cut, to another station, from a group of stations; and an echo goes to nobody else."""
    bed = ethernet.bed
    hub_mac = bytes.fromhex(mac_of(bed.hub, bed.hub_interface).replace(":", ""))
    header, body = ETHERTYPE.to_bytes(2, "big"), b"\xd1\x01" + bytes(46)
    frames = [
        hub_mac + b"\xff" * 6 + header + body,
        hub_mac + b"\x03\0\0\0\0\1" + header + body,
    ]
    before = ethernet.hub.snapshot()
    with bed.node.inside():
        raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    with contextlib.closing(raw):
        raw.bind((bed.node_interface, 0))
        for frame in frames:
            raw.send(frame)
    until = time.monotonic() + 3
    while (after := ethernet.hub.snapshot())["drops"]["l2_frame"] < len(frames):
        assert time.monotonic() < until
        time.sleep(0.05)
    assert after["drops"]["l2_frame"] == before["drops"]["l2_frame"] + len(frames)
    assert after["counters"]["echoes"] == before["counters"]["echoes"]
    assert traffic.ping(bed.node, HUB)
