# Mirror of endpoint.h.
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from native.core.siphash cimport m13_siphash_key

cdef extern from "<stdbool.h>":
    ctypedef bint bool

cdef extern from "endpoint.h" nogil:
    enum:
        M13_ENDPOINT_ADDRESS_BYTES

    enum m13_endpoint_kind_number "m13_endpoint_kind":
        M13_ENDPOINT_IPV4
        M13_ENDPOINT_IPV6
        M13_ENDPOINT_L2

    struct m13_endpoint:
        uint64_t key
        uint8_t address[16]
        uint8_t local_address[16]
        uint16_t port
        uint8_t mac[6]

    m13_endpoint_kind_number m13_endpoint_kind(const m13_endpoint *endpoint)
    void m13_endpoint_set_udp(m13_endpoint *endpoint, const m13_siphash_key *secret,
                              const uint8_t *address, const uint8_t *local_address, uint16_t port)
    void m13_endpoint_set_l2(m13_endpoint *endpoint, const uint8_t *mac)
    bool m13_endpoint_is_same(const m13_endpoint *one, const m13_endpoint *other)
    bool m13_endpoint_is_same_source(const m13_endpoint *one, const m13_endpoint *other)
    uint32_t m13_endpoint_overhead_bytes(m13_endpoint_kind_number kind)
