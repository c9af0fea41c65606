"""What a node answers its operator: what telemetry has not, and that it read its hubs again."""

import time
from typing import Any

from m13.control import Command
from m13.handshake_process import HandshakeWorker
from native.event import Event
from node.trust import Trust
from node.underlay import place


class Console:
    """The commands of a node's control socket."""

    def __init__(
        self, settings: Any, address: str, fingerprint: str, trust: Trust, worker: HandshakeWorker
    ) -> None:
        self._settings, self._address, self._fingerprint = settings, address, fingerprint
        self._trust, self._worker = trust, worker
        self._connected: float | None = None
        self._sessions = 0
        self._config: Event | None = None

    def commands(self) -> dict[str, Command]:
        return {"describe": self._describe, "reload": self._reload}

    def note_session(self, event: Event) -> None:
        if not event.detail or self._connected is None:
            self._connected = time.monotonic()
            self._sessions += 1

    def note_loss(self) -> None:
        self._connected = None

    def note_config(self, event: Event) -> None:
        self._config = event

    def _reload(self, _request: dict[str, Any]) -> dict[str, Any]:
        return self._trust.reload()

    def _describe(self, _request: dict[str, Any]) -> dict[str, Any]:
        settings, since, config = self._settings, self._connected, self._config
        routes = "everything" if settings.prefixes is None else list(settings.prefixes)
        return {
            "key": self._fingerprint,
            "place": place(settings, settings.hub_host),
            "hub_address": self._address,
            "routes": routes,
            "mtu": config.mtu if config else None,
            "handshake_workers": [{"pid": self._worker.pid, "restarts": self._worker.restarts}],
            "hub": {
                "key": self._trust.hub_key,
                "known_keys": self._trust.pins,
                "connected_seconds": None if since is None else round(time.monotonic() - since, 3),
                "sessions": self._sessions,
            },
        }
