"""Reports of what arrived: made from a replay window, and what a sender learns from them."""

from libc.stdint cimport uint64_t
from libc.string cimport memcpy, memset
from native.core cimport loss as c

MOMENTS = c.M13_LOSS_MOMENTS
TAKEN, OLD, FALSE = c.M13_LOSS_TAKEN, c.M13_LOSS_OLD, c.M13_LOSS_FALSE
REPORT_BYTES = sizeof(c.m13_loss_report)


cdef class Arrivals:
    """The receiving end of one key, installed at time 0."""

    cdef c.m13_replay replay
    cdef uint64_t heard_ns

    def __cinit__(self):
        c.m13_replay_init(&self.replay)

    def arrive(self, uint64_t counter, uint64_t now_ns):
        """False when it had arrived before, or is too old."""
        cdef bint fresh = c.m13_replay_advance(&self.replay, counter)
        if fresh:
            self.heard_ns = now_ns
        return fresh

    @property
    def missing(self):
        return c.m13_loss_missing(&self.replay)

    def report(self, uint64_t now_ns):
        """The payload of FEEDBACK; something must have arrived."""
        cdef c.m13_loss_report report
        if not self.replay.next:
            raise ValueError("nothing has arrived")
        report = c.m13_loss_describe(&self.replay, 0, self.heard_ns, now_ns)
        return (<const char *>&report)[:sizeof(report)]


cdef class Departures:
    """The sending end: when frames left, and what reports say about them."""

    cdef c.m13_loss loss

    def __cinit__(self):
        memset(&self.loss, 0, sizeof(self.loss))

    def note(self, uint64_t counter, uint64_t now_ns):
        """A frame leaves; when the next one is worth noting."""
        return c.m13_loss_note(&self.loss, counter, now_ns)

    def learn(self, const unsigned char[::1] payload, uint64_t next, uint64_t now_ns):
        """A report about a key of which the counters below `next` were sent: the verdict."""
        cdef c.m13_loss_report report
        if payload.shape[0] != <Py_ssize_t>sizeof(report):
            raise ValueError(f"a report is {sizeof(report)} bytes")
        memcpy(&report, &payload[0], sizeof(report))
        return c.m13_loss_learn(&self.loss, &report, next, now_ns)

    def renew(self):
        """The next key."""
        c.m13_loss_renew(&self.loss)

    @property
    def rtt_ns(self):
        return self.loss.rtt_ns

    @property
    def rtt_deviation_ns(self):
        return self.loss.rtt_deviation_ns

    @property
    def per_million(self):
        return self.loss.per_million

    @property
    def total(self):
        return c.m13_loss_total(&self.loss)
