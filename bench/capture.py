"""A packet socket of our own on an interface, read by a thread as long as it is open."""

import contextlib
import socket
import threading
from types import TracebackType
from typing import Any, Self

from bench.namespace import Namespace

ETH_P_ALL, SOL_PACKET = 3, 263  # linux/if_ether.h, linux/socket.h
PACKET_OUTGOING = 4  # linux/if_packet.h: of a sender, and what this host sends
SO_RCVBUFFORCE = 33
BUFFER_BYTES = 64 << 20
RECORD_BYTES_MAX = 10 + 65535  # with a struct virtio_net_hdr before it


class PacketCapture:
    """With `with`. A subclass says in `take` what becomes of a packet; `options` are those of
    SOL_PACKET that are set before the first one."""

    def __init__(self, namespace: Namespace, interface: str, *options: int) -> None:
        with namespace.inside():
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
            self._socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER_BYTES)
            for option in options:
                self._socket.setsockopt(SOL_PACKET, option, 1)
            self._socket.bind((interface, ETH_P_ALL))
        self._socket.settimeout(0.05)
        self._is_stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._is_stopping.set()
        self._thread.join()
        self._socket.close()

    def take(self, data: bytes, sender: Any) -> None:
        """In the thread; `sender` is what recvfrom(2) says of a packet socket."""
        raise NotImplementedError

    def _run(self) -> None:
        while not self._is_stopping.is_set():
            with contextlib.suppress(TimeoutError):
                self.take(*self._socket.recvfrom(RECORD_BYTES_MAX))
