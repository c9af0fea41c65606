"""Whom a hub admits when its roster changes, and which sessions it ends, whatever it heard or
missed of them."""

import os
from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path

import pytest

from hub.admission import Admission
from hub.registry.roster import Change
from hub.roster import Node
from m13.errors import ConfigurationError
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
    assert admitted.sessions_of(change.expel) == [(3, 7)]
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
    assert admitted.sessions_of([node(ALPHA)]) == [(4, 8)]


def test_whoever_is_in_without_an_entry_is_found_by_telemetry() -> None:
    admitted = admission(Change(2, (node(BETA),), ()))
    peers = [
        {"slot": 1, "generation": 5, "fingerprint": ALPHA},
        {"slot": 2, "generation": 6, "fingerprint": BETA},
        {"slot": 3, "generation": 9, "fingerprint": None},  # in a handshake
    ]
    assert admitted.uninvited(peers) == [(2, 6)]
    admitted.take()
    assert admitted.uninvited(peers) == []


SUBNET = IPv4Interface("10.13.0.1/24")
KEYS = {name: format_fingerprint(bytes([ord(name)]) * 32) for name in "abcdx"}


def listed(path: Path, *rows: tuple[str, ...]) -> Path:
    """Rows of name, key's letter and perhaps address."""
    text = ""
    for name, key, *address in rows:
        text += f'[[node]]\nname = "{name}"\nkey = "{KEYS[key]}"\n'
        text += "".join(f'address = "{one}"\n' for one in address)
    path.write_text(text)
    return path


def admits(path: Path) -> Admission:
    nodes = Admission({})
    nodes.reload(path, SUBNET)
    return nodes


def names(nodes: object) -> list[str]:
    return [node.name for node in nodes]  # type: ignore[attr-defined]


RELOADS = {
    "as it was": ([("a", "a"), ("b", "b")], [], [], []),
    "one more": ([("a", "a"), ("b", "b"), ("c", "c")], ["c"], [], []),
    "one less": ([("b", "b")], [], [], ["a"]),
    "another order": ([("b", "b"), ("a", "a")], [], [], []),
    "another key": ([("a", "x"), ("b", "b")], ["a"], [], ["a"]),
    "another name": ([("d", "a"), ("b", "b")], [], ["d"], []),
    "another address": ([("a", "a", "10.13.0.9"), ("b", "b")], [], ["a"], []),
    "addresses swapped": (
        [("a", "a", "10.13.0.3"), ("b", "b", "10.13.0.2")], [], ["a", "b"], []
    ),
    "keys swapped": ([("a", "b"), ("b", "a")], [], ["a", "b"], []),
    "nobody": ([], [], [], ["a", "b"]),
}  # fmt: skip


@pytest.mark.parametrize("change", RELOADS)
def test_a_list_read_again_changes_what_changed_in_it(tmp_path: Path, change: str) -> None:
    rows, added, renewed, expelled = RELOADS[change]
    path = listed(tmp_path / "nodes.toml", ("a", "a"), ("b", "b"))
    nodes = admits(path)
    listed(path, *rows)
    if not rows:
        path.write_text("# nobody\n")
    update = nodes.reload(path, SUBNET)
    assert (names(update.added), names(update.renew), names(update.expel)) == (
        added,
        renewed,
        expelled,
    )
    assert sorted(node.key for node in nodes.nodes.values()) == sorted(KEYS[row[1]] for row in rows)
    assert nodes.reload(path, SUBNET) == type(update)((), (), ())


def test_who_has_no_address_in_the_list_keeps_the_one_it_had(tmp_path: Path) -> None:
    path = listed(tmp_path / "nodes.toml", ("a", "a"), ("b", "b"), ("c", "c"))
    nodes = admits(path)
    listed(path, ("d", "d"), ("c", "c"), ("b", "x"))  # a went, b has a new key
    nodes.reload(path, SUBNET)
    assert {node.name: str(node.address) for node in nodes.nodes.values()} == {
        "d": "10.13.0.2",
        "c": "10.13.0.4",
        "b": "10.13.0.3",
    }
    listed(path, ("d", "d", "10.13.0.4"), ("c", "c"), ("b", "x"))  # c's went to another
    nodes.reload(path, SUBNET)
    assert str(nodes.nodes[bytes([ord("c")]) * 32].address) == "10.13.0.2"


@pytest.mark.parametrize("text", ["", "[[node]]\nname = 'a'\n", "[[node\n", "x = 1\n"])
def test_a_list_that_cannot_be_read_changes_nobody(tmp_path: Path, text: str) -> None:
    path = listed(tmp_path / "nodes.toml", ("a", "a"))
    nodes = admits(path)
    before = dict(nodes.nodes)
    path.write_text(text)
    with pytest.raises(ConfigurationError, match=r"nodes\.toml.*(line 1|\[\[node\]\])"):
        nodes.reload(path, SUBNET)
    assert nodes.nodes == before


def test_a_list_that_was_a_pipe_is_not_taken_for_an_empty_one(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "nodes.toml")
    with pytest.raises(ConfigurationError, match="cannot be read again"):
        Admission({}).reload(tmp_path / "nodes.toml", SUBNET)
