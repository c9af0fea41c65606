"""What anybody may send, and what it must not do. The attacker shares the node's wire and address.

reference node (Python) up0 ─── wan0 m13-hub 10.13.0.1 (raw socket listens here)
"""

import contextlib
from collections.abc import Callable, Iterator

import pytest

from bench.tunnel import Keys
from tests.netns import forged
from tests.netns.capture import raw_packet
from tests.netns.reference import Link
from tests.netns.victim import HUB, PACKET, QUIET_S, Victim, served
from tests.scapy_m13 import TUNNEL, frame


@pytest.fixture(scope="module")
def victim(request: pytest.FixtureRequest, keys: Keys, rx: str) -> Iterator[Victim]:
    yield from served(request, keys, "--rx", rx)


def other_inner_source(link: Link, _packet: bytes) -> list[bytes]:
    return [link.sealed(TUNNEL, raw_packet("10.13.0.3", HUB, 9, b"mark"))]


# maker, counted as, how many of the packets come out
ATTACKS: list[tuple[Callable[[Link, bytes], list[bytes]], str, int]] = [
    (forged.cleartext_tunnel, "clear_flags", 0),
    (forged.cleartext_fin, "clear_flags", 0),
    (forged.cleartext_control, "clear_length", 0),
    (forged.marked_as_decrypted, "crypto_version", 0),
    (forged.replayed, "replay", 1),
    (forged.tampered, "open_failed", 0),
    (forged.other_key, "open_failed", 0),
    (forged.reflected, "reflected", 0),
    (other_inner_source, "inner_source", 0),
    (forged.length_beyond_frame, "payload_length", 0),
    (forged.wrong_sequence, "sequence", 0),
    (forged.junk, "bad_magic", 0),
    (forged.short, "too_short", 0),
    (forged.quic_like, "bad_magic", 0),
    (forged.hello_of_junk, "no_cookie", 0),
]

UNANSWERED = [forged.junk, forged.short, forged.quic_like, forged.cleartext_tunnel]
UNANSWERED += [forged.cleartext_fin, forged.cleartext_control]


@pytest.mark.parametrize(("attack", "reason", "passing"), ATTACKS)
def test_attack_is_counted_and_changes_nothing(
    victim: Victim, attack: Callable[[Link, bytes], list[bytes]], reason: str, passing: int
) -> None:
    before = victim.drops(reason)
    frames = attack(victim.node.link, PACKET)
    for data in frames:
        victim.node.link.send(data)
    assert len(victim.arrives()) == passing
    assert victim.drops(reason) == before + len(frames) - passing
    assert victim.is_alive()


def test_nothing_but_m13_is_ever_answered(victim: Victim) -> None:
    with victim.socket() as stranger:
        stranger.settimeout(QUIET_S)
        for attack in UNANSWERED:
            for data in attack(victim.node.link, PACKET):
                stranger.send(data)
        with pytest.raises(TimeoutError):
            stranger.recv(65536)
    assert victim.is_alive()


def test_echoes_are_as_long_as_the_question_and_rare(victim: Victim) -> None:
    with victim.socket() as stranger:
        stranger.settimeout(QUIET_S)
        answers, question = [], frame("02:00:00:00:00:99", 0)
        for _ in range(50):
            stranger.send(question)
        with contextlib.suppress(TimeoutError):
            while True:
                answers.append(stranger.recv(65536))
    assert [len(answer) for answer in answers] == [62]
