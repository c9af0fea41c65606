"""AES-256-GCM over frames, by vectors, through one of the built-in backends."""

import os
from collections import namedtuple

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from native.core cimport aead as c
from native.core cimport wire

cdef extern from "clock.h" nogil:
    uint64_t m13_clock_now_ns()

cdef enum:
    TIMED_FRAME_BYTES = 4096

Timing = namedtuple("Timing", "seal_ns open_ns")
VECTOR = c.M13_AEAD_VECTOR


cdef backend_names():
    names = []
    while c.m13_aead_backends[len(names)] is not NULL:
        names.append(c.m13_aead_backends[len(names)].name.decode())
    return tuple(names)


# Built in, best first; the processor may still lack what one needs.
BACKENDS = backend_names()


cdef uint32_t fill(c.m13_aead_job *jobs, c.m13_aead_key *key, list frames) except? 0xFFFFFFFF:
    cdef bytearray frame
    if len(frames) > c.M13_AEAD_VECTOR:
        raise ValueError(f"a vector has at most {VECTOR} frames")
    for i, frame in enumerate(frames):
        if len(frame) < wire.M13_WIRE_FRAME_BYTES:
            raise ValueError("a frame has at least 62 bytes")
        jobs[i].key = key
        jobs[i].header = <wire.m13_wire_header *>(<char *>frame + wire.M13_WIRE_ETHERNET_BYTES)
        jobs[i].bytes = len(frame) - wire.M13_WIRE_ETHERNET_BYTES
        jobs[i].authentic = False
    return len(frames)


cdef class Aead:
    """One backend, for one thread. Frames are bytearrays and change in place."""

    def __cinit__(self, str name="auto"):
        cdef int error = c.m13_aead_create(&self.aead, name.encode())
        if error:
            raise OSError(-error, f"AEAD backend {name}: {os.strerror(-error)}")

    cdef c.m13_aead *backend(self) except NULL:
        if self.aead.backend is NULL:
            raise ValueError("the AEAD backend is closed")
        return &self.aead

    @property
    def name(self):
        return self.backend().backend.name.decode()

    cdef run(self, const unsigned char[::1] secret, list frames, bint sealing):
        cdef c.m13_aead_key key
        cdef c.m13_aead_job jobs[<int>c.M13_AEAD_VECTOR]
        cdef c.m13_aead *aead = self.backend()
        cdef uint32_t count = fill(jobs, &key, frames)
        if secret.shape[0] != wire.M13_WIRE_KEY_BYTES:
            raise ValueError("a key has 32 bytes")
        if c.m13_aead_key_init(aead, &key, &secret[0]):
            raise MemoryError()
        if sealing:
            c.m13_aead_seal(aead, jobs, count)
        else:
            c.m13_aead_open(aead, jobs, count)
        c.m13_aead_key_fini(aead, &key)
        return [jobs[i].authentic for i in range(count)]

    def seal(self, const unsigned char[::1] key not None, list frames not None):
        """The nonce stands in each frame already."""
        self.run(key, frames, True)

    def open(self, const unsigned char[::1] key not None, list frames not None):
        """Which frames are authentic; the others are garbage now."""
        return self.run(key, frames, False)

    def measure(self, uint32_t frame_bytes, uint32_t vectors):
        """Nanoseconds per frame of this length, over that many full vectors."""
        cdef c.m13_aead_key key
        cdef c.m13_aead_job jobs[<int>c.M13_AEAD_VECTOR]
        cdef c.m13_aead *aead = self.backend()
        cdef uint8_t secret[32]
        cdef uint8_t *memory
        cdef uint64_t seal_ns = 0, open_ns = 0, begun, sealed
        cdef uint32_t _round, i
        if not wire.M13_WIRE_FRAME_BYTES <= frame_bytes <= TIMED_FRAME_BYTES or not vectors:
            raise ValueError("frames of 62 to 4096 bytes, at least one vector")
        secret[:] = [0] * 32
        memory = <uint8_t *>calloc(c.M13_AEAD_VECTOR, TIMED_FRAME_BYTES)
        if memory is NULL or c.m13_aead_key_init(aead, &key, secret):
            free(memory)
            raise MemoryError()
        with nogil:
            for i in range(<uint32_t>c.M13_AEAD_VECTOR):
                jobs[i].key = &key
                jobs[i].header = <wire.m13_wire_header *>(memory + i * TIMED_FRAME_BYTES)
                jobs[i].bytes = frame_bytes - wire.M13_WIRE_ETHERNET_BYTES
            for _round in range(vectors):
                begun = m13_clock_now_ns()
                c.m13_aead_seal(aead, jobs, c.M13_AEAD_VECTOR)
                sealed = m13_clock_now_ns()
                c.m13_aead_open(aead, jobs, c.M13_AEAD_VECTOR)
                open_ns += m13_clock_now_ns() - sealed
                seal_ns += sealed - begun
            c.m13_aead_key_fini(aead, &key)
            free(memory)
        frames = vectors * VECTOR
        return Timing(seal_ns / frames, open_ns / frames)

    def close(self):
        c.m13_aead_destroy(&self.aead)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()

    def __dealloc__(self):
        c.m13_aead_destroy(&self.aead)
