# Mirror of path.h: what the bindings of hub and node need of it.
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

cdef extern from "path.h" nogil:
    enum:
        M13_EVENT_SLOTS
        M13_EVENT_DUMP_BYTES
        M13_TUNNEL_MTU_MIN
        M13_TUNNEL_MTU_MAX

    const uint64_t M13_REKEY_FRAMES_MAX

    enum m13_event_kind:
        M13_EVENT_ESTABLISHED
        M13_EVENT_LOST
        M13_EVENT_REFUSED
        M13_EVENT_MOVED
        M13_EVENT_CONFIG
        M13_EVENT_FRAME
        M13_EVENT_PATH

    struct m13_event:
        uint32_t kind
        uint32_t peer
        uint32_t generation
        uint32_t detail
        uint64_t time_ns
        uint8_t address[16]
        uint16_t port
        uint16_t mtu_bytes
        uint8_t tunnel_address[4]
        uint8_t hub_address[4]
        uint16_t keepalive_ms
        uint8_t prefix_bits
        uint8_t handshake_version
        uint8_t endpoint_kind
        uint8_t tunnel_address6[16]
        uint8_t hub_address6[16]
        uint8_t prefix6_bits
        uint32_t bytes
        uint8_t fingerprint[32]
        char name[32]
        uint8_t dump[M13_EVENT_DUMP_BYTES]

    enum:
        M13_LOST_EXPELLED
        M13_LOST_GOODBYE

    enum m13_command_kind:
        M13_COMMAND_NEXT_HOP
        M13_COMMAND_RENEW
        M13_COMMAND_CONFIGURE

    struct m13_command:
        uint32_t peer
        uint32_t generation
        uint8_t address[16]
        uint8_t mac[6]
        uint16_t kind

    struct m13_ring:
        pass

    uint32_t m13_ring_pop(m13_ring *ring, void *elements, uint32_t count)

    struct m13_aead_backend:
        const char *name

    struct m13_aead:
        const m13_aead_backend *backend

    struct m13_stats_page:
        pass

    struct m13_path_config:
        const char *aead_backend
        bint is_hub
        bint accept_v1
        bint accept_v2
        bint hexdump
        bint large_udp
        uint16_t worker
        bint relay
        bint echo
        bint feedback
        uint8_t handshake_version
        uint8_t mac[6]
        uint8_t hub_tunnel_address[4]
        uint8_t hub_tunnel_address6[16]
        uint8_t prefix6_bits
        uint16_t mtu_bytes
        uint16_t link_mtu_bytes
        uint16_t keepalive_ms
        uint16_t udp_port
        bint l2
        uint8_t l2_hub[6]
        uint64_t rekey_age_ns
        uint64_t rekey_frames

    struct m13_path:
        m13_aead aead
        m13_ring events
        int event_fd

    bint m13_hub_ask_expel(m13_path *path, uint32_t slot, uint32_t generation)
    bint m13_hub_ask_renew(m13_path *path, m13_command_kind kind, uint32_t slot,
                           uint32_t generation)
