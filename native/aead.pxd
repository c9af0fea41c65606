from native.core cimport aead as c


cdef class Aead:
    cdef c.m13_aead aead
    cdef c.m13_aead *backend(self) except NULL
    cdef run(self, const unsigned char[::1] secret, list frames, bint sealing)
