from typing import Final

SLOTS: Final[int]
MESSAGE_BYTES: Final[int]
STALE_NS: Final[int]
INCOMPLETE: Final[int]
COMPLETE: Final[int]
REFUSED: Final[int]

class Frag:
    def __init__(self, slots: int = ..., message_bytes: int = ...) -> None: ...
    def feed(self, context: int, payload: bytes, now_ns: int) -> tuple[int, bytes | None]: ...
    def reset(self) -> None: ...
