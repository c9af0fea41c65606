"""Endpoints: where a peer is, over IPv4, IPv6 or Ethernet."""

from libc.stdint cimport uint8_t, uint16_t
from libc.string cimport memcpy
from native.core cimport endpoint as c
from native.core cimport siphash

IPV4 = c.M13_ENDPOINT_IPV4
IPV6 = c.M13_ENDPOINT_IPV6
L2 = c.M13_ENDPOINT_L2
ADDRESS_BYTES = c.M13_ENDPOINT_ADDRESS_BYTES


cdef siphash.m13_siphash_key take_key(const unsigned char[::1] key) except *:
    cdef siphash.m13_siphash_key out
    if key.shape[0] != sizeof(out):
        raise ValueError("a SipHash key is 16 bytes")
    memcpy(&out, &key[0], sizeof(out))
    return out


def hash64(const unsigned char[::1] key not None, bytes data not None):
    """SipHash-2-4 as a number; `key` is 16 bytes."""
    cdef siphash.m13_siphash_key secret = take_key(key)
    return siphash.m13_siphash(&secret, <const uint8_t *>data, len(data))


def overhead_bytes(c.m13_endpoint_kind_number kind):
    """Between the underlay's MTU and an inner packet."""
    return c.m13_endpoint_overhead_bytes(kind)


cdef class Endpoint:
    """`place` is 16 bytes, IPv4 as ::ffff:a.b.c.d, or the 6 bytes of a MAC; `port` a number."""

    def __cinit__(self, const unsigned char[::1] place not None, uint16_t port=0, *,
                  const unsigned char[::1] secret not None):
        cdef siphash.m13_siphash_key key = take_key(secret)
        cdef uint8_t none[16]
        for i in range(16):
            none[i] = 0
        if place.shape[0] == 6:
            c.m13_endpoint_set_l2(&self.endpoint, &place[0])
        elif place.shape[0] == 16:
            c.m13_endpoint_set_udp(&self.endpoint, &key, &place[0], none, port >> 8 | port << 8)
        else:
            raise ValueError("an address is 16 bytes, a MAC 6")

    @property
    def kind(self):
        return c.m13_endpoint_kind(&self.endpoint)

    @property
    def key(self):
        return self.endpoint.key

    def is_same(self, Endpoint other not None):
        return c.m13_endpoint_is_same(&self.endpoint, &other.endpoint)

    def is_same_source(self, Endpoint other not None):
        return c.m13_endpoint_is_same_source(&self.endpoint, &other.endpoint)
