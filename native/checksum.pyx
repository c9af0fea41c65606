"""The Internet checksum."""

from libc.stdint cimport uint8_t, uint64_t
from native.core cimport checksum as c


def checksum(*pieces):
    """Of the pieces one after the other, as the two bytes that go into a header."""
    cdef uint64_t total = 0
    cdef bytes piece
    for piece in pieces:
        total = c.m13_checksum_add(total, <const uint8_t *>piece, len(piece))
    return int(c.m13_checksum_fold(total)).to_bytes(2, "little")
