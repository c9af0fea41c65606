"""Cutting and joining packets at the TUN, on bytes."""

from libc.stdint cimport uint8_t, uint32_t
from libc.stdlib cimport free, malloc
from native.core cimport offload as c

HEADER_BYTES = c.M13_OFFLOAD_HEADER_BYTES
PACKETS_MAX = c.M13_MERGE_PACKETS_MAX
FLOWS_MAX = c.M13_MERGE_FLOWS_MAX


def split(bytes data):
    """The packets that a read of the TUN stands for; None when it contradicts itself."""
    cdef c.m13_split state
    cdef bytearray out
    if not c.m13_split_begin(&state, data, <uint32_t>len(data)):
        return None
    packets = []
    while c.m13_split_next_bytes(&state):
        out = bytearray(c.m13_split_next_bytes(&state))
        c.m13_split_next(&state, <uint8_t *><char *>out)
        packets.append(bytes(out))
    return packets


cdef collect(c.m13_merge *merge):
    c.m13_merge_finish(merge)
    written = b"".join(
        (<uint8_t *>merge.pieces[i].iov_base)[:merge.pieces[i].iov_len]
        for i in range(merge.count + 1)
    )
    return written, [merge.origin[i] for i in range(merge.count)]


def merge(packets, bint udp_stays_alone=False):
    """The writes that a run of packets becomes: (bytes written, indices of its packets)."""
    cdef c.m13_merge_set state
    cdef c.m13_merge *fresh
    cdef c.m13_merge *leaving
    cdef bytearray packet
    cdef uint32_t index
    cdef size_t count = len(packets)
    cdef c.m13_merge *room = <c.m13_merge *>malloc((count + 1) * sizeof(c.m13_merge))
    if room == NULL:
        raise MemoryError
    kept = [bytearray(item) for item in packets]
    state.count = 0
    state.udp_stays_alone = udp_stays_alone
    writes = []
    try:
        for index in range(count):
            packet = kept[index]
            if c.m13_merge_join(&state, <uint8_t *><char *>packet, <uint32_t>len(packet), index):
                continue
            fresh = &room[index]
            leaving = c.m13_merge_open(&state, fresh, <uint8_t *><char *>packet,
                                       <uint32_t>len(packet), index)
            if leaving != NULL:
                writes.append(collect(leaving))
        for index in range(state.count):
            writes.append(collect(state.open[index]))
    finally:
        free(room)
    return writes
