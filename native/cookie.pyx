"""Cookies: a MAC over a source address that costs the hub no state."""

import os

from libc.stdint cimport uint8_t, uint64_t
from native.core cimport cookie as c
from native.endpoint cimport Endpoint

BYTES = c.M13_COOKIE_BYTES
ROTATE_NS = c.M13_COOKIE_ROTATE_NS


cdef class Cookie:
    """The hub's rotating secret."""
    cdef c.m13_cookie cookie

    def __cinit__(self, uint64_t now_ns):
        cdef int error = c.m13_cookie_init(&self.cookie, now_ns)
        if error:
            raise OSError(-error, f"cookie secret: {os.strerror(-error)}")

    def tick(self, uint64_t now_ns):
        c.m13_cookie_tick(&self.cookie, now_ns)

    def make(self, Endpoint source not None):
        cdef uint8_t mac[<int>c.M13_COOKIE_BYTES]
        c.m13_cookie_make(&self.cookie, &source.endpoint, mac)
        return (<const char *>mac)[:sizeof(mac)]

    def check(self, Endpoint source not None, const unsigned char[::1] mac not None):
        if mac.shape[0] != c.M13_COOKIE_BYTES:
            raise ValueError("a cookie has 16 bytes")
        return c.m13_cookie_check(&self.cookie, &source.endpoint, &mac[0])

    def __dealloc__(self):
        c.m13_cookie_fini(&self.cookie)
