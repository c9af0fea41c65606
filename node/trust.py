"""Which hubs a running node trusts: pinned on its command line, or in its file of known hubs."""

import logging
from pathlib import Path
from typing import Any, Protocol

from m13.errors import ConfigurationError
from m13.handshake_process import HandshakeWorker
from m13.identity import parse_fingerprint
from node import known_hubs

log = logging.getLogger("m13.node")
PINS_MAX = 16  # of one hub: its key, the next one, and room for mistakes


class Wanted(Protocol):
    """What of a node's settings decides."""

    @property
    def hub_host(self) -> str: ...
    @property
    def hub_port(self) -> int: ...
    @property
    def hub_key(self) -> str | None: ...
    @property
    def known_hubs(self) -> Path: ...


def pinned_keys(settings: Wanted) -> list[str]:
    """None at all means that the hub's key is shown and refused."""
    if settings.hub_key is None:
        pins = known_hubs.load(settings.known_hubs, settings.hub_host, settings.hub_port)
        if len(pins) > PINS_MAX:
            raise ConfigurationError(
                f"{settings.known_hubs}: {len(pins)} keys of {settings.hub_host}:"
                f"{settings.hub_port}, a hub may have {PINS_MAX}: remove the old ones"
            )
        return pins
    try:
        parse_fingerprint(settings.hub_key)
    except ValueError as error:
        raise ConfigurationError(f"--hub-key: {error}") from error
    return [settings.hub_key]


class Trust:
    """The pins as they are now; the handshake worker judges by them."""

    def __init__(self, settings: Wanted, pins: list[str], worker: HandshakeWorker) -> None:
        self.pins = pins
        self.hub_key: str | None = None  # of the hub that we have or had a session with
        self._settings, self._worker = settings, worker

    def reload(self) -> dict[str, Any]:
        """Reads the known hubs again and says what came of it. ConfigurationError: nothing
        changed."""
        if self._settings.hub_key is not None:
            note = "the hub's key is given by --hub-key: nothing to read again"
            log.info("%s", note)
            return {"note": note}
        try:
            pins = self._read()
        except ConfigurationError as error:
            message = f"E_HUBS_UNREADABLE {error}; nothing changed: mend it and reload"
            log.error("%s", message)
            raise ConfigurationError(message) from error
        added = [pin for pin in pins if pin not in self.pins]
        removed = [pin for pin in self.pins if pin not in pins]
        self.pins = pins
        self._worker.change_pins(pins)
        counts = (len(pins), len(added), len(removed))
        log.info("known hubs read again: %d keys (%d added, %d removed)", *counts)
        if self.hub_key and self.hub_key not in pins:
            log.warning(
                "the hub's key %s is no longer known: no new keys with it, so its session ends"
                " within the hour; restart the node to end it now",
                self.hub_key,
            )
        return {"added": added, "removed": removed, "known": len(pins)}

    def _read(self) -> list[str]:
        settings = self._settings
        pins = pinned_keys(settings)
        if not pins:
            raise ConfigurationError(
                f"{settings.known_hubs}: no key of {settings.hub_host}:{settings.hub_port} in it,"
                " and a node that knows none could not come back"
            )
        return pins
