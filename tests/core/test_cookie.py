"""Cookies: they bind address and port, live two rotations at most, and differ between hubs."""

import pytest

from native.cookie import BYTES, ROTATE_NS, Cookie

ADDRESS, PORT = 0x0100000A, 0xBB01
START = 10**9


@pytest.fixture
def cookie():
    return Cookie(START)


def test_a_cookie_is_valid_for_its_source_only(cookie):
    mac = cookie.make(ADDRESS, PORT)
    assert len(mac) == BYTES == 16
    assert cookie.check(ADDRESS, PORT, mac)
    assert not cookie.check(ADDRESS + 1, PORT, mac)
    assert not cookie.check(ADDRESS, PORT + 1, mac)


def test_every_bit_of_a_cookie_counts(cookie):
    mac = cookie.make(ADDRESS, PORT)
    for bit in range(8 * BYTES):
        forged = bytearray(mac)
        forged[bit // 8] ^= 1 << bit % 8
        assert not cookie.check(ADDRESS, PORT, forged)
    assert not cookie.check(ADDRESS, PORT, bytes(BYTES))


def test_secrets_differ_between_hubs(cookie):
    assert not Cookie(START).check(ADDRESS, PORT, cookie.make(ADDRESS, PORT))


def test_secret_rotates_after_120_seconds_and_not_before(cookie):
    mac = cookie.make(ADDRESS, PORT)
    cookie.tick(START + ROTATE_NS - 1)
    assert cookie.make(ADDRESS, PORT) == mac
    cookie.tick(START + ROTATE_NS)
    assert cookie.make(ADDRESS, PORT) != mac
    assert ROTATE_NS == 120 * 10**9


def test_a_cookie_outlives_one_rotation_but_not_two(cookie):
    first = cookie.make(ADDRESS, PORT)
    cookie.tick(START + ROTATE_NS)
    second = cookie.make(ADDRESS, PORT)
    assert cookie.check(ADDRESS, PORT, first)
    assert cookie.check(ADDRESS, PORT, second)
    cookie.tick(START + 2 * ROTATE_NS)
    assert not cookie.check(ADDRESS, PORT, first)
    assert cookie.check(ADDRESS, PORT, second)


def test_cookies_must_have_their_size(cookie):
    with pytest.raises(ValueError, match="16"):
        cookie.check(ADDRESS, PORT, bytes(15))
