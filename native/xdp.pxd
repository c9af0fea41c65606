from libc.stdint cimport uint32_t, uint64_t
from native.core cimport xdp as c
from native.umem cimport Umem


cdef class Socket:
    cdef c.m13_xdp *ptr
    cdef readonly Umem umem
    cdef readonly uint32_t frame_bytes
    cdef readonly uint64_t first_byte
    cdef readonly Socket sharing
    cdef object __weakref__

    cdef c.m13_xdp *open(self) except NULL
    cdef c.m13_xdp_frame write(self, uint64_t address, bytes packet) except *
