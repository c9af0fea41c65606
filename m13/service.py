"""The control loop of a running hub or node: descriptors, timers, signals, data-plane threads."""

import logging
import os
import selectors
import signal
import socket
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Protocol, Self

from m13.errors import HostError
from m13.host.tun import Tun

log = logging.getLogger("m13")
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)


class HasFileno(Protocol):
    def fileno(self) -> int: ...


class Stopped(Exception):
    """A signal asked for an orderly end while the service was still coming up."""


def check_tun(device: Tun) -> None:
    """HostError when somebody deleted our TUN: it cannot come back under running threads."""
    try:
        if socket.if_nametoindex(device.name) == device.ifindex:
            return
    except OSError:
        pass
    raise HostError(f"{device.name} was removed while we ran: start again", "E_TUN_GONE")


class Service:
    """Signals only set a flag here, so that no bring-up step is torn in the middle: steps are
    separated by `checkpoint`, and during teardown signals change nothing any more."""

    def __init__(self) -> None:
        self.stopping = False
        self.failure: BaseException | None = None
        self._selector = selectors.DefaultSelector()
        self._timers: list[tuple[float, float, Callable[[], None]]] = []
        self._threads: list[threading.Thread] = []
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._previous: dict[int, object] = {}

    def __enter__(self) -> Self:
        self._previous_wakeup = signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        for number in SIGNALS:
            self._previous[number] = signal.signal(number, self._on_signal)
        self.on_readable(self._wake_read, lambda: self._empty_wakeup())
        return self

    def __exit__(self, *exception: object) -> None:
        signal.set_wakeup_fd(self._previous_wakeup)
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        self._selector.close()
        os.close(self._wake_read)
        os.close(self._wake_write)

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self.stopping = True

    def _empty_wakeup(self) -> None:
        try:
            while os.read(self._wake_read, 4096):
                pass
        except BlockingIOError:
            return

    def checkpoint(self) -> None:
        """Between two steps of bring-up: ends it when a signal came."""
        if self.stopping:
            raise Stopped

    def on_readable(self, source: int | HasFileno, handler: Callable[[], object]) -> None:
        self._selector.register(source, selectors.EVENT_READ, handler)

    def every(self, seconds: float, handler: Callable[[], None]) -> None:
        self._timers.append((time.monotonic() + seconds, seconds, handler))

    def start_thread(self, name: str, run: Callable[[], None]) -> None:
        """A data-plane thread. When it ends by itself the whole service ends."""

        def guarded() -> None:
            try:
                run()
            except BaseException as error:
                self.failure = error
            self.stop()

        thread = threading.Thread(target=guarded, name=name)
        thread.start()
        self._threads.append(thread)

    def join_threads(self) -> None:
        for thread in self._threads:
            thread.join()

    def stop(self) -> None:
        """Any thread: the loop ends at its next turn."""
        self.stopping = True
        os.write(self._wake_write, b"\0")

    def run(self) -> None:
        """Until a signal, a failed thread, or an exception of a handler."""
        while not self.stopping:
            now = time.monotonic()
            for index, (due, seconds, handler) in enumerate(self._timers):
                if now >= due:
                    self._timers[index] = (now + seconds, seconds, handler)
                    handler()
            wait = min((due for due, _, _ in self._timers), default=now + 1) - time.monotonic()
            for key, _ in self._selector.select(max(wait, 0)):
                key.data()
        if self.failure:
            raise self.failure
