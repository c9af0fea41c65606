"""The search for the largest frame that a path carries."""

from libc.stdint cimport uint16_t, uint32_t, uint64_t
from native.core cimport pmtu as c

FRAME_BYTES_MIN = c.M13_PMTU_FRAME_BYTES_MIN
TRIES = c.M13_PMTU_TRIES
TRIES_UNANSWERED = c.M13_PMTU_TRIES_UNANSWERED
VERIFY_NS = c.M13_PMTU_VERIFY_NS
RAISE_FIRST_NS = c.M13_PMTU_RAISE_FIRST_NS
RAISE_MAX_NS = c.M13_PMTU_RAISE_MAX_NS


cdef class Pmtu:
    """One direction of one peer. Idle until begin()."""
    cdef c.m13_pmtu pmtu

    @property
    def frame_bytes(self):
        return self.pmtu.frame_bytes

    @property
    def is_settled(self):
        return c.m13_pmtu_is_settled(&self.pmtu)

    @property
    def due_ns(self):
        return self.pmtu.due_ns

    def begin(self, uint16_t frame_bytes_max, uint64_t now_ns):
        if frame_bytes_max < FRAME_BYTES_MIN:
            raise ValueError(f"at least {FRAME_BYTES_MIN} bytes")
        c.m13_pmtu_begin(&self.pmtu, frame_bytes_max, now_ns)

    def restart(self, uint64_t now_ns):
        c.m13_pmtu_restart(&self.pmtu, now_ns)

    def due(self, uint64_t now_ns, uint64_t sent_packets, uint32_t random):
        """Probes to be sent now: (id, bytes of the frame)."""
        cdef c.m13_pmtu_probe probes[c.M13_PMTU_PROBES_MAX]
        count = c.m13_pmtu_due(&self.pmtu, now_ns, sent_packets, random, probes)
        return [(probes[i].id, probes[i].frame_bytes) for i in range(count)]

    def acknowledge(self, uint16_t id, uint16_t frame_bytes, uint64_t now_ns):
        """False: not an answer to a probe of the present search."""
        return c.m13_pmtu_acknowledge(&self.pmtu, id, frame_bytes, now_ns)
