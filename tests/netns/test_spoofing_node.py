"""What anybody who passes for the hub may send to a node, and what it must not do.

m13-node 10.13.0.2 (raw socket listens here) up0 ─── wan0 reference hub (Python) 192.0.2.1:443
"""

import contextlib
import os
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from bench.bed import HUB_ADDRESS, Bed
from bench.tunnel import PORT, Keys, Program, start_node
from tests.netns import forged
from tests.netns.capture import raw_packet, raw_socket
from tests.netns.conftest import laid_out, nics
from tests.netns.reference import Link, ReferenceHub, load_identity
from tests.scapy_m13 import CONTROL, TUNNEL, Config, fragments, frame

NODE, HUB = "10.13.0.2", "10.13.0.1"
PACKET = raw_packet(HUB, NODE, 9, os.urandom(64))
QUIET_S = 0.15


@dataclass(frozen=True)
class Victim:
    """A node with a live session to a hub whose every byte we control."""

    bed: Bed
    node: Program
    hub: ReferenceHub
    inside: socket.socket

    def drops(self, reason: str) -> int:
        return int(self.node.snapshot()["drops"][reason])

    def counter(self, name: str) -> int:
        return int(self.node.snapshot()["counters"][name])

    def arrives(self) -> list[bytes]:
        """Packets that came out of the node's TUN within a moment."""
        self.inside.settimeout(QUIET_S)
        packets = []
        with contextlib.suppress(TimeoutError):
            while True:
                packets.append(self.inside.recv(65536))
        return packets

    def is_alive(self) -> bool:
        self.hub.link.send_packet(PACKET)
        return self.arrives() == [PACKET] and self.node.snapshot()["state"] == "Established"


@pytest.fixture(scope="module")
def victim(request: pytest.FixtureRequest, keys: Keys) -> Iterator[Victim]:
    for bed in laid_out(Bed(**nics(request.config))):
        with bed.hub.inside():
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with sock, contextlib.closing(raw_socket(bed.node)) as inside:
            sock.bind((HUB_ADDRESS, PORT))
            hub = ReferenceHub(sock, load_identity(keys.identity("hub")), "v2")
            node = start_node(bed, keys, wait=False)
            hub.welcome()
            hub.answer()
            hub.confirm(Config(node=NODE, prefix=24, hub=HUB, mtu=1400, keepalive_ms=1000))
            node.wait_log(r"tunnel 10.13.0.2/24, MTU 1400")
            yield Victim(bed, node, hub, inside)
            assert node.stop() == 0
        assert "Traceback" not in node.log


def other_inner_destination(link: Link, _packet: bytes) -> list[bytes]:
    return [link.sealed(TUNNEL, raw_packet(HUB, "10.13.0.3", 9, b"mark"))]


def beyond_the_tunnel(link: Link, _packet: bytes) -> list[bytes]:
    """The hub may not reach the node's other addresses through the tunnel."""
    return [link.sealed(TUNNEL, raw_packet(HUB, "192.0.2.2", 9, b"mark"))]


# maker, counted as (nothing: consumed), how many of the packets come out
ATTACKS: list[tuple[Callable[[Link, bytes], list[bytes]], str, int]] = [
    (forged.cleartext_tunnel, "clear_flags", 0),
    (forged.cleartext_fin, "clear_flags", 0),
    (forged.cleartext_control, "clear_length", 0),
    (forged.marked_as_decrypted, "crypto_version", 0),
    (forged.replayed, "replay", 1),
    (forged.tampered, "open_failed", 0),
    (forged.other_key, "open_failed", 0),
    (forged.reflected, "reflected", 0),
    (other_inner_destination, "inner_source", 0),
    (beyond_the_tunnel, "inner_source", 0),
    (forged.length_beyond_frame, "payload_length", 0),
    (forged.wrong_sequence, "sequence", 0),
    (forged.junk, "bad_magic", 0),
    (forged.short, "too_short", 0),
    (forged.quic_like, "bad_magic", 0),
]


@pytest.mark.parametrize(("attack", "reason", "passing"), ATTACKS)
def test_attack_is_counted_and_changes_nothing(
    victim: Victim, attack: Callable[[Link, bytes], list[bytes]], reason: str, passing: int
) -> None:
    before = victim.drops(reason)
    frames = attack(victim.hub.link, PACKET)
    for data in frames:
        victim.hub.link.send(data)
    assert len(victim.arrives()) == passing
    assert victim.drops(reason) == before + len(frames) - passing
    assert victim.is_alive()


def test_a_server_hello_nobody_asked_for_starts_nothing(victim: Victim) -> None:
    started = victim.counter("handshakes_started")
    before = victim.drops("handshake_message")
    for _ in range(3):
        for data in fragments(forged.MAC, b"\x02" + os.urandom(8787), 500):
            victim.hub.link.send(data)
        victim.hub.link.send(frame(forged.MAC, CONTROL))
    victim.arrives()
    assert victim.drops("handshake_message") == before + 3
    assert victim.counter("handshakes_started") == started
    assert victim.counter("handshakes_refused") == 0
    assert victim.is_alive()


@pytest.mark.parametrize(
    "source", [("192.0.2.1", 4444), ("192.0.2.77", PORT)], ids=["other port", "other address"]
)
def test_who_is_not_the_hub_is_not_heard(victim: Victim, source: tuple[str, int]) -> None:
    """Not even with a genuine frame: the node talks to the address it was given."""
    data = victim.hub.link.sealed(TUNNEL, PACKET)
    received = victim.counter("received_packets")
    with forged.Spoofer(victim.bed.hub) as spoofer:
        spoofer.send(data, source, victim.hub.link.to)
    assert victim.arrives() == []
    assert victim.counter("received_packets") == received
    assert victim.is_alive()
