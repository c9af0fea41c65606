from typing import Any

from native.channel import Channel
from native.event import Event
from native.umem import Umem

ARRIVALS: int
READS: int
BUFFERS: int
ARENA_BYTES: int

class Reactor:
    def __init__(
        self,
        settings: Any,
        arena: Umem,
        channel: Channel,
        page: Any,
        tun_fd: int,
        socket_fd: int,
        mac: bytes,
        *,
        family: int = 0,
        l2_fd: int = -1,
        hub: tuple[bytes, int] | None = None,
    ) -> None: ...
    @property
    def aead_backend(self) -> str: ...
    @property
    def event_fd(self) -> int: ...
    def run(self) -> None: ...
    def stop(self) -> None: ...
    def events(self) -> list[Event]: ...
    def expel(self, peer: int, generation: int) -> bool: ...
    def renew(self, peer: int, generation: int, configure: bool = False) -> bool: ...
    def settle(self) -> int: ...
    def close(self) -> None: ...
