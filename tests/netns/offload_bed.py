"""The tunnels that offload tests run in, one for each way the hub takes packets from the network.

node m13tun0 ═══ up0 192.0.2.2 ─── 192.0.2.1 wan0 ═══ hub m13tun0, net0 ─── eth0 internet
"""

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from bench.bed import INTERNET_ADDRESS, Bed
from bench.namespace import Namespace
from bench.tunnel import Keys, start_hub, start_node
from m13.host import firewall
from tests.netns.conftest import Tunnel, assert_all_frames_accounted, laid_out, nics
from tests.netns.large_packets import LargeCapture
from tests.netns.offload_flows import Ends

TUN = "m13tun0"
NODE, HUB = "10.13.0.2", "10.13.0.1"
TABLE = "m13_offload_test"
SETTLE_S, QUIET_S = 1, 0.03
# Options of `m13-hub`: everything is tested with each of them.
HUB_RX: tuple[tuple[str, ...], ...] = (("--rx", "xdp"), ("--rx", "udp"))


def hub_rx_name(options: tuple[str, ...]) -> str:
    return options[-1] if options else "default"


def running(
    request: pytest.FixtureRequest,
    keys: Keys,
    *options: str,
    around: Callable[[Bed], contextlib.AbstractContextManager[None]] | None = None,
) -> Iterator[Tunnel]:
    """A hub with these options and a node, until the test is over and both ended well; `around`
    changes the bed before they start."""
    for bed in laid_out(Bed(**nics(request.config))):
        with around(bed) if around else contextlib.nullcontext():
            hub = start_hub(bed, keys, *options)
            node = start_node(bed, keys)
            yield Tunnel(bed, hub, node, hub_rx_name(options))
            assert (node.stop(), hub.stop()) == (0, 0), node.log + hub.log
        assert_all_frames_accounted(hub)


@dataclass(frozen=True)
class Passage:
    """What went into the tunnel at one TUN and came out at the other, in one direction."""

    ends: Ends
    into: LargeCapture
    out_of: LargeCapture

    @property
    def sent(self) -> list[bytes]:
        return self.into.left

    @property
    def received(self) -> list[bytes]:
        return self.out_of.arrived

    @property
    def answers_sent(self) -> list[bytes]:
        return self.out_of.left

    @property
    def answers_received(self) -> list[bytes]:
        return self.into.arrived

    @property
    def cut(self) -> int:
        """Large packets that the kernel left to the sending end."""
        return self.into.left_large

    @property
    def joined(self) -> int:
        """Large packets that the receiving end left to the kernel."""
        return self.out_of.arrived_large

    def settle(self) -> None:
        """Until what went in came out, both ways, and nothing follows; or, with losses, a while."""
        until = time.monotonic() + SETTLE_S
        seen, is_complete = (-1,), False
        while time.monotonic() < until and not (is_complete and seen == self._counts()):
            seen = self._counts()
            time.sleep(QUIET_S)
            self.into.drain()
            self.out_of.drain()
            counts = self._counts()
            is_complete = counts[0] == counts[1] and counts[2] == counts[3]

    def _counts(self) -> tuple[int, ...]:
        packets = (self.sent, self.received, self.answers_sent, self.answers_received)
        return tuple(map(len, packets))


@contextlib.contextmanager
def watched(tunnel: Tunnel, direction: str, *, answers: bool = True) -> Iterator[Passage]:
    """A passage "up", from the node to the internet, "to the hub" itself, or "down", from the
    internet to the node; complete after the block, unless only what was awaited in it counts."""
    bed = tunnel.bed
    ends, spaces = {
        "up": (Ends(bed.node, bed.internet, INTERNET_ADDRESS), (bed.node, bed.hub)),
        "to the hub": (Ends(bed.node, bed.hub, HUB), (bed.node, bed.hub)),
        "down": (Ends(bed.internet, bed.node, NODE), (bed.hub, bed.node)),
    }[direction]
    with LargeCapture(spaces[0], TUN) as into, LargeCapture(spaces[1], TUN) as out_of:
        passage = Passage(ends, into, out_of)
        yield passage
        if answers:
            passage.settle()


@contextlib.contextmanager
def mtu_of(mtu: int, *interfaces: tuple[Namespace, str]) -> Iterator[None]:
    """Their MTU meanwhile; 1500 before and after."""
    try:
        for interface in interfaces:
            set_mtu(*interface, mtu)
        yield
    finally:
        for interface in interfaces:
            set_mtu(*interface, 1500)


def set_mtu(namespace: Namespace, interface: str, mtu: int) -> None:
    with namespace.netlink() as netlink:
        netlink.link("set", index=netlink.link_lookup(ifname=interface)[0], mtu=mtu)


@contextlib.contextmanager
def settings(namespaces: list[Namespace], **values: int) -> Iterator[None]:
    """net.ipv4 settings of these namespaces, put back afterwards."""
    before = []
    for namespace in namespaces:
        with namespace.inside():
            for name, value in values.items():
                path = Path("/proc/sys/net/ipv4") / name
                before.append((namespace, path, path.read_text()))
                path.write_text(str(value))
    try:
        yield
    finally:
        for namespace, path, text in before:
            with namespace.inside():
                path.write_text(text)


@contextlib.contextmanager
def rules(namespace: Namespace, hook: str, rule: str) -> Iterator[None]:
    """One nftables rule in a table of the test's own."""
    chain = f"chain only {{ type filter hook {hook} priority 0; {rule}\n }}"
    with namespace.inside():
        firewall.run(f"table ip {TABLE} {{ {chain}\n }}")
    try:
        yield
    finally:
        with namespace.inside():
            firewall.run(f"delete table ip {TABLE}")
