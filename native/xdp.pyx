"""An AF_XDP socket; frames go in and out by number, packets as bytes."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy
from native.core cimport xdp as c
from native.umem cimport Umem

cdef enum:
    BATCH = 256


cdef class Socket:
    """The socket of one queue, over `umem`. The interface is looked up in the caller's netns. A
    second queue's socket names the first as `sharing`, and where its share of the memory begins:
    addresses and frame numbers count from there. It is closed before the first."""

    def __cinit__(self, Umem umem not None, str interface not None, uint32_t queue=0, *,
                  uint32_t frame_bytes=4096, uint32_t slots=2048, bint zero_copy=True,
                  bint generic=False, Socket sharing=None, uint64_t first_byte=0):
        cdef bytes name = interface.encode()
        cdef c.m13_xdp *other = NULL if sharing is None else sharing.open()
        cdef c.m13_xdp_config config = c.m13_xdp_config(
            interface=name, queue=queue, umem=umem.ptr, umem_bytes=umem.bytes,
            frame_bytes=frame_bytes, fill_slots=slots, completion_slots=slots,
            receive_slots=slots, transmit_slots=slots, try_zero_copy=zero_copy, generic=generic,
            sharing=other, first_byte=first_byte,
        )
        cdef int error
        with nogil:
            error = c.m13_xdp_create(&self.ptr, &config)
        if error:
            raise OSError(-error, f"AF_XDP socket on {interface} queue {queue}")
        self.frame_bytes = frame_bytes
        self.first_byte = first_byte
        self.sharing = sharing
        self.umem = umem
        umem.children.add(self)

    cdef c.m13_xdp *open(self) except NULL:
        if self.ptr == NULL:
            raise ValueError("the AF_XDP socket is closed")
        return self.ptr

    @property
    def zero_copy(self):
        return bool(self.open().zero_copy)

    @property
    def zero_copy_error(self):
        """The errno for which zero-copy was not had; 0 when it was, or was not asked for."""
        return -self.open().zero_copy_error

    @property
    def transmit_budget(self):
        return self.open().transmit_budget

    def fileno(self):
        return self.open().fd

    def receive(self):
        """A list of (address, packet); the frames belong to the caller."""
        cdef c.m13_xdp_frame frames[BATCH]
        cdef uint32_t count = c.m13_xdp_receive(self.open(), frames, BATCH)
        cdef const uint8_t *memory = <const uint8_t *>self.umem.ptr + self.first_byte
        return [
            (frames[i].address, memory[frames[i].address:frames[i].address + frames[i].length])
            for i in range(count)
        ]

    def refill(self, list numbers not None):
        """Hands frames to the kernel to receive into; answers how many it had room for."""
        cdef uint32_t frames[BATCH]
        cdef uint32_t count = min(len(numbers), BATCH, c.m13_xdp_refill_space(self.open()))
        for i in range(count):
            frames[i] = numbers[i]
        c.m13_xdp_refill(self.ptr, frames, count)
        c.m13_xdp_wake_receive(self.ptr)
        return count

    def transmit(self, list packets not None):
        """Queues (address, packet) pairs; answers how many there was room for."""
        cdef c.m13_xdp_frame frames[BATCH]
        cdef uint32_t count = min(len(packets), BATCH, c.m13_xdp_transmit_space(self.open()))
        for i in range(count):
            frames[i] = self.write(packets[i][0], packets[i][1])
        c.m13_xdp_transmit(self.ptr, frames, count)
        return count

    cdef c.m13_xdp_frame write(self, uint64_t address, bytes packet) except *:
        cdef uint32_t length = <uint32_t>len(packet)
        if length == 0 or address % self.frame_bytes + length > self.frame_bytes:
            raise ValueError("a packet must be in one frame, and not empty")
        if self.first_byte + address + length > self.umem.bytes:
            raise ValueError("address outside the packet memory")
        memcpy(<uint8_t *>self.umem.ptr + self.first_byte + address, <const char *>packet, length)
        return c.m13_xdp_frame(address=address, length=length)

    def kick(self):
        """Makes the kernel send; OSError (ENETDOWN…) loses nothing."""
        cdef int error = c.m13_xdp_kick(self.open())
        if error:
            raise OSError(-error, "AF_XDP send")

    @property
    def transmit_pending(self):
        return c.m13_xdp_transmit_pending(self.open())

    def reclaim(self):
        """The numbers of frames whose packets were sent; they belong to the caller."""
        cdef uint32_t frames[BATCH]
        cdef uint32_t count = c.m13_xdp_reclaim(self.open(), frames, BATCH)
        return [frames[i] for i in range(count)]

    def statistics(self):
        cdef c.m13_xdp_statistics statistics
        cdef int error = c.m13_xdp_read_statistics(self.open(), &statistics)
        if error:
            raise OSError(-error, "AF_XDP statistics")
        return dict(statistics)

    def close(self):
        """Closes the socket; again is fine."""
        c.m13_xdp_destroy(self.ptr)
        self.ptr = NULL

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()

    def __dealloc__(self):
        c.m13_xdp_destroy(self.ptr)
