"""A session: its keys, its send counter and its replay window."""

cimport cython
from libc.stdint cimport uint8_t, uint64_t
from libc.stdlib cimport free
from libc.string cimport memset
from native.aead cimport Aead
from native.core cimport ring
from native.core cimport session as c
from native.core cimport wire

cdef enum:
    ALIGNMENT = 64


@cython.no_gc_clear  # the backend must still be there when the keys are wiped
cdef class Session:
    """Uses the backend; close the session first."""
    cdef c.m13_session *ptr
    cdef Aead aead

    def __cinit__(self, Aead aead not None, uint8_t version, uint8_t key_phase,
                  const unsigned char[::1] send_key not None,
                  const unsigned char[::1] receive_key not None):
        if not send_key.shape[0] == receive_key.shape[0] == wire.M13_WIRE_KEY_BYTES:
            raise ValueError("a key has 32 bytes")
        self.ptr = <c.m13_session *>ring.aligned_alloc(ALIGNMENT, sizeof(c.m13_session))
        if self.ptr is NULL:
            raise MemoryError()
        memset(self.ptr, 0, sizeof(c.m13_session))
        self.aead = aead
        if c.m13_session_init(self.ptr, aead.backend(), version, key_phase, &send_key[0],
                              &receive_key[0], 0):
            raise MemoryError()

    def number(self, bytearray frame not None, int direction):
        """Key phase, nonce and sequence of the next frame."""
        if len(frame) < wire.M13_WIRE_FRAME_BYTES or c.m13_session_exhausted(self.ptr):
            raise ValueError("a frame has at least 62 bytes, and the session a number left")
        c.m13_session_number(
            self.ptr, <wire.m13_wire_header *>(<char *>frame + wire.M13_WIRE_ETHERNET_BYTES),
            <wire.m13_wire_direction>direction)

    @property
    def exhausted(self):
        return c.m13_session_exhausted(self.ptr)

    @property
    def valid(self):
        return self.ptr.valid

    @property
    def send_counter(self):
        return self.ptr.send_counter

    @send_counter.setter
    def send_counter(self, uint64_t value):
        self.ptr.send_counter = value

    def memory(self):
        """The structure's bytes, to look for keys that should be gone."""
        return (<const char *>self.ptr)[:sizeof(c.m13_session)]

    def close(self):
        """Wipes the keys; again is fine."""
        if self.ptr is not NULL and self.ptr.valid:
            c.m13_session_fini(self.ptr, self.aead.backend())

    def __dealloc__(self):
        self.close()
        free(self.ptr)
