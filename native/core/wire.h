/* The M13 wire format, once: packed structures, constants, and their sizes asserted.
 *
 * docs/PROTOCOL.md §1-§6 is the source of every number here. A frame is Ethernet (14) + M13 header
 * (48) + payload; over UDP the whole frame, its Ethernet header included, is the datagram.
 * Multi-byte M13 fields are little endian and unaligned; IPv4, UDP and EtherType are big endian. */
#ifndef M13_WIRE_H
#define M13_WIRE_H

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "M13 is written for little-endian machines (x86-64, AArch64)"
#endif

#define M13_WIRE_ETHERTYPE      0x88B5 /* IEEE 802 local experimental EtherType 1 */
#define M13_WIRE_MAGIC          0xD1
#define M13_WIRE_VERSION        0x01
#define M13_WIRE_CLEAR          0x00
#define M13_WIRE_AEAD           0x01
#define M13_WIRE_ETHERNET_BYTES 14
#define M13_WIRE_HEADER_BYTES   48
#define M13_WIRE_FRAME_BYTES    62 /* Ethernet + M13 header: the smallest frame */
#define M13_WIRE_OUTER_BYTES    42 /* Ethernet + IPv4 without options + UDP */
#define M13_WIRE_OUTER6_BYTES   62 /* Ethernet + IPv6 without extension headers + UDP */
/* IP + UDP + frame: what the tunnel takes from the path MTU, over IPv4 and over IPv6 */
#define M13_WIRE_OVERHEAD_BYTES  90
#define M13_WIRE_OVERHEAD6_BYTES 110
#define M13_WIRE_AAD_BYTES       4
#define M13_WIRE_TAG_BYTES       16
#define M13_WIRE_SEALED_OFFSET   32 /* first encrypted byte of the M13 header */
#define M13_WIRE_KEY_BYTES       32
#define M13_WIRE_COUNTER_MAX     (1ull << 48) /* no nonce counter reaches it: hard stop */

enum m13_wire_flag {
    M13_FLAG_FRAGMENT = 0x01,
    M13_FLAG_HANDSHAKE = 0x02,
    M13_FLAG_FEC = 0x04,
    M13_FLAG_FIN = 0x08,
    M13_FLAG_ECN = 0x10,
    M13_FLAG_TUNNEL = 0x20,
    M13_FLAG_FEEDBACK = 0x40,
    M13_FLAG_CONTROL = 0x80,
};

/* Cleartext frames carry one of exactly three flag bytes (§2). */
#define M13_FLAGS_REGISTRATION 0x00
#define M13_FLAGS_ECHO         0x80
#define M13_FLAGS_HANDSHAKE    0x83

/* A sealed report of what arrived (§6). */
#define M13_FLAGS_FEEDBACK (M13_FLAG_CONTROL | M13_FLAG_FEEDBACK)

/* Sealed frames that end a session (§6). */
#define M13_FLAGS_FIN     (M13_FLAG_CONTROL | M13_FLAG_FIN)
#define M13_FLAGS_FIN_ACK (M13_FLAG_CONTROL | M13_FLAG_FEEDBACK | M13_FLAG_FIN)

enum m13_wire_direction { M13_HUB_TO_NODE = 0x00, M13_NODE_TO_HUB = 0x01 };

enum m13_wire_message { M13_CLIENT_HELLO = 1, M13_SERVER_HELLO = 2, M13_FINISHED = 3 };
#define M13_CLIENT_HELLO_BYTES 4194
#define M13_SERVER_HELLO_BYTES 8788
#define M13_FINISHED_BYTES     4628
#define M13_HELLO_NONCE_OFFSET 2
#define M13_HELLO_NONCE_BYTES  32

