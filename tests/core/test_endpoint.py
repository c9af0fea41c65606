"""Endpoints: told apart by what tells peers apart, under a hash that OpenSSL computes alike."""

import os
import random
import shutil
import subprocess

import pytest

from m13.endpoint import host, pack, place, with_port
from native.endpoint import IPV4, IPV6, L2, Endpoint, hash64, overhead_bytes

SECRET = bytes(range(16))
MAC = bytes([2, 0, 0, 0, 0, 1])
# Aumasson and Bernstein, "SipHash", appendix A and the vectors beside their code: message 00 01 ..
SIPHASH = {0: 0x726FDB47DD0E0E31, 1: 0x74F839C593DC67FD, 2: 0x0D6C8009D9A94F5A}
SIPHASH |= {3: 0x85676696D7FB7E2D, 15: 0xA129CA6149BE45E5}


def at(where, port=0, secret=SECRET):
    return Endpoint(pack(where) if isinstance(where, str) else where, port, secret=secret)


@pytest.mark.parametrize(("length", "value"), SIPHASH.items())
def test_hash_is_siphash_2_4(length, value):
    assert hash64(SECRET, bytes(range(length))) == value


@pytest.mark.skipif(not shutil.which("openssl"), reason="no openssl command")
@pytest.mark.parametrize("length", [7, 8, 9, 16, 18, 24, 63])
def test_hash_is_what_openssl_computes(length):
    key, data = os.urandom(16), os.urandom(length)
    options = ["-macopt", "size:8", "-macopt", f"hexkey:{key.hex()}"]
    done = subprocess.run(
        ["openssl", "mac", *options, "SIPHASH"], input=data, capture_output=True, check=True
    )
    assert hash64(key, data) == int.from_bytes(bytes.fromhex(done.stdout.decode()), "little")


def test_a_key_has_sixteen_bytes():
    with pytest.raises(ValueError, match="16"):
        hash64(bytes(15), b"")
    with pytest.raises(ValueError, match="16"):
        at(bytes(15))


@pytest.mark.parametrize(
    ("where", "kind"), [("192.0.2.1", IPV4), ("2001:db8::1", IPV6), ("::1", IPV6), (MAC, L2)]
)
def test_kind_is_seen_from_the_address(where, kind):
    assert at(where, 443).kind == kind


def test_ipv4_and_macs_are_their_own_keys():
    """So that what is found need not be compared."""
    ports = random.Random(1).sample(range(65536), 100)
    keys = {at(f"192.0.2.{n}", port).key for n in range(100) for port in ports}
    assert len(keys) == 100 * 100
    assert len({at(MAC[:5] + bytes([n])).key for n in range(256)}) == 256
    assert at("192.0.2.1", 443).key == at("192.0.2.1", 443, os.urandom(16)).key


def test_ipv6_keys_depend_on_the_secret():
    assert at("2001:db8::1", 443).key == at("2001:db8::1", 443).key
    assert at("2001:db8::1", 443).key != at("2001:db8::1", 443, os.urandom(16)).key
    assert at("2001:db8::1", 443).key != at("2001:db8::1", 444).key


DIFFERENT = [
    at("192.0.2.1", 443),
    at("192.0.2.1", 444),
    at("192.0.2.2", 443),
    at("2001:db8::1", 443),
    at("2001:db8::1", 444),
    at("2001:db8::2", 443),
    at("2001:db8:0:1::1", 443),
    at("::192.0.2.1", 443),
    at(MAC),
    at(MAC[::-1]),
]


def test_endpoints_are_the_same_as_themselves_only():
    same = [[one.is_same(other) for other in DIFFERENT] for one in DIFFERENT]
    count = len(DIFFERENT)
    assert same == [[row == column for column in range(count)] for row in range(count)]


@pytest.mark.parametrize(
    ("one", "other", "is_one_source"),
    [
        (at("192.0.2.1", 1), at("192.0.2.1", 2), True),
        (at("192.0.2.1", 1), at("192.0.2.2", 1), False),
        (at("2001:db8::1", 1), at("2001:db8::ffff:1", 2), True),
        (at("2001:db8::1"), at("2001:db8:0:1::1"), False),
        (at("::1"), at("192.0.2.1"), False),
        (at(MAC), at(MAC), True),
        (at(MAC), at(MAC[::-1]), False),
    ],
)
def test_a_source_is_an_address_a_slash_64_or_a_mac(one, other, is_one_source):
    assert one.is_same_source(other) is is_one_source
    assert other.is_same_source(one) is is_one_source


def test_overhead_is_the_sum_of_the_headers():
    assert overhead_bytes(IPV4) == 20 + 8 + 14 + 48
    assert overhead_bytes(IPV6) == 40 + 8 + 14 + 48
    assert overhead_bytes(L2) == 48  # the Ethernet header is none of the MTU


@pytest.mark.parametrize(
    ("kind", "address", "port", "text"),
    [
        (IPV4, pack("192.0.2.1"), 443, "192.0.2.1:443"),
        (IPV6, pack("2001:db8::1"), 443, "[2001:db8::1]:443"),
        (L2, MAC + bytes(10), 0, "02:00:00:00:00:01"),
    ],
)
def test_endpoints_are_written_as_people_write_them(kind, address, port, text):
    assert place(kind, address, port) == text


def test_hosts_and_ports():
    assert host(IPV4, pack("192.0.2.1")) == "192.0.2.1"
    assert with_port("hub.example", 443) == "hub.example:443"
    with pytest.raises(ValueError, match="does not appear"):
        pack("hub.example")
