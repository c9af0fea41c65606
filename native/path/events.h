/* What passes between the data path and the control process: events to it, commands from it, as
 * they lie in the rings of struct m13_path. */
#ifndef M13_EVENTS_H
#define M13_EVENTS_H

#include <stdint.h>

#include "endpoint.h"

/* What the control process is told; fields that a kind does not use are zero. */
enum m13_event_kind {
    M13_EVENT_ESTABLISHED = 1, /* a session: first, renewed (detail 1) */
    M13_EVENT_LOST = 2,        /* E_PEER_TIMEOUT, or detail M13_LOST_... */
    M13_EVENT_REFUSED = 3,     /* detail: enum m13_channel_reason; fingerprint of the key seen */
    M13_EVENT_MOVED = 4,       /* the peer's endpoint changed */
    M13_EVENT_CONFIG = 5,      /* node: address, prefix, MTU, keepalive from the hub */
    M13_EVENT_FRAME = 6,       /* hexdump; detail: 0 received, 1 sent */
    M13_EVENT_PATH = 7,        /* the path MTU changed; bytes: of outer packets that pass whole */
};
#define M13_LOST_EXPELLED    1
#define M13_LOST_GOODBYE     2 /* the peer said so (FIN) */
#define M13_EVENT_DUMP_BYTES 96
#define M13_EVENT_SLOTS      256

struct m13_event {
    uint32_t kind;
    uint32_t peer;
    uint32_t generation;
    uint32_t detail;
    uint64_t time_ns;
    uint8_t address[M13_ENDPOINT_ADDRESS_BYTES]; /* as in struct m13_endpoint */
    uint16_t port;                               /* host order */
    uint16_t mtu_bytes;
    uint8_t tunnel_address[4];
    uint8_t hub_address[4];
    uint16_t keepalive_ms;
    uint8_t prefix_bits;
    uint8_t handshake_version;
    uint8_t endpoint_kind;       /* enum m13_endpoint_kind */
    uint8_t tunnel_address6[16]; /* zero: none */
    uint8_t hub_address6[16];
    uint8_t prefix6_bits;
    uint32_t bytes; /* of the dumped frame, of the path */
    uint8_t fingerprint[32];
    char name[32];
    uint8_t dump[M13_EVENT_DUMP_BYTES];
};

/* What the control process tells a hub. */
enum m13_command_kind {
    M13_COMMAND_NEXT_HOP,
    M13_COMMAND_EXPEL, /* the peer is no longer admitted: its session ends now */
    M13_COMMAND_RENEW, /* its settings changed: the node is asked for new keys, which bring them */
    M13_COMMAND_CONFIGURE, /* it is sent CONFIG again: the first one may be lost */
};

struct m13_command {
    uint32_t peer;
    uint32_t generation;
    uint8_t address[M13_ENDPOINT_ADDRESS_BYTES]; /* the peer's: a next hop for a former endpoint is
                                                    ignored */
    uint8_t mac[6];                              /* next hop towards it */
    uint16_t kind;                               /* enum m13_command_kind */
};

#endif
