"""What anybody may send, and what it must not do. The attacker shares the node's wire and address.

reference node (Python) up0 ─── wan0 m13-hub 10.13.0.1 (raw socket listens here)
"""

import contextlib
import os
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from bench.bed import HUB_ADDRESS, Bed
from bench.tunnel import PORT, Keys, Program, start_hub
from tests.netns.capture import raw_packet, raw_socket
from tests.netns.conftest import assert_all_frames_accounted, laid_out, nics
from tests.netns.reference import Link, ReferenceNode, load_identity
from tests.scapy_m13 import (
    CONTROL,
    FIN,
    HUB_TO_NODE,
    TUNNEL,
    fragments,
    frame,
    seal,
)

NODE, HUB = "10.13.0.2", "10.13.0.1"
MARK = os.urandom(64)
PACKET = raw_packet(NODE, HUB, 9, MARK)
MAC = "02:00:00:00:00:77"
QUIET_S = 0.15


@dataclass(frozen=True)
class Victim:
    """A hub with a live session of a node whose every byte we control."""

    bed: Bed
    hub: Program
    node: ReferenceNode
    inside: socket.socket

    def drops(self, reason: str) -> int:
        return int(self.hub.snapshot()["drops"][reason])

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


@pytest.fixture(scope="module")
def victim(request: pytest.FixtureRequest, keys: Keys, rx: str) -> Iterator[Victim]:
    for bed in laid_out(Bed(**nics(request.config))):
        hub = start_hub(bed, keys, "--rx", rx)
        with bed.node.inside():
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with sock, contextlib.closing(raw_socket(bed.hub)) as inside:
            sock.connect((HUB_ADDRESS, PORT))
            node = ReferenceNode(sock, load_identity(keys.identity("node")), "v2")
            node.connect()
            yield Victim(bed, hub, node, inside)
        assert hub.stop() == 0
        assert_all_frames_accounted(hub)


def cleartext_tunnel(_link: Link) -> list[bytes]:
    return [frame(MAC, TUNNEL, PACKET, length=len(PACKET))]


def marked_as_decrypted(_link: Link) -> list[bytes]:
    """The seed's in-band marker."""
    return [frame(MAC, TUNNEL, PACKET, length=len(PACKET), crypto=2)]


def cleartext_fin(_link: Link) -> list[bytes]:
    return [frame(MAC, CONTROL | FIN)] * 3


def replayed(link: Link) -> list[bytes]:
    """Sent once by `sealed`, and arrived; then again."""
    data = link.sealed(TUNNEL, PACKET)
    return [data, data, data]


def tampered(link: Link) -> list[bytes]:
    data = bytearray(link.sealed(TUNNEL, PACKET))
    data[-1] ^= 1
    return [bytes(data)]


def other_key(_link: Link) -> list[bytes]:
    clear = frame(MAC, TUNNEL, PACKET, sequence=1 << 20, length=len(PACKET))
    return [seal(os.urandom(32), clear, 1 << 20, 1)]


def reflected(link: Link) -> list[bytes]:
    clear = frame(MAC, TUNNEL, PACKET, sequence=5, length=len(PACKET))
    return [seal(link.keys[HUB_TO_NODE], clear, 5, HUB_TO_NODE)]


def other_inner_source(link: Link) -> list[bytes]:
    return [link.sealed(TUNNEL, raw_packet("10.13.0.3", HUB, 9, MARK))]


def length_beyond_frame(link: Link) -> list[bytes]:
    clear = frame(MAC, TUNNEL, PACKET, sequence=link.counter, length=60000)
    link.counter += 1
    return [seal(link.keys[1], clear, link.counter - 1, 1)]


def wrong_sequence(link: Link) -> list[bytes]:
    clear = frame(MAC, TUNNEL, PACKET, sequence=link.counter + 1, length=len(PACKET))
    link.counter += 1
    return [seal(link.keys[1], clear, link.counter - 1, 1)]


def junk(_link: Link) -> list[bytes]:
    return [os.urandom(size) for size in (62, 100, 1400)]


def short(_link: Link) -> list[bytes]:
    return [frame(MAC, 0)[:size] for size in (0, 1, 14, 61)]


def quic_like(_link: Link) -> list[bytes]:
    return [b"\xc0\x00\x00\x00\x01" + os.urandom(1195)]


def hello_of_junk(_link: Link) -> list[bytes]:
    """A ClientHello from the live peer's own address, without its cookie."""
    return fragments(MAC, b"\x01\x02" + os.urandom(4192), 77)


# maker, counted as, how many of the packets come out
ATTACKS: list[tuple[Callable[[Link], list[bytes]], str, int]] = [
    (cleartext_tunnel, "clear_flags", 0),
    (cleartext_fin, "clear_flags", 0),
    (marked_as_decrypted, "crypto_version", 0),
    (replayed, "replay", 1),
    (tampered, "open_failed", 0),
    (other_key, "open_failed", 0),
    (reflected, "reflected", 0),
    (other_inner_source, "inner_source", 0),
    (length_beyond_frame, "payload_length", 0),
    (wrong_sequence, "sequence", 0),
    (junk, "bad_magic", 0),
    (short, "too_short", 0),
    (quic_like, "bad_magic", 0),
    (hello_of_junk, "no_cookie", 0),
]


@pytest.mark.parametrize(("attack", "reason", "passing"), ATTACKS)
def test_attack_is_counted_and_changes_nothing(
    victim: Victim, attack: Callable[[Link], list[bytes]], reason: str, passing: int
) -> None:
    before = victim.drops(reason)
    frames = attack(victim.node.link)
    for data in frames:
        victim.node.link.send(data)
    assert len(victim.arrives()) == passing
    assert victim.drops(reason) == before + len(frames) - passing
    assert victim.is_alive()


def test_nothing_but_m13_is_ever_answered(victim: Victim) -> None:
    with victim.bed.node.inside():
        stranger = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with stranger:
        stranger.connect((HUB_ADDRESS, PORT))
        stranger.settimeout(QUIET_S)
        for attack in (junk, short, quic_like, cleartext_tunnel, cleartext_fin):
            for data in attack(victim.node.link):
                stranger.send(data)
        with pytest.raises(TimeoutError):
            stranger.recv(65536)
    assert victim.is_alive()


def test_echoes_are_as_long_as_the_question_and_rare(victim: Victim) -> None:
    with victim.bed.node.inside():
        stranger = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with stranger:
        stranger.connect((HUB_ADDRESS, PORT))
        stranger.settimeout(QUIET_S)
        answers = []
        for _ in range(50):
            stranger.send(frame("02:00:00:00:00:99", 0))
        with contextlib.suppress(TimeoutError):
            while True:
                answers.append(stranger.recv(65536))
    assert [len(answer) for answer in answers] == [62]
