"""Reassembly of fragmented messages."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from native.core cimport frag as c

SLOTS = c.M13_FRAG_SLOTS
MESSAGE_BYTES = c.M13_FRAGMENT_MESSAGE_BYTES
STALE_NS = c.M13_FRAG_STALE_NS
INCOMPLETE = c.M13_FRAG_INCOMPLETE
COMPLETE = c.M13_FRAG_COMPLETE
REFUSED = c.M13_FRAG_REFUSED


cdef class Frag:
    """The slots of one peer, with an arena of their own."""
    cdef c.m13_frag frag
    cdef uint8_t *arena

    def __cinit__(self, uint32_t slots=SLOTS, uint32_t message_bytes=MESSAGE_BYTES):
        if not slots or message_bytes % 8:
            raise ValueError("at least one slot, messages of a multiple of 8 bytes")
        self.arena = <uint8_t *>calloc(1, c.M13_FRAG_ARENA_BYTES(slots, message_bytes))
        if self.arena is NULL:
            raise MemoryError()
        c.m13_frag_init(&self.frag, self.arena, slots, message_bytes)

    def feed(self, uint64_t context, bytes payload not None, uint64_t now_ns):
        """(verdict, message): bytes when COMPLETE, else None."""
        cdef c.m13_frag_message message
        verdict = c.m13_frag_feed(&self.frag, context, <const uint8_t *>payload, len(payload),
                                  now_ns, &message)
        if verdict != c.M13_FRAG_COMPLETE:
            return verdict, None
        return verdict, (<const char *>message.bytes)[:message.length]

    def reset(self):
        c.m13_frag_reset(&self.frag)

    def __dealloc__(self):
        free(self.arena)
