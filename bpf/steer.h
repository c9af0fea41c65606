/* What the XDP program and the process that loads it must agree on. */
#ifndef M13_STEER_SHARED_H
#define M13_STEER_SHARED_H

#include <linux/types.h>

/* Names the loader looks up in the object; map names must fit the kernel's 15 characters. */
#define M13_STEER_PROGRAM   "m13_steer"
#define M13_STEER_ADDRESSES "own_addresses"
#define M13_STEER_SOCKETS   "sockets"
#define M13_STEER_COUNTERS  "counters"

#define M13_STEER_ETHERTYPE     0x88B5
#define M13_STEER_ADDRESSES_MAX 64
#define M13_STEER_QUEUES_MAX    64

/* One line per verdict: every packet is counted under exactly one of them. */
#define M13_STEER_VERDICTS(_)                                                                      \
    _(PASS_OTHER, "neither M13 nor UDP over IP")                                                   \
    _(PASS_MALFORMED, "headers cut short or lengths that contradict each other")                   \
    _(PASS_NOT_OURS, "UDP to an address that is not ours")                                         \
    _(PASS_FRAGMENT, "fragment of an IPv4 packet")                                                 \
    _(PASS_PORT, "UDP to another port")                                                            \
    _(PASS_NO_SOCKET, "ours, but no AF_XDP socket serves the receive queue")                       \
    _(REDIRECT_L2, "M13 on Ethernet, to the socket")                                               \
    _(REDIRECT_UDP, "M13 in UDP, to the socket")

enum m13_steer_verdict {
#define M13_STEER_ENUM(name, text) M13_STEER_##name,
    M13_STEER_VERDICTS(M13_STEER_ENUM)
#undef M13_STEER_ENUM
        M13_STEER_VERDICT_COUNT
};

/* Key of own_addresses: IPv4 as ::ffff:a.b.c.d (RFC 4291 §2.5.5.2). */
struct m13_steer_address {
    __be32 words[4];
};

/* The read-only data of the object, written once between open and load. */
struct m13_steer_settings {
    __be16 port;
};

#endif
