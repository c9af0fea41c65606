"""Cookies: they bind address and port, live two rotations at most, and differ between hubs."""

import pytest

from m13.endpoint import pack
from native.cookie import BYTES, ROTATE_NS, Cookie
from native.endpoint import Endpoint

SECRET = bytes(16)


def at(place, port=0):
    return Endpoint(place, port, secret=SECRET)


SOURCE = at(pack("10.0.0.1"), 443)
OTHERS = {
    "another address": at(pack("10.0.0.2"), 443),
    "another port": at(pack("10.0.0.1"), 444),
    "the ports' bytes swapped": at(pack("10.0.0.1"), 0xBB01),
    "IPv6 that ends alike": at(pack("2001:db8::a00:1"), 443),
    "a MAC of its first bytes": at(pack("10.0.0.1")[:6]),
}
START = 10**9


@pytest.fixture
def cookie():
    return Cookie(START)


def test_a_cookie_is_valid_for_its_source_only(cookie):
    mac = cookie.make(SOURCE)
    assert len(mac) == BYTES == 16
    assert cookie.check(SOURCE, mac)
    assert [name for name, other in OTHERS.items() if cookie.check(other, mac)] == []


def test_every_byte_of_an_ipv6_address_counts(cookie):
    address = pack("2001:db8:1:2:3:4:5:6")
    mac = cookie.make(at(address, 443))
    for index in range(16):
        other = bytearray(address)
        other[index] ^= 1
        assert not cookie.check(at(other, 443), mac)
    assert cookie.check(at(address, 443), mac)
    assert not cookie.check(at(address, 442), mac)


def test_cookies_of_macs_are_told_apart(cookie):
    mac = cookie.make(at(bytes([2, 0, 0, 0, 0, 1])))
    assert cookie.check(at(bytes([2, 0, 0, 0, 0, 1])), mac)
    assert not cookie.check(at(bytes([2, 0, 0, 0, 0, 2])), mac)


def test_every_bit_of_a_cookie_counts(cookie):
    mac = cookie.make(SOURCE)
    for bit in range(8 * BYTES):
        forged = bytearray(mac)
        forged[bit // 8] ^= 1 << bit % 8
        assert not cookie.check(SOURCE, forged)
    assert not cookie.check(SOURCE, bytes(BYTES))


def test_secrets_differ_between_hubs(cookie):
    assert not Cookie(START).check(SOURCE, cookie.make(SOURCE))


def test_secret_rotates_after_120_seconds_and_not_before(cookie):
    mac = cookie.make(SOURCE)
    cookie.tick(START + ROTATE_NS - 1)
    assert cookie.make(SOURCE) == mac
    cookie.tick(START + ROTATE_NS)
    assert cookie.make(SOURCE) != mac
    assert ROTATE_NS == 120 * 10**9


def test_a_cookie_outlives_one_rotation_but_not_two(cookie):
    first = cookie.make(SOURCE)
    cookie.tick(START + ROTATE_NS)
    second = cookie.make(SOURCE)
    assert cookie.check(SOURCE, first)
    assert cookie.check(SOURCE, second)
    cookie.tick(START + 2 * ROTATE_NS)
    assert not cookie.check(SOURCE, first)
    assert cookie.check(SOURCE, second)


def test_cookies_must_have_their_size(cookie):
    with pytest.raises(ValueError, match="16"):
        cookie.check(SOURCE, bytes(15))
