"""A single-producer single-consumer ring; elements go in and out as bytes."""

import os

from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport free
from native.core cimport ring as c

cdef enum:
    ALIGNMENT = 64
    BATCH_MAX = 64

cdef extern from "<sched.h>" nogil:
    int sched_yield()


cdef class Ring:
    """One thread may push, one may pop; the stress calls run without the GIL."""
    cdef c.m13_ring *ptr

    def __cinit__(self, uint32_t slots, uint32_t element_bytes):
        self.ptr = <c.m13_ring *>c.aligned_alloc(ALIGNMENT, sizeof(c.m13_ring))
        if self.ptr is NULL:
            raise MemoryError()
        cdef int error = c.m13_ring_init(self.ptr, slots, element_bytes)
        if error:
            free(self.ptr)
            self.ptr = NULL
            raise OSError(-error, f"ring of {slots} slots: {os.strerror(-error)}")

    def push(self, const unsigned char[::1] elements not None):
        """How many of the elements fitted."""
        cdef uint32_t count = elements.shape[0] // self.ptr.element_bytes
        if count * self.ptr.element_bytes != elements.shape[0]:
            raise ValueError(f"an element has {self.ptr.element_bytes} bytes")
        return c.m13_ring_push(self.ptr, &elements[0], count) if count else 0

    def pop(self, uint32_t count):
        """Up to `count` elements, one after the other."""
        cdef bytearray out = bytearray(count * self.ptr.element_bytes)
        cdef uint32_t popped = c.m13_ring_pop(self.ptr, <char *>out, count)
        return bytes(out[:popped * self.ptr.element_bytes])

    def __len__(self):
        return c.m13_ring_count(self.ptr)

    @property
    def space(self):
        return c.m13_ring_space(self.ptr)

    cdef eight_bytes(self, uint32_t batch):
        if self.ptr.element_bytes != sizeof(uint64_t) or not 0 < batch <= BATCH_MAX:
            raise ValueError("elements of 8 bytes, in batches of 1 to 64")

    def produce(self, uint64_t count, uint32_t batch):
        """Pushes the numbers below `count` in order, waiting for room."""
        cdef uint64_t numbers[BATCH_MAX]
        cdef uint64_t done = 0
        cdef uint32_t i, wanted, pushed
        self.eight_bytes(batch)
        with nogil:
            while done < count:
                wanted = <uint32_t>min(<uint64_t>batch, count - done)
                for i in range(wanted):
                    numbers[i] = done + i
                pushed = c.m13_ring_push(self.ptr, numbers, wanted)
                done += pushed
                if not pushed:
                    sched_yield()

    def consume(self, uint64_t count, uint32_t batch):
        """Pops `count` numbers; answers how many came in their place."""
        cdef uint64_t numbers[BATCH_MAX]
        cdef uint64_t done = 0, in_order = 0
        cdef uint32_t i, popped
        self.eight_bytes(batch)
        with nogil:
            while done < count:
                popped = c.m13_ring_pop(self.ptr, numbers, batch)
                for i in range(popped):
                    in_order += numbers[i] == done + i
                done += popped
                if not popped:
                    sched_yield()
        return in_order

    def __dealloc__(self):
        if self.ptr is not NULL:
            c.m13_ring_fini(self.ptr)
            free(self.ptr)
