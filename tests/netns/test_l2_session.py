"""Sessions on plain Ethernet go on as over UDP: new keys, restarts, another MAC, and beside UDP.

    node up0 (MAC only) ─── (MAC only) wan0 hub net0 198.51.100.1 ─── 198.51.100.2 internet

Where the hub serves UDP too, 192.0.2.2 ─── 192.0.2.1 are on the same veth.
"""

import signal
import time
from collections.abc import Iterator

import pytest

from bench import tunnel
from bench.bed import INTERNET_ADDRESS, Bed
from bench.traffic import ping
from bench.tunnel import Keys, start_hub
from tests.netns.conftest import assert_all_frames_accounted, laid_out, nics, wait_endpoint
from tests.netns.test_l2 import OTHER_MAC, BareBed, mac_of, start_node
from tests.netns.test_session import QUICK, end, wait_ping
from tests.netns.test_traffic import HUB


@pytest.fixture
def bare(request: pytest.FixtureRequest) -> Iterator[Bed]:
    yield from laid_out(BareBed(**nics(request.config)))


def test_rekeying_and_restarts(bare: Bed, keys: Keys, rx: str) -> None:
    hub = start_hub(bare, keys, "--rx", rx, "--l2", *QUICK)
    end(start_node(bare, keys), signal.SIGKILL)
    node = start_node(bare, keys, "--rekey-seconds", "5")
    until = time.monotonic() + 6
    while time.monotonic() < until:
        assert len(ping(bare.node, INTERNET_ADDRESS, 50)) == 50
    assert "session renewed" in node.log
    end(hub, signal.SIGKILL)
    hub = start_hub(bare, keys, "--rx", rx, "--l2", *QUICK)
    wait_ping(bare)
    assert (node.stop(), hub.stop()) == (0, 0)
    assert_all_frames_accounted(hub)


def test_either_end_comes_back_with_another_mac(bare: Bed, keys: Keys, rx: str) -> None:
    """A hub that was named by its MAC is looked for there only, any other wherever it is."""
    hub_mac, node_mac = mac_of(bare.hub, "wan0"), mac_of(bare.node, "up0")
    hub = start_hub(bare, keys, "--rx", rx, "--l2", *QUICK)
    node = start_node(bare, keys, station=f"/{hub_mac}")
    assert node.stop() == 0
    set_mac(bare, "node", "up0", OTHER_MAC)
    node = start_node(bare, keys)
    assert hub.snapshot()["peers"][0]["endpoint"] == OTHER_MAC
    assert hub.stop() == 0
    set_mac(bare, "hub", "wan0", node_mac)
    hub = start_hub(bare, keys, "--rx", rx, "--l2", *QUICK)
    wait_ping(bare)
    assert node.snapshot()["peers"][0]["endpoint"] == node_mac
    assert (node.stop(), hub.stop()) == (0, 0)
    set_mac(bare, "hub", "wan0", hub_mac)
    set_mac(bare, "node", "up0", node_mac)


def set_mac(bed: Bed, word: str, interface: str, mac: str) -> None:
    namespace = bed.namespaces[word]
    with namespace.netlink() as netlink:
        netlink.link("set", index=namespace.interface_index(interface), address=mac)


def test_hub_serves_ethernet_and_udp_at_once(bed: Bed, keys: Keys, rx: str) -> None:
    """The node moves its session from one to the other, and the tunnel's MTU follows."""
    hub = start_hub(bed, keys, "--rx", rx, "--l2")
    for start, endpoint in (
        (start_node, mac_of(bed.node, "up0")),
        (tunnel.start_node, "192.0.2.2:"),
        (start_node, mac_of(bed.node, "up0")),
    ):
        node = start(bed, keys)
        wait_endpoint(hub, endpoint)
        assert len(ping(bed.node, HUB, 3)) == 3
        assert node.stop() == 0
    assert hub.stop() == 0


def test_hub_that_was_not_asked_does_not_serve_ethernet(bed: Bed, keys: Keys, rx: str) -> None:
    hub = start_hub(bed, keys, "--rx", rx)
    with pytest.raises(tunnel.ProgramError, match="did nothing"):
        node_waits(bed, keys)
    assert hub.snapshot()["peers"] == []
    assert hub.snapshot()["counters"]["echoes"] == 0
    assert hub.stop() == 0


def node_waits(bed: Bed, keys: Keys) -> None:
    trust = ["--identity", str(keys.identity("node")), "--hub-key", keys.fingerprints["hub"]]
    node = tunnel.Program(bed, bed.node, "node", ["--hub-l2", "up0", "--tunnel", *trust])
    try:
        node.wait_log(r"\btunnel [0-9.]+/\d+, MTU", 1.5)
    finally:
        node.stop()
