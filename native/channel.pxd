from native.core cimport channel as c

cdef class Channel:
    cdef c.m13_channel *ptr
    cdef c.m13_channel_message scratch
    cdef int alive(self) except -1
