"""The parent's half of the handshake worker: start it, notice its death or silence, restart it."""

import contextlib
import json
import logging
import os
import select
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any

from m13 import handshake_worker
from m13.errors import HostError
from m13.forked import Forked, may_fork
from m13.identity import Identity
from native.channel import REQUESTS, Channel

log = logging.getLogger("m13.handshake")

READY_SECONDS = 5.0
CLOSE_SECONDS = 1.0
RESTART_SECONDS_MIN = 0.1
RESTART_SECONDS_MAX = 5.0
STABLE_SECONDS = 30.0  # a worker that lived this long restarts without delay
# What a pipe takes whole or not at all (POSIX PIPE_BUF, Linux), and entries that surely fit.
LINE_BYTES_MAX = 4096
LINE_ENTRIES_MAX = 3
HUNG_SECONDS = 10.0  # requests that wait while none is taken: one takes milliseconds


def hub_configuration(
    identity: Identity,
    roster: Iterable[Mapping[str, object]],
    accept: Iterable[int] = (1, 2),
    v1_profile: str = "v1",
    provider: str = "auto",
) -> dict[str, Any]:
    """Roster entries have name, key (fingerprint), address and prefix (bits), and perhaps address6
    and prefixes (networks)."""
    return {
        "role": "hub",
        "seed": identity.seed,
        "accept": list(accept),
        "v1_profile": v1_profile,
        "provider": provider,
        "roster": [dict(entry) for entry in roster],
    }


def node_configuration(
    identity: Identity,
    pins: Iterable[str],
    version: int = 2,
    v1_profile: str = "v1",
    provider: str = "auto",
) -> dict[str, Any]:
    """Pins are the hub's fingerprints; none means that every hub is refused as unknown."""
    return {
        "role": "node",
        "seed": identity.seed,
        "version": version,
        "v1_profile": v1_profile,
        "provider": provider,
        "pins": list(pins),
    }