#define M13_FRAGMENT_CHUNK_BYTES   1402 /* over IPv4 1500 bytes in all */
#define M13_FRAGMENT_CHUNK6_BYTES  1162 /* over IPv6 its least MTU, 1280 (RFC 8200 §5) */
#define M13_FRAGMENT_TOTAL_MAX     32   /* a ServerHello over the smallest path needs 19 */
#define M13_FRAGMENT_MESSAGE_BYTES 9216 /* the largest message that is reassembled */

enum m13_wire_tlv {
    M13_TLV_KEEPALIVE = 0,
    M13_TLV_CONFIG = 1,
    M13_TLV_PMTU_PROBE = 2,
    M13_TLV_PMTU_ACK = 3,
    M13_TLV_REKEY_REQUEST = 4,
    M13_TLV_ROUTES = 5,
};
#define M13_WIRE_TLV_HEADER_BYTES 3

struct m13_wire_ethernet {
    uint8_t destination[6];
    uint8_t source[6];
    uint16_t type;
} __attribute__((packed));

struct m13_wire_header {
    uint8_t magic;
    uint8_t version;
    uint8_t crypto_version;
    uint8_t key_phase;
    uint8_t tag[M13_WIRE_TAG_BYTES]; /* cleartext frames: zero, or the cookie */
    uint64_t nonce_counter;
    uint8_t nonce_direction;
    uint8_t nonce_zero[3];
    uint64_t sequence; /* first encrypted field */
    uint8_t flags;
    uint32_t payload_bytes;
    uint8_t padding[3];
} __attribute__((packed));

struct m13_wire_frame {
    struct m13_wire_ethernet ethernet;
    struct m13_wire_header header;
    uint8_t payload[];
} __attribute__((packed));

struct m13_wire_fragment {
    uint16_t id;
    uint8_t index;
    uint8_t total;
    uint16_t offset;
    uint16_t bytes;
} __attribute__((packed));

struct m13_wire_ipv4 {
    uint8_t version_length;
    uint8_t tos;
    uint16_t total_bytes;
    uint16_t id;
    uint16_t fragment;
    uint8_t ttl;
    uint8_t protocol;
    uint16_t checksum;
    uint32_t source;
    uint32_t destination;
} __attribute__((packed));

struct m13_wire_ipv6 {
    uint32_t version_class_label;
    uint16_t payload_bytes;
    uint8_t next_header;
    uint8_t hop_limit;
    uint8_t source[16];
    uint8_t destination[16];
} __attribute__((packed));

struct m13_wire_udp {
    uint16_t source;
    uint16_t destination;
    uint16_t bytes;
    uint16_t checksum;
} __attribute__((packed));

struct m13_wire_outer {
    struct m13_wire_ethernet ethernet;
    struct m13_wire_ipv4 ip;
    struct m13_wire_udp udp;
} __attribute__((packed));

struct m13_wire_outer6 {
    struct m13_wire_ethernet ethernet;
    struct m13_wire_ipv6 ip;
    struct m13_wire_udp udp;
} __attribute__((packed));

/* Value of the CONFIG TLV (§6): what the hub tells a node, and the key confirmation. */
struct m13_wire_config {
    uint8_t node_address[4];
    uint8_t prefix_bits;
    uint8_t hub_address[4];
    uint16_t mtu_bytes;
    uint16_t keepalive_ms;
    uint8_t fec;      /* 0: off */
    uint8_t feedback; /* 0: off */
    uint8_t node_address6[16];
    uint8_t prefix6_bits; /* 0: no IPv6 */
    uint8_t hub_address6[16];
} __attribute__((packed));
#define M13_WIRE_CONFIG_BYTES_MIN 15 /* without what came with IPv6: an older hub's */

/* The value of the ROUTES TLV (§6) is a list of these, each with 4 or 16 bytes of address behind.
 */
struct m13_wire_route {
    uint8_t family; /* 4 or 6 */
    uint8_t bits;
} __attribute__((packed));

/* Values of PMTU_PROBE, padded with zeros to the frame's size, and of PMTU_ACK (§6). */
struct m13_wire_probe {
    uint16_t id;
} __attribute__((packed));

