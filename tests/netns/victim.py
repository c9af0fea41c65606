"""A hub with a live session of a node whose every byte we control."""

import contextlib
import os
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from bench.bed import HUB_ADDRESS, Bed
from bench.tunnel import PORT, Keys, Program, start_hub
from tests.netns.capture import raw_packet, raw_socket
from tests.netns.conftest import assert_all_frames_accounted, laid_out, nics
from tests.netns.reference import ReferenceNode, load_identity

NODE, HUB = "10.13.0.2", "10.13.0.1"
PACKET = raw_packet(NODE, HUB, 9, os.urandom(64))
QUIET_S = 0.15


@dataclass(frozen=True)
class Victim:
    bed: Bed
    keys: Keys
    hub: Program
    node: ReferenceNode
    inside: socket.socket

    def drops(self, reason: str) -> int:
        return int(self.hub.snapshot()["drops"][reason])

    def counter(self, name: str) -> int:
        return int(self.hub.snapshot()["counters"][name])

    @property
    def row(self) -> dict[str, Any]:
        """The hub's of our node; it is written at the next tick after the session is up."""
        until = time.monotonic() + 1
        while True:
            found = [row for row in self.hub.snapshot()["peers"] if row["name"] == "node"]
            if found or time.monotonic() > until:
                return dict(found[0])

    def arrives(self) -> list[bytes]:
        """Packets that came out of the hub's TUN within a moment."""
        self.inside.settimeout(QUIET_S)
        packets = []
        with contextlib.suppress(TimeoutError):
            while True:
                packets.append(self.inside.recv(65536))
        return packets

    def is_alive(self) -> bool:
        self.node.link.send_packet(PACKET)
        return self.arrives() == [PACKET]

    @contextlib.contextmanager
    def socket(self) -> Iterator[socket.socket]:
        """Of the node's machine, to the hub, from a port of its own."""
        with self.bed.node.inside():
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with sock:
            sock.connect((HUB_ADDRESS, PORT))
            yield sock

    @contextlib.contextmanager
    def another_node(self, profile: str = "v2") -> Iterator[ReferenceNode]:
        """The second node of the roster; several of these are the same node from several ports."""
        with self.socket() as sock:
            yield ReferenceNode(sock, load_identity(self.keys.identity("node2")), profile)


def served(request: pytest.FixtureRequest, keys: Keys, *options: str) -> Iterator[Victim]:
    for bed in laid_out(Bed(**nics(request.config))):
        hub = start_hub(bed, keys, *options)
        with bed.node.inside():
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with sock, contextlib.closing(raw_socket(bed.hub)) as inside:
            sock.connect((HUB_ADDRESS, PORT))
            node = ReferenceNode(sock, load_identity(keys.identity("node")), "v2")
            node.connect()
            yield Victim(bed, keys, hub, node, inside)
        assert hub.stop() == 0
        assert_all_frames_accounted(hub)


def handshake_worker(program: Program) -> int:
    """The process that a hub or node leaves lattice work to: the one child it has."""
    children = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            parent = (entry / "stat").read_text().rpartition(")")[2].split()[1]
            if int(parent) == program.process.pid:
                children.append(int(entry.name))
    assert len(children) == 1, children
    return children[0]
