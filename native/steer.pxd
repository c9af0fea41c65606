from native.core cimport steer as c


cdef class Steer:
    cdef c.m13_steer *ptr
    cdef readonly int native_error

    cdef c.m13_steer *open(self) except NULL
