"""Capabilities of the calling thread, given up and never gained."""

import os

from libc.stdint cimport uint64_t
from native.core cimport capability as c


cdef uint64_t mask(names) except? 0:
    cdef uint64_t bits = 0
    for name in names:
        number = c.m13_capability_number(name.encode())
        if number < 0:
            raise ValueError(f"no capability is called {name}")
        bits |= <uint64_t>1 << number
    return bits


def reduce(*, permitted=(), effective=(), bounding=()):
    """Of each set only these names ("net_admin") remain, as far as they were there; of inheritable
    and ambient none. OSError when the kernel refuses."""
    cdef c.m13_capability_sets keep
    keep.permitted = mask(permitted)
    keep.effective = mask(effective)
    keep.bounding = mask(bounding)
    error = c.m13_capability_reduce(&keep)
    if error:
        raise OSError(-error, f"capabilities: {os.strerror(-error)}")
