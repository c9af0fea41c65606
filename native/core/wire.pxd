# Mirror of wire.h.
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

cdef extern from "wire.h" nogil:
    enum:
        M13_WIRE_ETHERTYPE
        M13_WIRE_MAGIC
        M13_WIRE_VERSION
        M13_WIRE_CLEAR
        M13_WIRE_AEAD
        M13_WIRE_ETHERNET_BYTES
        M13_WIRE_HEADER_BYTES
        M13_WIRE_FRAME_BYTES
        M13_WIRE_OUTER_BYTES
        M13_WIRE_OVERHEAD_BYTES
        M13_WIRE_OVERHEAD6_BYTES
        M13_WIRE_SEALED_OFFSET
        M13_WIRE_KEY_BYTES

    const uint64_t M13_WIRE_COUNTER_MAX

    enum m13_wire_flag:
        M13_FLAG_FRAGMENT
        M13_FLAG_HANDSHAKE
        M13_FLAG_FEC
        M13_FLAG_FIN
        M13_FLAG_ECN
        M13_FLAG_TUNNEL
        M13_FLAG_FEEDBACK
        M13_FLAG_CONTROL

    enum m13_wire_direction:
        M13_HUB_TO_NODE
        M13_NODE_TO_HUB

    enum:
        M13_CLIENT_HELLO
        M13_SERVER_HELLO
        M13_FINISHED
        M13_CLIENT_HELLO_BYTES
        M13_SERVER_HELLO_BYTES
        M13_FINISHED_BYTES
        M13_FRAGMENT_CHUNK_BYTES
        M13_FRAGMENT_CHUNK6_BYTES
        M13_FRAGMENT_TOTAL_MAX
        M13_FRAGMENT_MESSAGE_BYTES

    struct m13_wire_ethernet:
        uint8_t destination[6]
        uint8_t source[6]
        uint16_t type

    struct m13_wire_header:
        uint8_t magic
        uint8_t version
        uint8_t crypto_version
        uint8_t key_phase
        uint8_t tag[16]
        uint64_t nonce_counter
        uint8_t nonce_direction
        uint8_t nonce_zero[3]
        uint64_t sequence
        uint8_t flags
        uint32_t payload_bytes
        uint8_t padding[3]

    struct m13_wire_frame:
        m13_wire_ethernet ethernet
        m13_wire_header header

    void m13_wire_stamp(m13_wire_frame *frame, const uint8_t *source, uint8_t flags,
                        uint32_t payload_bytes, uint64_t sequence)
    uint32_t m13_wire_fragment_total(uint32_t message_bytes, uint32_t chunk_bytes)
