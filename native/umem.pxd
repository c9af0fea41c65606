from libc.stdint cimport uint64_t


cdef class Umem:
    cdef void *ptr
    cdef readonly uint64_t bytes
    cdef readonly bint huge
    cdef object children
    cdef object __weakref__
