from native.core cimport endpoint as c


cdef class Endpoint:
    cdef c.m13_endpoint endpoint
