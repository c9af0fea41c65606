"""Whoever comes to a running hub: let in by the roster, seen out when the roster changes.

A change is carried out in an order that leaves no gap: the handshake worker refuses who is no
longer admitted, then the session ends. One whose name or address changed is asked for new keys
beside its live session, because a handshake is what brings them. Every second telemetry tells who
is in, so that nothing depends on a command or an event that a full ring lost.
"""

import logging
import math
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from hub.admission import Admission, Update
from hub.plane import Plane
from m13 import endpoint
from m13.errors import ConfigurationError
from m13.handshake_process import HandshakeWorker
from m13.identity import format_fingerprint, parse_fingerprint
from native.channel import HUB_FULL, NOT_ADMITTED
from native.event import Event

log = logging.getLogger("m13.hub")
REFUSAL_SECONDS = 60.0
REFUSALS_KEPT = 1024
RENEWAL_SECONDS_MAX = 10.0  # a node that asks for no new keys until then is made to come anew
ORDER_SECONDS = 0.05  # until when an answer of the handshake worker may precede our order
CONFIGURES = 3  # CONFIG goes once by the handshake, and so often again: one may be lost

REFUSALS = {
    1: "malformed message",
    NOT_ADMITTED: "not in the list of nodes",
    3: "signature does not verify",
    6: "handshake version not accepted",
    7: "handshake worker was restarted",
    8: "internal error",
    HUB_FULL: "as many nodes as a hub serves are connected",
}


class Doorkeeper:
    """For the control loop, one thread."""

    def __init__(
        self, admitted: Admission, workers: Sequence[HandshakeWorker], plane: Plane
    ) -> None:
        self.admitted = admitted
        self._workers, self._plane = workers, plane
        self._renewals: dict[bytes, float] = {}  # by fingerprint: asked since
        self._configures: dict[bytes, int] = {}  # how often to go on
        self._refusals: dict[tuple[bytes, bytes, int], tuple[float, int]] = {}

    def follow_registry(self) -> None:
        for update in self.admitted.take():
            self._change(update)

    def reload(self, settings: Any) -> dict[str, Any]:
        """Reads the list again and says what came of it. ConfigurationError: nothing changed."""
        if self.admitted.watch:
            note = "the registry is followed anyway: nothing to read again"
            log.info("%s", note)
            return {"note": note, "admitted": len(self.admitted.nodes)}
        try:
            update = self.admitted.reload(settings.nodes, settings.subnet)
        except ConfigurationError as error:
            message = f"E_NODES_UNREADABLE {error}; nothing changed: mend it and reload"
            log.error("%s", message)
            raise ConfigurationError(message) from error
        self._change(update)
        return {
            "added": [node.name for node in update.added],
            "changed": [node.name for node in update.renew],
            "expelled": [node.name for node in update.expel],
            "admitted": len(self.admitted.nodes),
        }

    def _change(self, update: Update) -> None:
        """New handshakes are refused before the session ends, so that it does not come back."""
        seen_out = [*update.expel, *update.renew]
        for worker in self._workers:
            worker.change_roster(
                [node.entry() for node in update.admit], [node.key for node in seen_out]
            )
        for place in self.admitted.sessions_of(update.expel):
            self._plane.expel(*place)
        renewed = (parse_fingerprint(node.key) for node in update.renew)
        self._renewals |= dict.fromkeys(renewed, time.monotonic())
        for place in self.admitted.sessions_of(update.renew):
            self._plane.renew(*place)
        log.info(
            "roster changed: %d nodes admitted (%d added, %d changed, %d expelled)",
            len(self.admitted.nodes),
            len(update.added),
            len(update.renew),
            len(update.expel),
        )

    def keep(self, peers: Iterable[Mapping[str, Any]]) -> None:
        """Once a second, with telemetry's peers."""
        peers = list(peers)
        for place in self.admitted.uninvited(peers):
            self._plane.expel(*place)
        present = {peer["fingerprint"]: peer for peer in peers if peer["fingerprint"]}
        for key, peer in present.items():
            self._keep_current(key, peer)
        # without a session there is nothing to renew: the next one is made as the roster is
        self._renewals = {key: at for key, at in self._renewals.items() if key in present}
        self._configures = {key: n for key, n in self._configures.items() if n and key in present}

    def _keep_current(self, key: bytes, peer: Mapping[str, Any]) -> None:
        node = self.admitted.nodes.get(key)
        if node is None:
            return
        place, now = (peer["slot"], peer["generation"]), time.monotonic()
        is_as_listed = (peer["name"], peer["tunnel_address"]) == (node.name, str(node.address))
        if not is_as_listed:
            self._renewals.setdefault(key, now)
        asked = self._renewals.get(key)
        if asked is None:
            if self._configures.get(key):
                self._configures[key] -= 1
                self._plane.renew(*place, configure=True)
            return
        since = now - (peer["session_age_seconds"] or 0.0)
        if is_as_listed and since > asked + ORDER_SECONDS:
            del self._renewals[key]
            self._configures[key] = CONFIGURES
        elif now - asked > RENEWAL_SECONDS_MAX:
            self._plane.expel(*place)
        else:
            self._plane.renew(*place)

    def refuse(self, event: Event) -> None:
        """A node that is not admitted asks for ever: each is told of once a minute."""
        now = time.monotonic()
        who = (event.address, event.fingerprint, event.detail)
        said, unsaid = self._refusals.get(who, (-math.inf, 0))
        if now - said < REFUSAL_SECONDS:
            self._refusals[who] = (said, unsaid + 1)
            return
        if len(self._refusals) >= REFUSALS_KEPT:
            self._refusals.clear()
        self._refusals[who] = (now, 0)
        reason = REFUSALS.get(event.detail, f"reason {event.detail}")
        known = any(event.fingerprint)
        key = f", key {format_fingerprint(event.fingerprint)}" if known else ""
        more = f" ({unsaid} more since)" if unsaid else ""
        address = endpoint.host(event.endpoint_kind, event.address)
        line = f"handshake from {address} refused: {reason}{key}{more}"
        if known and self.admitted.watch and event.detail == NOT_ADMITTED:
            self.admitted.watch.explain(event.fingerprint, line)
        else:
            log.warning("%s", line)
