"""A hub's eye on the registry: a thread that sees changes of the roster, says why a key was
refused, and signs checkpoints, so that the control loop never waits for a database."""

import ipaddress
import logging
import os
import queue
import threading
import time
from contextlib import suppress

from sqlalchemy.exc import SQLAlchemyError

from hub.registry import audit, roster
from hub.registry.codes import RegistryError
from hub.registry.database import Database
from hub.registry.roster import Change
from m13 import identity, pqc, privileges
from m13.identity import format_fingerprint

log = logging.getLogger("m13.hub")
LOOK_SECONDS = 0.2
CHECKPOINT_SECONDS = 60.0
QUESTIONS_MAX = 64
CLOSE_SECONDS = 3.0


class RosterWatch:
    """`fileno()` is readable when `take()` has something. Closes with its thread ended."""

    def __init__(
        self,
        database: Database,
        hub: ipaddress.IPv4Interface,
        generation: int,
        me: identity.Identity | None = None,
    ) -> None:
        self._database, self._hub, self._generation = database, hub, generation
        self._me = me
        self._changes: queue.SimpleQueue[Change] = queue.SimpleQueue()
        self._questions: queue.Queue[tuple[bytes, str]] = queue.Queue(QUESTIONS_MAX)
        self._event_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._stop = threading.Event()
        self._away = False
        # a daemon, because a database that hangs must not keep a hub from ending
        self._thread = threading.Thread(target=self._run, name="m13-registry", daemon=True)

    def __enter__(self) -> "RosterWatch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(CLOSE_SECONDS)
        if not self._thread.is_alive():
            os.close(self._event_fd)

    def fileno(self) -> int:
        return self._event_fd

    def take(self) -> list[Change]:
        with suppress(BlockingIOError):
            os.eventfd_read(self._event_fd)
        taken = []
        with suppress(queue.Empty):
            while True:
                taken.append(self._changes.get_nowait())
        return taken

    def explain(self, fingerprint: bytes, line: str) -> None:
        """Logs `line` with the code that says why the key is not on the roster."""
        try:
            self._questions.put_nowait((fingerprint, line))
        except queue.Full:
            log.warning("%s", line)

    def _run(self) -> None:
        privileges.forgo()
        checkpoint_at, checkpointer = time.monotonic(), audit.Checkpointer(self._database)
        while not self._stop.is_set():
            try:
                self._look()
                self._answer()
                if self._me and time.monotonic() >= checkpoint_at and checkpointer.advance():
                    checkpoint_at = time.monotonic() + CHECKPOINT_SECONDS
                    checkpointer.sign(self._me, pqc.choose())
                self._say_back()
            except (RegistryError, SQLAlchemyError) as error:
                self._say_away(error)
            self._stop.wait(LOOK_SECONDS)

    def _look(self) -> None:
        change = roster.changes(self._database, self._hub, self._generation)
        if change is not None:
            self._generation = change.generation
            self._changes.put(change)
            os.eventfd_write(self._event_fd, 1)

    def _answer(self) -> None:
        with suppress(queue.Empty):
            while True:
                fingerprint, line = self._questions.get_nowait()
                code = roster.why_not(self._database, format_fingerprint(fingerprint))
                told = f" ({code}: 'm13 registry explain {code}')" if code else ""
                log.warning("%s%s", line, told)

    def _say_away(self, error: Exception) -> None:
        """The roster stays as it was last seen: sessions outlive the registry's absence."""
        if not self._away:
            log.error("E_REGISTRY_AWAY the roster stays as it is meanwhile: %s", error)
        self._away = True

    def _say_back(self) -> None:
        if self._away:
            log.info("the registry is back")
        self._away = False
