"""Whom a hub lets in, by its list or by its registry, and which sessions they have."""

import logging
import stat
import time
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from ipaddress import IPv4Interface
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from hub import roster
from hub.steering import OBJECT
from m13 import identity
from m13.errors import ConfigurationError
from m13.identity import parse_fingerprint
from native.event import Event

if TYPE_CHECKING:
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


@dataclass(frozen=True)
class Update:
    """What has to happen for a changed roster to be true."""

    admit: tuple[roster.Node, ...]  # new ones, and `renew` as they are now
    expel: tuple[roster.Node, ...]  # as they were
    renew: tuple[roster.Node, ...]  # admitted before, with another name, address or so

    @property
    def added(self) -> list[roster.Node]:
        return [node for node in self.admit if node not in self.renew]


@dataclass
class Admission:
    """`watch` is None for a list, which is read at the start and by `reload`."""

    nodes: dict[bytes, roster.Node]  # by fingerprint
    watch: "RosterWatch | None" = None
    sessions: dict[bytes, tuple[int, int]] = field(default_factory=dict)  # slot, generation
    connected: dict[bytes, float] = field(default_factory=dict)  # since, monotonic
    session_counts: dict[bytes, int] = field(default_factory=dict)  # not of renewed keys

    def follow(self, stack: ExitStack) -> "RosterWatch | None":
        """Begins to watch; not before everything that is forked has been."""
        return stack.enter_context(self.watch) if self.watch else None

    def take(self) -> list[Update]:
        """Changes of the registry, already counted in `nodes`."""
        changes = self.watch.take() if self.watch else []
        return [self._update(change.admitted, change.expelled) for change in changes]

    def reload(self, path: Path, hub: IPv4Interface) -> Update:
        """The list as it is in the file now, counted in `nodes`. ConfigurationError, and nothing
        changed, when it cannot be read whole."""
        _check_is_written(path)
        listed = roster.load(path, hub, self.nodes.values())
        keys = {node.key for node in listed}
        return self._update(listed, [n.key for n in self.nodes.values() if n.key not in keys])

    def _update(self, admitted: Iterable[roster.Node], expelled: Iterable[str]) -> Update:
        gone = [self._forget(parse_fingerprint(key)) for key in expelled]
        before = {node.key: node for node in self.nodes.values()}
        changed = tuple(node for node in admitted if before.get(node.key) != node)
        self.nodes.update((parse_fingerprint(node.key), node) for node in changed)
        return Update(
            changed,
            tuple(node for node in gone if node),
            tuple(node for node in changed if node.key in before),
        )

    def _forget(self, fingerprint: bytes) -> roster.Node | None:
        self.session_counts.pop(fingerprint, None)
        return self.nodes.pop(fingerprint, None)

    def sessions_of(self, nodes: Iterable[roster.Node]) -> list[tuple[int, int]]:
        places = (self.sessions.get(parse_fingerprint(node.key)) for node in nodes)
        return [place for place in places if place]

    def uninvited(self, peers: Iterable[Mapping[str, Any]]) -> list[tuple[int, int]]:
        """Of telemetry's peers those with a session and without an entry: a command or an event
        that a full ring lost must not keep anybody in."""
        return [
            (peer["slot"], peer["generation"])
            for peer in peers
            if peer["fingerprint"] and peer["fingerprint"] not in self.nodes
        ]

    def note_session(self, event: Event) -> bool:
        """False when its node was expelled while the session came up."""
        who = event.fingerprint
        self.sessions[who] = (event.peer, event.generation)
        if not event.detail or who not in self.connected:
            self.connected[who] = time.monotonic()
            self.session_counts[who] = self.session_counts.get(who, 0) + 1
        return event.fingerprint in self.nodes

    def forget_session(self, event: Event) -> None:
        if self.sessions.get(event.fingerprint) == (event.peer, event.generation):
            del self.sessions[event.fingerprint]
            self.connected.pop(event.fingerprint, None)


def _check_is_written(path: Path) -> None:
    """Before a list is read again: what is no file has no second reading, and a file of no bytes is
    one whose writer got no further, not the wish to expel everybody."""
    try:
        found = path.stat()
    except OSError:
        return  # for whoever reads it
    if not stat.S_ISREG(found.st_mode):
        raise ConfigurationError(f"{path} is no file, so it cannot be read again: restart the hub")
    if not found.st_size:
        raise ConfigurationError(
            f"{path}: line 1: the file is empty; write the nodes, or a comment to expel them all"
        )


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
