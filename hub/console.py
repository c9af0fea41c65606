"""What a hub answers its operator: what telemetry has not, and that it read its list again."""

import os
import time
from collections.abc import Sequence
from typing import Any

from hub.doorkeeper import Doorkeeper
from m13.control import Command
from m13.handshake_process import HandshakeWorker


class Console:
    """The commands of a hub's control socket."""

    def __init__(
        self,
        settings: Any,
        fingerprint: str,
        door: Doorkeeper,
        workers: Sequence[HandshakeWorker],
    ) -> None:
        self._settings, self._fingerprint = settings, fingerprint
        self._door, self._workers = door, workers

    def commands(self) -> dict[str, Command]:
        return {"describe": self._describe, "reload": self._reload}

    def _reload(self, _request: dict[str, Any]) -> dict[str, Any]:
        return self._door.reload(self._settings)

    def _describe(self, _request: dict[str, Any]) -> dict[str, Any]:
        settings = self._settings
        registry = self._door.admitted.watch is not None
        return {
            "key": self._fingerprint,
            "place": f"{settings.interface} port {settings.port}",
            "subnet": str(settings.subnet),
            "mtu": settings.mtu,
            # the registry's address may hold a password
            "nodes_file": None if registry else os.path.realpath(settings.nodes),
            "handshake_workers": [
                {"pid": worker.pid, "restarts": worker.restarts} for worker in self._workers
            ],
            "nodes": [self._node(key) for key in self._door.admitted.nodes],
        }

    def _node(self, fingerprint: bytes) -> dict[str, Any]:
        admitted = self._door.admitted
        since = admitted.connected.get(fingerprint)
        return {
            **admitted.nodes[fingerprint].entry(),
            "connected_seconds": None if since is None else round(time.monotonic() - since, 3),
            "sessions": admitted.session_counts.get(fingerprint, 0),
        }
