"""Wiping and deriving, against HKDF written by hand from RFC 5869."""

import hmac
import os

import pytest

from native import secret


def hkdf(salt, key, info, length):
    extracted = hmac.digest(salt, key, "sha512")
    made, block, number = b"", b"", 0
    while len(made) < length:
        number += 1
        block = hmac.digest(extracted, block + info + bytes([number]), "sha512")
        made += block
    return made[:length]


@pytest.mark.parametrize("length", [1, 32, 64, 65, 200])
def test_derived_keys_are_those_of_the_rfc(length):
    salt, key = os.urandom(64), os.urandom(32)
    derived = secret.derive(salt, key, b"M13 test", length)
    assert isinstance(derived, bytearray)
    assert derived == hkdf(salt, key, b"M13 test", length)


def test_whatever_held_a_secret_is_zero_afterwards():
    for holder in (bytearray(os.urandom(32)), os.urandom(32), bytearray(), b""):
        secret.wipe(holder)
        assert not any(holder)


def test_what_cannot_be_wiped_is_an_error():
    shared = b"\x07"
    secret.wipe(shared)
    assert shared[0] == 7  # Python has one object for it, for everybody
    for holder in ("text", memoryview(bytes(4)), None):
        with pytest.raises(TypeError, match="cannot wipe"):
            secret.wipe(holder)
