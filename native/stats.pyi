from typing import Final, NamedTuple

class Field(NamedTuple):
    group: str
    name: str
    type: str
    offset: int
    text: str

class Array(NamedTuple):
    name: str
    group: str
    offset: int

MAGIC: Final[int]
VERSION: Final[int]
PAGE_BYTES: Final[int]

FIELDS: Final[tuple[Field, ...]]
STATES: Final[tuple[str, ...]]

WRITERS_OFFSET: Final[int]
WRITER_COUNT: Final[int]
WRITER_BYTES: Final[int]
WRITER_WORKER: Final[int]
WRITER_TUN: Final[int]
WRITERS_WORKER: Final[int]
WRITER_ARRAYS: Final[tuple[Array, ...]]

PEERS_OFFSET: Final[int]
PEER_COUNT: Final[int]
PEERS_WORKER: Final[int]
PEER_BYTES: Final[int]
