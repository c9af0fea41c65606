"""A flow of numbered datagrams that runs while something happens, and what of it was missed."""

import contextlib
import itertools
import socket
import struct
import threading
import time
from types import TracebackType
from typing import Self

from bench.namespace import Namespace

TAIL_S = 1.0
NUMBER = struct.Struct("!Q")


class Flow:
    """With `with`: so many datagrams a second from one namespace to an address in another."""

    def __init__(
        self, source: Namespace, target: Namespace, address: str, rate: int = 200, size: int = 200
    ) -> None:
        self._interval_s, self._filling = 1 / rate, bytes(size - NUMBER.size)
        with target.inside():
            self._receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self._receiver.bind(("0.0.0.0", 0))
        with source.inside():
            self._sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._receiver.settimeout(0.1)
        self._to = address, self._receiver.getsockname()[1]
        self._is_over = threading.Event()
        self._threads = [threading.Thread(target=self._send), threading.Thread(target=self._take)]
        self.sent = 0
        self.refused = 0  # by the sender's own kernel
        self.arrived: dict[int, float] = {}  # number -> time of its arrival
        self.doubled = 0

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
        self._is_over.set()
        for thread in self._threads:
            thread.join()
        self._sender.close()
        self._receiver.close()

    @property
    def missing(self) -> int:
        return self.sent - self.refused - len(self.arrived)

    @property
    def longest_gap_s(self) -> float:
        times = sorted(self.arrived.values())
        return max(after - before for before, after in itertools.pairwise(times))

    def _send(self) -> None:
        due = time.monotonic()
        while not self._is_over.is_set():
            try:
                self._sender.sendto(NUMBER.pack(self.sent) + self._filling, self._to)
            except OSError:  # no route while a link is down
                self.refused += 1
            self.sent += 1
            due = max(due + self._interval_s, time.monotonic() - 0.05)
            time.sleep(max(0.0, due - time.monotonic()))

    def _take(self) -> None:
        until = float("inf")
        while time.monotonic() < until:
            with contextlib.suppress(TimeoutError):
                number = NUMBER.unpack_from(self._receiver.recv(2048))[0]
                self.doubled += number in self.arrived
                self.arrived[number] = time.monotonic()
            if self._is_over.is_set() and until == float("inf"):
                self._threads[0].join()
                until = time.monotonic() + TAIL_S