struct m13_wire_probe_ack {
    uint16_t id;          /* of the probe */
    uint16_t frame_bytes; /* as it arrived, from its Ethernet header to its end */
} __attribute__((packed));

_Static_assert(sizeof(struct m13_wire_probe) == 2, "PMTU_PROBE");
_Static_assert(sizeof(struct m13_wire_probe_ack) == 4, "PMTU_ACK");
_Static_assert(sizeof(struct m13_wire_ethernet) == M13_WIRE_ETHERNET_BYTES, "Ethernet header");
_Static_assert(sizeof(struct m13_wire_header) == M13_WIRE_HEADER_BYTES, "M13 header");
_Static_assert(sizeof(struct m13_wire_frame) == M13_WIRE_FRAME_BYTES, "frame");
_Static_assert(sizeof(struct m13_wire_fragment) == 8, "fragment header");
_Static_assert(sizeof(struct m13_wire_ipv4) == 20, "IPv4 header");
_Static_assert(sizeof(struct m13_wire_udp) == 8, "UDP header");
_Static_assert(sizeof(struct m13_wire_outer) == M13_WIRE_OUTER_BYTES, "outer headers");
_Static_assert(sizeof(struct m13_wire_ipv6) == 40, "IPv6 header");
_Static_assert(sizeof(struct m13_wire_outer6) == M13_WIRE_OUTER6_BYTES, "outer headers, IPv6");
_Static_assert(sizeof(struct m13_wire_config) == 48, "CONFIG");
_Static_assert(sizeof(struct m13_wire_route) == 2, "an entry of ROUTES");
_Static_assert(offsetof(struct m13_wire_config, node_address6) == M13_WIRE_CONFIG_BYTES_MIN,
               "IPv6");
_Static_assert(offsetof(struct m13_wire_header, tag) == 4, "tag");
_Static_assert(offsetof(struct m13_wire_header, nonce_counter) == 20, "nonce");
_Static_assert(offsetof(struct m13_wire_header, sequence) == M13_WIRE_SEALED_OFFSET, "sequence");
_Static_assert(offsetof(struct m13_wire_header, flags) == 40, "flags");
_Static_assert(offsetof(struct m13_wire_header, payload_bytes) == 41, "payload length");

/* Stamps Ethernet and M13 header of a frame; the payload is not touched. */
static inline void m13_wire_stamp(struct m13_wire_frame *frame, const uint8_t source[6],
                                  uint8_t flags, uint32_t payload_bytes, uint64_t sequence)
{
    memset(frame, 0, sizeof *frame);
    memset(frame->ethernet.destination, 0xFF, 6);
    memcpy(frame->ethernet.source, source, 6);
    frame->ethernet.type = __builtin_bswap16(M13_WIRE_ETHERTYPE);
    frame->header.magic = M13_WIRE_MAGIC;
    frame->header.version = M13_WIRE_VERSION;
    frame->header.sequence = sequence;
    frame->header.flags = flags;
    frame->header.payload_bytes = payload_bytes;
}

/* Writes a TLV and answers its length; room for header and value. */
static inline uint32_t m13_wire_put_tlv(uint8_t *out, enum m13_wire_tlv type, const void *value,
                                        uint16_t value_bytes)
{
    out[0] = (uint8_t)type;
    memcpy(out + 1, &value_bytes, sizeof value_bytes);
    if (value_bytes)
        memcpy(out + M13_WIRE_TLV_HEADER_BYTES, value, value_bytes);
    return M13_WIRE_TLV_HEADER_BYTES + value_bytes;
}

/* Fragment count of a message, in chunks of that size. */
static inline uint32_t m13_wire_fragment_total(uint32_t message_bytes, uint32_t chunk_bytes)
{
    return (message_bytes + chunk_bytes - 1) / chunk_bytes;
}

#endif
