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

from m13 import notify
from m13.errors import HostError
from m13.host.tun import Tun

log = logging.getLogger("m13")
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
TERMINAL = "/dev/tty"


class HasFileno(Protocol):
    def fileno(self) -> int: ...


class Stopped(Exception):
    """A signal asked for an orderly end while the service was still coming up."""


def has_terminal() -> bool:
    """Whether this process has a controlling terminal: not when it never had, or when that is
    gone (tty(4))."""
    try:
        os.close(os.open(TERMINAL, os.O_RDONLY | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError:
        return False
    return True


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
    separated by `checkpoint`, and during teardown signals change nothing any more.

    SIGHUP means to read settings again once `on_hangup` says how, as service managers use it,
    except that it still ends a service whose terminal is gone, as the kernel uses it."""

    def __init__(self) -> None:
        self.stopping = False
        self._had_terminal = has_terminal()
        self._hung_up = False
        self._handle_hangup: Callable[[], object] | None = None
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

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGHUP and (has_terminal() or not self._had_terminal):
            self._hung_up = True
        else:
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

    def on_hangup(self, handler: Callable[[], object]) -> None:
        """What SIGHUP asks for, between two turns of the loop; one that came already counts."""
        self._handle_hangup = handler

    def on_readable(self, source: int | HasFileno, handler: Callable[[], object]) -> None:
        self._selector.register(source, selectors.EVENT_READ, handler)

    def ignore(self, source: int | HasFileno) -> None:
        """Before a source is closed."""
        self._selector.unregister(source)

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
            if self._hung_up and self._handle_hangup:
                self._hung_up = False
                notify.notify(notify.reloading())
                self._handle_hangup()
                notify.notify(notify.READY)
            now = time.monotonic()
            for index, (due, seconds, handler) in enumerate(self._timers):
                if now >= due:
                    self._timers[index] = (now + seconds, seconds, handler)
                    handler()
            wait = min((due for due, _, _ in self._timers), default=now + 1) - time.monotonic()
            for key, _ in self._selector.select(max(wait, 0)):
                key.data()
        notify.notify(notify.STOPPING)
        if self.failure:
            raise self.failure
