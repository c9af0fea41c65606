"""Whom a hub lets in, by its list or by its registry, and which sessions they have."""

import logging
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from ipaddress import IPv4Interface
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from hub import roster
from hub.steering import OBJECT
from m13 import identity
from m13.identity import parse_fingerprint
from native.event import Event

if TYPE_CHECKING:
    from hub.registry.roster import Change
    from hub.registry.watch import RosterWatch

log = logging.getLogger("m13.hub")


class Wanted(Protocol):
    """What of a hub's settings decides."""

    @property
    def subnet(self) -> IPv4Interface: ...
    @property
    def nodes(self) -> Path: ...
    @property
    def registry(self) -> str | None: ...


@dataclass
class Admission:
    """`watch` is None for a list, which is read once."""

    nodes: dict[bytes, roster.Node]  # by fingerprint
    watch: "RosterWatch | None" = None
    sessions: dict[bytes, tuple[int, int]] = field(default_factory=dict)  # slot, generation

    def follow(self, stack: ExitStack) -> "RosterWatch | None":
        """Begins to watch; not before everything that is forked has been."""
        return stack.enter_context(self.watch) if self.watch else None

    def take(self) -> "list[Change]":
        """Changes of the registry, already counted in `nodes`."""
        changes = self.watch.take() if self.watch else []
        for change in changes:
            for key in change.expelled:
                self.nodes.pop(parse_fingerprint(key), None)
            self.nodes.update((parse_fingerprint(node.key), node) for node in change.admitted)
        return changes

    def sessions_of(self, fingerprints: Iterable[str]) -> list[tuple[int, int]]:
        places = (self.sessions.get(parse_fingerprint(key)) for key in fingerprints)
        return [place for place in places if place]

    def uninvited(self, peers: Iterable[Mapping[str, Any]]) -> list[tuple[int, int]]:
        """Of telemetry's peers those with a session and without an entry: a command or an event
        that a full ring lost must not keep anybody in."""
        if not self.watch:
            return []
        return [
            (peer["slot"], peer["generation"])
            for peer in peers
            if peer["fingerprint"] and parse_fingerprint(peer["fingerprint"]) not in self.nodes
        ]

    def note_session(self, event: Event) -> bool:
        """False when its node was expelled while the session came up."""
        self.sessions[event.fingerprint] = (event.peer, event.generation)
        return event.fingerprint in self.nodes

    def forget_session(self, event: Event) -> None:
        if self.sessions.get(event.fingerprint) == (event.peer, event.generation):
            del self.sessions[event.fingerprint]


def begin(stack: ExitStack, settings: Wanted, me: identity.Identity) -> Admission:
    """Reads the list, or the registry as it is now."""
    if not settings.registry:
        listed = roster.load(settings.nodes, settings.subnet)
        return Admission({parse_fingerprint(node.key): node for node in listed})
    # here, because a hub with a list needs no database
    from hub.registry.database import Database, check_file, check_schema
    from hub.registry.roster import check_hub, load
    from hub.registry.watch import RosterWatch

    database = stack.enter_context(Database(settings.registry))
    if not database.is_postgresql:
        check_file(database.url)
    check_schema(database)
    check_hub(database, me.fingerprint, OBJECT)
    active, generation = load(database, settings.subnet)
    database.close()  # nothing of it is open while the handshake worker is forked
    watch = RosterWatch(database, settings.subnet, generation, me)
    return Admission({parse_fingerprint(node.key): node for node in active}, watch)
