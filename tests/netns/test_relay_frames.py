"""`--relay`, frame by frame: who may send what to whom, with a tunnel flag and without.

reference node 203.0.113.2   ─┐
                              router 192.0.2.254 ─── 192.0.2.1 hub --relay, its TUN is watched
node2          203.0.113.130 ─┘
"""

import contextlib
import os
import socket
import struct
import time
from collections.abc import Iterator

import pytest

from bench.bed import HUB_ADDRESS, Bed
from bench.tunnel import PORT, Keys, Program, start_hub, start_node, tunnel_address
from tests.netns.capture import Capture, raw_packet, raw_socket
from tests.netns.conftest import assert_all_frames_accounted, laid_out
from tests.netns.packet_order import forwarded
from tests.netns.reference import ReferenceNode, load_identity
from tests.netns.test_inner import TUN
from tests.netns.test_inner_sources import packet6
from tests.scapy_m13 import CONTROL, M13, TUNNEL, Tlv, open_frame
from tests.segmenter import put

NODE, NODE2, HUB = tunnel_address("node"), tunnel_address("node2"), "10.13.0.1"
QUIET_S = 0.2
PROBE, ACK = 2, 3  # docs/PROTOCOL.md §6
SMALLEST = 548  # IPv4's 576
PROBING_S = 1.5


def acknowledge_only(node: ReferenceNode, size: int) -> None:
    """Of the hub's probes those of that size: the path to the node carries no larger frame."""
    until = time.monotonic() + PROBING_S
    while time.monotonic() < until:
        data = node.link.receive()  # a keepalive a second at least
        if data[16:18] != bytes([1, node.link.phase]):
            continue
        tlv = Tlv(bytes(open_frame(node.link.keys[0], data)[M13].payload))
        if tlv.type == PROBE and len(data) == size:
            value = tlv.value[:2] + struct.pack("<H", size)
            answer = bytes(Tlv(type=ACK, length=4, value=value))
            node.link.send(node.link.sealed(CONTROL, answer))


@pytest.fixture(scope="module")
def pair(keys: Keys, rx: str) -> Iterator[tuple[ReferenceNode, Program, Bed]]:
    """A node whose every byte we control, on a path of small frames, and one of ours."""
    for bed in laid_out(Bed(nodes=2)):
        hub = start_hub(bed, keys, "--rx", rx, "--relay")
        node2 = start_node(bed, keys, name="node2")
        node2.wait_log(r"tunnel 10\.13")
        with bed.node.inside():
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with sock:
            sock.connect((HUB_ADDRESS, PORT))
            node = ReferenceNode(sock, load_identity(keys.identity("node")), "v2")
            node.connect()
            acknowledge_only(node, SMALLEST)
            yield node, hub, bed
        assert (node2.stop(), hub.stop()) == (0, 0)
        assert_all_frames_accounted(hub)


MARK = os.urandom(40)
TO_NODE2 = raw_packet(NODE, NODE2, 5, MARK)
# flags, packet, whether it reaches node2, the drop that counts it
FRAMES = {
    "unflagged": (0, TO_NODE2, True, ""),
    "tunnel": (TUNNEL, TO_NODE2, True, ""),
    "unflagged, for the hub": (0, raw_packet(NODE, HUB, 5, MARK), False, "no_route"),
    "unflagged, for nobody": (0, raw_packet(NODE, "10.13.0.9", 5, MARK), False, "no_route"),
    "unflagged, its own": (0, raw_packet(NODE, NODE, 5, MARK), False, "no_route"),
    "tunnel, its own": (TUNNEL, raw_packet(NODE, NODE, 5, MARK), False, "no_route"),
    "unflagged, no hop left": (0, put(TO_NODE2, 8, "!B", 1), False, "hop_limit"),
    "another's source": (TUNNEL, raw_packet("10.13.0.9", NODE2, 5, MARK), False, "inner_source"),
    "unflagged, another's source": (0, raw_packet(NODE2, NODE2, 5, MARK), False, "inner_source"),
    "unflagged, IPv6 of nobody": (0, packet6("fd00::1", "fd00::2"), False, "inner_source"),
    "unflagged, no packet": (0, b"\x45" + MARK, False, "inner_header"),
}


@pytest.mark.parametrize("case", FRAMES)
def test_who_may_send_what_to_whom(pair: tuple[ReferenceNode, Program, Bed], case: str) -> None:
    node, hub, bed = pair
    flags, packet, passes, reason = FRAMES[case]
    before = hub.snapshot()["drops"]
    with contextlib.closing(raw_socket(bed.node2)) as receiver:
        receiver.settimeout(QUIET_S)
        with Capture(bed.hub, TUN, outgoing=True) as seen:
            node.link.send(node.link.sealed(flags, packet))
            got = []
            with contextlib.suppress(TimeoutError):
                got.append(receiver.recv(65536))
    assert got == [forwarded(packet)] * passes
    assert not any(MARK in data for data in seen.frames)
    after = hub.snapshot()["drops"]
    counted = {name: after[name] - before[name] for name in after if after[name] != before[name]}
    counted.pop("multicast", None)  # the hub's kernel tells neighbours of its addresses
    assert counted == ({reason: 1} if reason else {})


def test_what_is_relayed_after_a_packet_in_pieces_is_whole(
    pair: tuple[ReferenceNode, Program, Bed],
) -> None:
    """Both pass the same places of the hub's vector; only one is a fragment."""
    node, hub, bed = pair
    before = hub.snapshot()["counters"]["fragments_sent"]
    with contextlib.closing(raw_socket(bed.hub)) as out:
        out.sendto(raw_packet(HUB, NODE, 9, os.urandom(1000)), (NODE, 0))
    time.sleep(QUIET_S)
    assert hub.snapshot()["counters"]["fragments_sent"] > before
    with contextlib.closing(raw_socket(bed.node2)) as receiver:
        receiver.settimeout(QUIET_S)
        for _ in range(4):
            node.link.send(node.link.sealed(TUNNEL, TO_NODE2))
            assert receiver.recv(65536) == forwarded(TO_NODE2)
