"""Numbered datagrams back and forth while something else happens: who of them got lost?"""

import socket
import struct
import threading
import time
from contextlib import suppress
from types import TracebackType
from typing import Self

from bench.namespace import Namespace

PAUSE_S = 0.002
SETTLE_S = 2.0


class NumberedFlow:
    """With `with`: five hundred datagrams a second from `source` to `target`, each sent back by it.
    At the end every number must have come back, once."""

    def __init__(self, source: Namespace, target: Namespace, address: str) -> None:
        with target.inside():
            self._echo = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self._echo.bind(("0.0.0.0", 0))
        with source.inside():
            self._sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._sender.connect((address, self._echo.getsockname()[1]))
        for one in (self._echo, self._sender):
            one.settimeout(0.05)
        self._is_stopping = threading.Event()
        self._is_over = threading.Event()
        runs = (self._send, self._answer, self._receive)
        self._threads = [threading.Thread(target=run, daemon=True) for run in runs]
        self.sent = 0
        self.back: list[int] = []

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._is_stopping.set()
        self._threads[0].join()
        until = time.monotonic() + SETTLE_S
        while len(self.back) < self.sent and time.monotonic() < until:
            time.sleep(0.01)
        self._is_over.set()
        for thread in self._threads[1:]:
            thread.join()
        self._echo.close()
        self._sender.close()

    def wait_sent(self, count: int) -> None:
        """Until so many were sent, however soon the rest of a test was done."""
        until = time.monotonic() + SETTLE_S + 5 * PAUSE_S * count
        while self.sent < count:
            assert time.monotonic() < until, f"{self.sent} of {count} sent"
            time.sleep(0.01)

    @property
    def lost(self) -> list[int]:
        return sorted(set(range(self.sent)) - set(self.back))

    def _send(self) -> None:
        while not self._is_stopping.is_set():
            self._sender.send(struct.pack("!Q", self.sent))
            self.sent += 1
            time.sleep(PAUSE_S)

    def _answer(self) -> None:
        while not self._is_over.is_set():
            with suppress(TimeoutError):
                self._echo.sendto(*self._echo.recvfrom(64))

    def _receive(self) -> None:
        while not self._is_over.is_set():
            with suppress(TimeoutError):
                self.back.append(struct.unpack("!Q", self._sender.recv(64))[0])
