from collections.abc import Sequence
from types import TracebackType
from typing import Final, NamedTuple, Self

Buffer = bytes | bytearray | memoryview

REQUESTS: Final[int]
ANSWERS: Final[int]
SLOTS: Final[int]
PAYLOAD_BYTES: Final[int]
NAME_BYTES: Final[int]
PREFIXES_MAX: Final[int]

ASK_START: Final[int]
ASK_CLIENT_HELLO: Final[int]
ASK_SERVER_HELLO: Final[int]
ASK_FINISHED: Final[int]
ASK_FORGET: Final[int]
SAY_CLIENT_HELLO: Final[int]
SAY_SERVER_HELLO: Final[int]
SAY_ESTABLISHED: Final[int]
SAY_REFUSED: Final[int]

MALFORMED: Final[int]
NOT_ADMITTED: Final[int]
BAD_SIGNATURE: Final[int]
HUB_KEY_MISMATCH: Final[int]
HUB_KEY_UNKNOWN: Final[int]
VERSION_REFUSED: Final[int]
NO_STATE: Final[int]
INTERNAL: Final[int]
HUB_FULL: Final[int]

class Message(NamedTuple):
    kind: int
    peer: int
    generation: int
    payload: bytes

class Established(NamedTuple):
    handshake_version: int
    prefix_bits: int
    address: bytes
    fingerprint: bytes
    send_key: bytes
    receive_key: bytes
    name: str
    finished: bytes
    address6: bytes
    prefixes: tuple[tuple[bytes, int], ...]

class Refused(NamedTuple):
    reason: int
    fingerprint: bytes

def pack_established(
    handshake_version: int,
    prefix_bits: int,
    address: Buffer,
    fingerprint: Buffer,
    send_key: Buffer,
    receive_key: Buffer,
    name: str,
    finished: Buffer = b"",
    address6: Buffer = ...,
    prefixes: Sequence[tuple[bytes, int]] = (),
) -> bytearray: ...
def unpack_established(payload: Buffer) -> Established: ...
def pack_refused(reason: int, fingerprint: Buffer = ...) -> bytes: ...
def unpack_refused(payload: Buffer) -> Refused: ...

class Channel:
    @staticmethod
    def create() -> Channel: ...
    @staticmethod
    def attach(memory_fd: int, request_fd: int, answer_fd: int) -> Channel: ...
    def send(
        self, direction: int, kind: int, peer: int, generation: int, payload: Buffer
    ) -> bool: ...
    def receive(self, direction: int) -> Message | None: ...
    @property
    def memory_fd(self) -> int: ...
    @property
    def request_fd(self) -> int: ...
    @property
    def answer_fd(self) -> int: ...
    def progress(self, direction: int) -> tuple[int, int]: ...
    @property
    def malformed_count(self) -> int: ...
    @property
    def pointer(self) -> int: ...
    def close(self) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...
