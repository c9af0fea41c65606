"""The packet memory that an AF_XDP socket and the slab share."""

from weakref import WeakSet

from native.core cimport umem as c


cdef class Umem:
    """At least `bytes` of zeroed memory; `huge` tells whether reserved huge pages hold it."""

    def __cinit__(self, c.uint64_t bytes):
        cdef c.bool huge = False
        cdef int error = c.m13_umem_map(bytes, &self.ptr, &huge)
        if error:
            raise OSError(-error, f"packet memory of {bytes} bytes")
        self.bytes = bytes
        self.huge = huge
        self.children = WeakSet()

    def populate(self):
        """Takes from the kernel, now, what packets would otherwise have to wait for one by one."""
        with nogil:
            c.m13_umem_populate(self.ptr, self.bytes)

    def close(self):
        """Closes the sockets that use the memory, then unmaps it; again is fine."""
        if self.ptr == NULL:
            return
        for child in list(self.children):
            child.close()
        c.m13_umem_unmap(self.ptr, self.bytes)
        self.ptr = NULL

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()

    def __dealloc__(self):
        c.m13_umem_unmap(self.ptr, self.bytes)
