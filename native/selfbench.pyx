"""What this machine can do: copying, waking up, and descriptors that packets pass."""

import os
from collections import namedtuple

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from native.core cimport selfbench as c

BURST_MAX = c.M13_SELFBENCH_BURST_MAX
WINDOW_MAX = c.M13_SELFBENCH_WINDOW_MAX
MESSAGE_MAX = c.M13_SELFBENCH_MESSAGE_MAX

Flow = namedtuple("Flow", "calls bytes ns")


cdef check(int error, str what):
    if error:
        raise OSError(-error, f"{what}: {os.strerror(-error)}")


cdef flow(c.m13_selfbench_flow counted):
    return Flow(counted.calls, counted.bytes, counted.ns)


def copy(uint32_t packet_bytes, uint64_t duration_ns):
    """Packets copied between two packet memories that no cache near the core holds."""
    cdef c.m13_selfbench_flow copied
    cdef int error
    with nogil:
        error = c.m13_selfbench_copy(packet_bytes, duration_ns, &copied)
    check(error, "copying packets")
    return flow(copied)


def wakeup(uint64_t gap_ns, uint32_t count, int sleeper_core=-1, int ringer_core=-1):
    """Nanoseconds from each ring of a doorbell to its sleeper's first step."""
    cdef int cores[2]
    cdef int error
    cdef uint64_t *samples = <uint64_t *>calloc(max(1, count), sizeof(uint64_t))
    if samples is NULL:
        raise MemoryError()
    cores[:] = [sleeper_core, ringer_core]
    try:
        with nogil:
            error = c.m13_selfbench_wakeup(cores, gap_ns, samples, count)
        check(error, "waking a thread")
        return [samples[i] for i in range(count)]
    finally:
        free(samples)


def exchange(int send_fd, int receive_fd, const unsigned char[::1] message not None,
             uint32_t burst, uint64_t duration_ns):
    """(sent, received): the message in bursts through one descriptor, then out of the other."""
    cdef c.m13_selfbench_flow sent, received
    cdef const uint8_t *data = &message[0]
    cdef uint32_t size = message.shape[0]
    cdef int error
    with nogil:
        error = c.m13_selfbench_exchange(
            send_fd, receive_fd, data, size, burst, duration_ns, &sent, &received
        )
    check(error, "sending packets")
    return flow(sent), flow(received)


def echo(int descriptor, const unsigned char[::1] request not None, *, bint has_ip_header,
         uint32_t window, uint64_t duration_ns, uint64_t patience_ns):
    """(sent, received): echo requests, so many under way, and their replies."""
    cdef c.m13_selfbench_flow sent, received
    cdef c.m13_selfbench_echo_plan plan = c.m13_selfbench_echo_plan(
        request=&request[0], bytes=request.shape[0], has_ip_header=has_ip_header, window=window,
        duration_ns=duration_ns, patience_ns=patience_ns,
    )
    cdef int error
    with nogil:
        error = c.m13_selfbench_echo(descriptor, &plan, &sent, &received)
    check(error, "sending echo requests")
    return flow(sent), flow(received)