class HandshakeWorker:
    """One worker process on one channel. Call poll() now and then; close() ends it.

    The first one is a copy of this process, which serves a tenth of a second earlier than a fresh
    interpreter would. Once there are threads, and keys of sessions, a fresh one is started.
    """

    def __init__(self, link: Channel, configuration: Mapping[str, Any]) -> None:
        self.restarts = 0
        self._link = link
        # It stays here for restarts, as the identity does; the roster in a form that can change.
        # The seed is the identity's own buffer: there is no second one.
        self._configuration = dict(configuration)
        self._seed: bytearray = self._configuration.pop("seed")
        roster = self._configuration.pop("roster", None)
        self._roster = None if roster is None else {entry.get("key"): entry for entry in roster}
        self._orders: deque[bytes] = deque()  # lines the worker's pipe has not taken yet
        self._process: Forked | subprocess.Popen[bytes] | None = None
        self._ready = False
        self._started = 0.0
        self._restart_seconds = RESTART_SECONDS_MIN
        self._restart_at = 0.0
        self._last_words = ""
        self._head: int | None = None  # of the request ring, if something waited at the last look
        self._moved = 0.0  # when that head was first seen

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def start(self) -> None:
        """Returns when the worker serves; HostError with its own words when it cannot."""
        self.launch()
        self.await_ready()

    def launch(self) -> None:
        """The first half of start(): it comes up while the caller does other things."""
        self._spawn()

    def await_ready(self) -> None:
        """The second half of start()."""
        if not self._read_ready(READY_SECONDS):
            said = self._last_words or self._silence()
            self.close()
            raise HostError(f"the handshake worker did not start: {said}")

    def change_roster(
        self, admit: Iterable[Mapping[str, object]] = (), expel: Iterable[str] = ()
    ) -> None:
        """Admits entries and expels fingerprints, in the worker that serves and in those after it.
        What its pipe does not take at once goes with the next poll(); never blocks."""
        assert self._roster is not None, "a node has no roster"
        admitted, expelled = [dict(entry) for entry in admit], list(expel)
        for key in expelled:
            self._roster.pop(key, None)
        self._roster.update((entry["key"], entry) for entry in admitted)
        # all expelling first: whoever is in both is admitted as it is now
        for start in range(0, len(expelled), LINE_ENTRIES_MAX):
            self._order({"expel": expelled[start : start + LINE_ENTRIES_MAX], "admit": []})
        for start in range(0, len(admitted), LINE_ENTRIES_MAX):
            self._order({"expel": [], "admit": admitted[start : start + LINE_ENTRIES_MAX]})
        self._pass_orders()

    def change_pins(self, pins: Iterable[str]) -> None:
        """The hub's fingerprints that a node accepts from now on; never blocks."""
        assert self._roster is None, "a hub has no pins"
        self._configuration["pins"] = list(pins)
        self._order({"pins": self._configuration["pins"]})
        self._pass_orders()

    def _order(self, change: Mapping[str, object]) -> None:
        line = json.dumps(change).encode() + b"\n"
        assert len(line) <= LINE_BYTES_MAX
        self._orders.append(line)

    def poll(self) -> bool:
        """True when the worker serves. Kills one that hangs and starts a dead one again, with
        back-off; never blocks."""
        self._pass_orders()
        process = self._process
        now = time.monotonic()
        if process and process.poll() is None:
            if self._hangs(now):
                log.error("handshake worker took no request for %.0f s: killing it", HUNG_SECONDS)
                process.kill()
                return False
            return self._ready or self._read_ready(0)
        if process:
            self._died(process, now)
        if now >= self._restart_at:
            self.restarts += 1
            try:
                self._spawn()
            except OSError as error:
                self._restart_at = now + RESTART_SECONDS_MAX
                log.error("handshake worker cannot be started: %s", error.strerror)
        return False

    def close(self) -> None:
        """Standard input ends, so the worker does; it is killed when it does not."""
        process, self._process = self._process, None
        if not process:
            return
        self._close_pipes(process)
        try:
            process.wait(CLOSE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def __enter__(self) -> "HandshakeWorker":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _spawn(self) -> None:
        link = self._link
        descriptors = (link.memory_fd, link.request_fd, link.answer_fd)
        self._ready = False
        self._last_words = ""
        self._head = None
        self._started = time.monotonic()
        self._orders.clear()  # the roster below has them
        words = [str(descriptor) for descriptor in descriptors]
        if may_fork():
            self._process = Forked(lambda: handshake_worker.main(words), descriptors)
        else:
            self._process = _fresh(words, descriptors)
        assert self._process.stdin
        try:
            configuration = self._configuration
            if self._roster is not None:
                configuration = {**configuration, "roster": list(self._roster.values())}
            # Raw and past every buffer: its only copy is then in the pipe. A pipe takes it whole.
            os.write(self._process.stdin.fileno(), self._seed)
            # One line: the worker reads one before it serves.
            self._process.stdin.write(json.dumps(configuration).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # it died already: its exit is noticed by whoever asks next
        os.set_blocking(self._process.stdin.fileno(), False)

    def _pass_orders(self) -> None:
        if not self._process or not self._process.stdin:
            return
        with contextlib.suppress(BlockingIOError, BrokenPipeError, ValueError):
            while self._orders:
                os.write(self._process.stdin.fileno(), self._orders[0])
                self._orders.popleft()

    def _read_ready(self, timeout_seconds: float) -> bool:
        assert self._process
        assert self._process.stdout
        readable, _, _ = select.select([self._process.stdout], [], [], timeout_seconds)
        if readable:
            line = self._process.stdout.readline().decode(errors="replace").strip()
            self._ready = line == "ready"
            self._last_words = "" if self._ready else line.removeprefix("failed: ")
        return self._ready

    def _died(self, process: Forked | subprocess.Popen[bytes], now: float) -> None:
        if not self._ready:
            self._read_ready(0)
        self._close_pipes(process)
        self._process = None
        pause = 0.0
        if now - self._started > STABLE_SECONDS:
            self._restart_seconds = RESTART_SECONDS_MIN
        else:
            pause = self._restart_seconds
            self._restart_seconds = min(2 * pause, RESTART_SECONDS_MAX)
        self._restart_at = now + pause
        when = "" if self._ready else " before it served"
        said = f" ({self._last_words})" if self._last_words else ""
        how = _describe_end(process.returncode)
        log.error("handshake worker %s%s%s: restarting in %g s", how, when, said, pause)

    def _silence(self) -> str:
        """What to say of a worker that said nothing."""
        assert self._process
        try:
            # Its standard output may have ended a moment before it does.
            return f"it {_describe_end(self._process.wait(CLOSE_SECONDS))}"
        except subprocess.TimeoutExpired:
            return f"no answer within {READY_SECONDS:.0f} s"

    def _hangs(self, now: float) -> bool:
        sent, received = self._link.progress(REQUESTS)
        waiting = None if sent == received else received
        if waiting is None or waiting != self._head:
            self._head, self._moved = waiting, now
        if now - self._moved <= HUNG_SECONDS:
            return False
        self._moved = now  # a killed process may take its time: say it once
        return True

    @staticmethod
    def _close_pipes(process: Forked | subprocess.Popen[bytes]) -> None:
        for pipe in (process.stdin, process.stdout):
            if pipe:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()


def _fresh(words: list[str], descriptors: tuple[int, ...]) -> subprocess.Popen[bytes]:
    # -P: nothing is imported from the working directory. A session of its own: Ctrl-C in the
    # terminal is the parent's to handle.
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "m13.handshake_worker", *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        pass_fds=descriptors,
        start_new_session=True,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
    )


def _describe_end(status: int | None) -> str:
    if status is None:
        return "ended"
    if status >= 0:
        return f"ended with status {status}"
    try:
        return f"was killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"was killed by signal {-status}"
