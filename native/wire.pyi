from typing import Final, NamedTuple

Buffer = bytes | bytearray | memoryview

class Field(NamedTuple):
    name: str
    offset: int
    bytes: int

ETHERTYPE: Final[int]
MAGIC: Final[int]
VERSION: Final[int]
CLEAR: Final[int]
AEAD: Final[int]
ETHERNET_BYTES: Final[int]
HEADER_BYTES: Final[int]
FRAME_BYTES: Final[int]
OUTER_BYTES: Final[int]
OVERHEAD_BYTES: Final[int]
OVERHEAD6_BYTES: Final[int]
SEALED_OFFSET: Final[int]
KEY_BYTES: Final[int]
COUNTER_MAX: Final[int]
FLAGS: Final[dict[str, int]]
HUB_TO_NODE: Final[int]
NODE_TO_HUB: Final[int]
CLIENT_HELLO: Final[tuple[int, int]]
SERVER_HELLO: Final[tuple[int, int]]
FINISHED: Final[tuple[int, int]]
FRAGMENT_CHUNK_BYTES: Final[int]
FRAGMENT_CHUNK6_BYTES: Final[int]
FRAGMENT_TOTAL_MAX: Final[int]
FRAGMENT_MESSAGE_BYTES: Final[int]
FIELDS: Final[tuple[Field, ...]]

def stamp(
    frame: bytearray, source: Buffer, flags: int, payload_bytes: int, sequence: int
) -> None: ...
def fragment_total(message_bytes: int, chunk_bytes: int = ...) -> int: ...
