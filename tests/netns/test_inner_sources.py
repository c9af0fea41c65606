"""Whose an inner source is: a node may send as itself and its networks, in both families.

reference node with node2's key up0 ─── wan0 m13-hub 10.13.0.1 (its TUN is watched)
192.168.7.0/24, 2001:db8:7::/48 behind it
"""

import dataclasses
import socket
from collections.abc import Iterator

import pytest

from bench.bed import HUB_ADDRESS, Bed
from bench.tunnel import PORT, Keys, Program, start_hub
from hub.prefixes import local_subnet6
from tests.netns.capture import Capture, raw_packet
from tests.netns.conftest import assert_all_frames_accounted, laid_out
from tests.netns.reference import ReferenceNode, load_identity
from tests.netns.test_inner import NODE, NODE2, TUN, roster_with_networks

PROTOCOL = 253  # RFC 3692


@dataclasses.dataclass(frozen=True)
class Stranger:
    """The second node's place taken by one whose every byte we control."""

    node: ReferenceNode
    hub: Program
    bed: Bed

    def send(self, packet: bytes) -> list[bytes]:
        """What came out of the hub's TUN."""
        with Capture(self.bed.hub, TUN) as seen:
            self.node.link.send_packet(packet)
            seen.settle()
        return [data for data in seen.arrived if data == packet]


@pytest.fixture(scope="module")
def stranger(keys: Keys, rx: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stranger]:
    listed = roster_with_networks(keys, tmp_path_factory.mktemp("roster"))
    for bed in laid_out(Bed()):
        hub = start_hub(bed, listed, "--rx", rx)
        with bed.node.inside():
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with sock:
            sock.connect((HUB_ADDRESS, PORT))
            node = ReferenceNode(sock, load_identity(keys.identity("node2")), "v2")
            node.connect()
            yield Stranger(node, hub, bed)
        assert hub.stop() == 0
        assert_all_frames_accounted(hub)


def packet6(source: str, destination: str, payload: bytes = b"inner") -> bytes:
    head = (6 << 28).to_bytes(4, "big") + len(payload).to_bytes(2, "big") + bytes([PROTOCOL, 64])
    ends = (socket.inet_pton(socket.AF_INET6, text) for text in (source, destination))
    return head + b"".join(ends) + payload


HUB = "10.13.0.1"
# source, destination, whether the node may send it; %n is host n of the hub's IPv6 subnet
SOURCES = {
    "own": (NODE2, HUB, True),
    "own IPv6": ("%3", "%1", True),
    "of its network": ("192.168.7.200", HUB, True),
    "of its IPv6 network": ("2001:db8:7:ffff::9", "%1", True),
    "another node's": (NODE, HUB, False),
    "another node's IPv6": ("%2", "%1", False),
    "the hub's": (HUB, NODE2, False),
    "the hub's IPv6": ("%1", "%3", False),
    "beside its network": ("192.168.8.1", HUB, False),
    "beside its IPv6 network": ("2001:db8:8::1", "%1", False),
    "unspecified": ("::", "%1", False),
    "link local": ("fe80::1", "%1", False),
}


@pytest.mark.parametrize("case", SOURCES)
def test_a_source_must_be_the_senders(stranger: Stranger, keys: Keys, case: str) -> None:
    source, destination, may = SOURCES[case]
    subnet = local_subnet6(keys.fingerprints["hub"])
    ends = [
        str(subnet[int(end[1:])]) if end.startswith("%") else end for end in (source, destination)
    ]
    packet = packet6(*ends) if ":" in ends[0] else raw_packet(*ends, 1, b"inner")
    before = stranger.hub.snapshot()["drops"]["inner_source"]
    assert stranger.send(packet) == [packet] * may
    assert stranger.hub.snapshot()["drops"]["inner_source"] == before + (not may)
