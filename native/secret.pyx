"""Wiping what held a secret, and deriving keys into memory that can be wiped."""

import os

from cpython.bytearray cimport PyByteArray_AS_STRING, PyByteArray_GET_SIZE
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t
from native.core cimport secret as c

SHARED_BYTES_MAX = 1  # Python keeps one object for each shorter value, for everybody


def wipe(*holders):
    """Overwrites bytearrays, and bytes objects that nobody else has: a library's answer, which
    would keep its content when it is freed."""
    for holder in holders:
        if isinstance(holder, bytearray):
            c.m13_secret_wipe(PyByteArray_AS_STRING(holder), PyByteArray_GET_SIZE(holder))
        elif isinstance(holder, bytes) and len(holder) > SHARED_BYTES_MAX:
            c.m13_secret_wipe(PyBytes_AS_STRING(holder), PyBytes_GET_SIZE(holder))
        elif not isinstance(holder, bytes):
            raise TypeError(f"cannot wipe a {type(holder).__name__}")


def derive(const uint8_t[::1] salt not None, const uint8_t[::1] secret not None,
           const uint8_t[::1] info not None, size_t length):
    """HKDF-SHA-512 into a new bytearray; salt, secret and info are not empty."""
    key = bytearray(length)
    cdef uint8_t *target = <uint8_t *>PyByteArray_AS_STRING(key)
    cdef int error = c.m13_secret_derive(&salt[0], salt.shape[0], &secret[0], secret.shape[0],
                                         &info[0], info.shape[0], target, length)
    if error:
        raise OSError(-error, f"HKDF-SHA-512: {os.strerror(-error)}")
    return key
