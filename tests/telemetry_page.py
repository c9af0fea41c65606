"""Writing a telemetry page as the C core does, from its declaration of it."""

import ctypes
import struct

from native import stats

Memory = ctypes.Array[ctypes.c_char]


def whole(address: int) -> Memory:
    """What is mapped there."""
    return (ctypes.c_char * stats.PAGE_BYTES).from_address(address)


def cell(memory: Memory, array: str, name: str, writer: int = 0) -> ctypes.c_uint64:
    """One counter, to read and to change."""
    (place,) = [one for one in stats.WRITER_ARRAYS if one.name == array]
    (field,) = [one for one in stats.FIELDS if (one.group, one.name) == (place.group, name)]
    start = stats.WRITERS_OFFSET + writer * stats.WRITER_BYTES + place.offset
    return ctypes.c_uint64.from_buffer(memory, start + 8 * field.offset)


def set_peer(memory: Memory, slot: int, **values: int | bytes) -> None:
    start = stats.PEERS_OFFSET + slot * stats.PEER_BYTES
    for field in stats.FIELDS:
        if field.group == "peer" and field.name in values:
            struct.pack_into(field.type, memory, start + field.offset, values[field.name])
