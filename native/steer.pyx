"""The steering program: loaded, attached, told its addresses and sockets."""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from native.core cimport steer as c

ADDRESSES_MAX = c.M13_STEER_ADDRESSES_MAX
ETHERTYPE = c.M13_STEER_ETHERTYPE
MODES = {"auto": c.M13_STEER_AUTO, "native": c.M13_STEER_NATIVE, "generic": c.M13_STEER_GENERIC}
VERDICTS = {
    c.m13_steer_verdict_name(<c.m13_steer_verdict>i).decode().lower():
        c.m13_steer_verdict_text(<c.m13_steer_verdict>i).decode()
    for i in range(c.M13_STEER_VERDICT_COUNT)
}


cdef const uint8_t *checked(bytes packed) except NULL:
    if len(packed) != sizeof(c.m13_steer_address):
        raise ValueError("an address is 16 bytes, IPv4 mapped into IPv6")
    return packed


cdef class Steer:
    """A loaded steering program; closing it, or the end of the process, detaches it."""

    def __cinit__(self, str object_path not None, uint16_t port):
        cdef char why[256]
        cdef int error = c.m13_steer_create(&self.ptr, object_path.encode(), port, why, sizeof(why))
        if error:
            raise OSError(-error, why.decode(errors="replace"))

    cdef c.m13_steer *open(self) except NULL:
        if self.ptr == NULL:
            raise ValueError("the steering program is closed")
        return self.ptr

    def attach(self, int interface_index, str mode="auto"):
        """Answers "native" or "generic"; `native_error` is then the errno that excluded native."""
        cdef c.m13_steer_mode chosen = c.M13_STEER_AUTO
        cdef int native_error = 0
        cdef int error = c.m13_steer_attach(
            self.open(), interface_index, <c.m13_steer_mode>MODES[mode], &chosen, &native_error
        )
        if error:
            raise OSError(-error, "attaching the steering program")
        self.native_error = -native_error
        return "native" if chosen == c.M13_STEER_NATIVE else "generic"

    def detach(self):
        c.m13_steer_detach(self.open())

    def set_socket(self, uint32_t queue, int descriptor):
        cdef int error = c.m13_steer_set_socket(self.open(), queue, descriptor)
        if error:
            raise OSError(-error, f"registering the AF_XDP socket of queue {queue}")

    def add_address(self, bytes packed not None):
        cdef int error = c.m13_steer_add_address(self.open(), checked(packed))
        if error:
            raise OSError(-error, "adding an address to the steering program")

    def remove_address(self, bytes packed not None):
        cdef int error = c.m13_steer_remove_address(self.open(), checked(packed))
        if error:
            raise OSError(-error, "removing an address from the steering program")

    def counters(self):
        """Packets by verdict since the program was loaded."""
        cdef uint64_t counts[<int>c.M13_STEER_VERDICT_COUNT]
        cdef int error = c.m13_steer_counters(self.open(), counts)
        if error:
            raise OSError(-error, "reading the steering counters")
        return {name: counts[i] for i, name in enumerate(VERDICTS)}

    def test(self, bytes frame not None):
        """Runs one frame through the program without a network; True when it is redirected."""
        cdef uint32_t action = 0
        cdef int error = c.m13_steer_test(
            self.open(), <const uint8_t *>frame, <uint32_t>len(frame), &action
        )
        if error:
            raise OSError(-error, "test run of the steering program")
        return action == c.XDP_REDIRECT

    def close(self):
        """Detaches and unloads; again is fine."""
        c.m13_steer_destroy(self.ptr)
        self.ptr = NULL

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()

    def __dealloc__(self):
        c.m13_steer_destroy(self.ptr)
