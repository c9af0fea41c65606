from typing import Final

SLOTS: Final[int]
STALE_NS: Final[int]
INCOMPLETE: Final[int]
COMPLETE: Final[int]
REFUSED: Final[int]

class Frag:
    def __init__(self) -> None: ...
    def feed(self, flags: int, payload: bytes, now_ns: int) -> tuple[int, bytes | None]: ...
    def reset(self) -> None: ...
