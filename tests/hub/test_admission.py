"""Which sessions a hub with a registry ends, whatever it heard or missed of them."""

from ipaddress import IPv4Address

from hub.admission import Admission
from hub.registry.roster import Change
from hub.roster import Node
from m13.identity import format_fingerprint
from native import event as events

ALPHA, BETA = bytes([1]) * 32, bytes([2]) * 32


class Watch:
    """A watch that saw one change; the real one is in registry/test_roster.py."""

    def __init__(self, change: Change) -> None:
        self.changes = [change]

    def take(self) -> list[Change]:
        taken, self.changes = self.changes, []
        return taken


def node(fingerprint: bytes) -> Node:
    return Node("n", format_fingerprint(fingerprint), IPv4Address("10.13.0.2"), 24)


def session(fingerprint: bytes, peer: int = 3, generation: int = 7) -> events.Event:
    blank = dict.fromkeys(events.Event._fields, 0)
    place = {"fingerprint": fingerprint, "peer": peer, "generation": generation}
    return events.Event(**{**blank, **place})


def admission(change: Change) -> Admission:
    return Admission({ALPHA: node(ALPHA)}, Watch(change))  # type: ignore[arg-type]


def test_an_expelled_node_loses_the_session_it_has() -> None:
    expel = Change(2, (), (format_fingerprint(ALPHA),))
    admitted = admission(expel)
    assert admitted.note_session(session(ALPHA))
    (change,) = admitted.take()
    assert admitted.sessions_of(change.expelled) == [(3, 7)]
    assert admitted.nodes == {}


def test_a_session_that_came_up_meanwhile_is_not_let_be() -> None:
    admitted = admission(Change(2, (), (format_fingerprint(ALPHA),)))
    admitted.take()
    assert not admitted.note_session(session(ALPHA))


def test_a_lost_session_of_a_former_slot_does_not_hide_the_present_one() -> None:
    admitted = admission(Change(2, (), ()))
    admitted.note_session(session(ALPHA, 3, 7))
    admitted.note_session(session(ALPHA, 4, 8))
    admitted.forget_session(session(ALPHA, 3, 7))
    assert admitted.sessions_of([format_fingerprint(ALPHA)]) == [(4, 8)]


def test_whoever_is_in_without_an_entry_is_found_by_telemetry() -> None:
    admitted = admission(Change(2, (node(BETA),), ()))
    peers = [
        {"slot": 1, "generation": 5, "fingerprint": format_fingerprint(ALPHA)},
        {"slot": 2, "generation": 6, "fingerprint": format_fingerprint(BETA)},
        {"slot": 3, "generation": 9, "fingerprint": None},  # in a handshake
    ]
    assert admitted.uninvited(peers) == [(2, 6)]
    admitted.take()
    assert admitted.uninvited(peers) == []
    assert Admission({}, None).uninvited(peers) == []  # a list is not followed
