# Mirror of channel.h.
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from native.core.prefix cimport m13_prefix

cdef extern from "channel.h" nogil:
    enum:
        M13_CHANNEL_SLOTS
        M13_CHANNEL_PAYLOAD_BYTES
        M13_CHANNEL_NAME_BYTES
        M13_CHANNEL_FINGERPRINT_BYTES
        M13_CHANNEL_KEY_BYTES
        M13_CHANNEL_PREFIXES_MAX

    enum m13_channel_direction:
        M13_CHANNEL_REQUESTS
        M13_CHANNEL_ANSWERS
        M13_CHANNEL_DIRECTIONS

    enum m13_channel_kind:
        M13_CHANNEL_ASK_START
        M13_CHANNEL_ASK_CLIENT_HELLO
        M13_CHANNEL_ASK_SERVER_HELLO
        M13_CHANNEL_ASK_FINISHED
        M13_CHANNEL_ASK_FORGET
        M13_CHANNEL_SAY_CLIENT_HELLO
        M13_CHANNEL_SAY_SERVER_HELLO
        M13_CHANNEL_SAY_ESTABLISHED
        M13_CHANNEL_SAY_REFUSED

    enum m13_channel_reason:
        M13_CHANNEL_MALFORMED
        M13_CHANNEL_NOT_ADMITTED
        M13_CHANNEL_BAD_SIGNATURE
        M13_CHANNEL_HUB_KEY_MISMATCH
        M13_CHANNEL_HUB_KEY_UNKNOWN
        M13_CHANNEL_VERSION_REFUSED
        M13_CHANNEL_NO_STATE
        M13_CHANNEL_INTERNAL
        M13_CHANNEL_HUB_FULL

    struct m13_channel_message:
        uint32_t kind
        uint32_t peer
        uint32_t generation
        uint32_t length
        uint8_t payload[M13_CHANNEL_PAYLOAD_BYTES]

    struct m13_channel_established:
        uint8_t handshake_version
        uint8_t address_prefix_bits
        uint8_t name_length
        uint8_t prefix_count
        uint8_t tunnel_address[4]
        uint8_t fingerprint[M13_CHANNEL_FINGERPRINT_BYTES]
        uint8_t send_key[M13_CHANNEL_KEY_BYTES]
        uint8_t receive_key[M13_CHANNEL_KEY_BYTES]
        char name[M13_CHANNEL_NAME_BYTES]
        uint8_t tunnel_address6[16]
        m13_prefix prefixes[M13_CHANNEL_PREFIXES_MAX]

    struct m13_channel_refused:
        uint8_t reason
        uint8_t fingerprint[M13_CHANNEL_FINGERPRINT_BYTES]

    struct m13_channel:
        int memory_fd
        int request_fd
        int answer_fd
        uint64_t malformed_count

    int m13_channel_create(m13_channel **out)
    int m13_channel_attach(m13_channel **out, int memory_fd, int request_fd, int answer_fd)
    void m13_channel_destroy(m13_channel *channel)
    bint m13_channel_send(m13_channel *channel, m13_channel_direction direction,
                          const m13_channel_message *message)
    void m13_channel_progress(const m13_channel *channel, m13_channel_direction direction,
                              uint32_t *sent, uint32_t *received)
    bint m13_channel_receive(m13_channel *channel, m13_channel_direction direction,
                             m13_channel_message *out)
