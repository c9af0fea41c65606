/* Which frames the path to a peer carries whole, found from within (RFC 8899, DPLPMTUD).
 *
 * One direction of one peer, kept by its sender. Probes of a chosen size are sent and the other end
 * says which arrived; nothing else is believed, so no forged ICMP can make frames small. A search
 * asks for the smallest and the largest size at once, and only if the largest fails narrows down
 * to the byte. A peer that never answered may know neither probes nor fragments: the largest size
 * is assumed for it. From its first answer on only what arrived is used. Later the size in use is
 * asked for again while packets flow, because a path may shrink silently, and now and then one
 * byte more, because it may grow.
 *
 * Sizes are bytes of a frame, from its own Ethernet header to its end. Sends nothing itself. */
#ifndef M13_PMTU_H
#define M13_PMTU_H

#include <stdbool.h>
#include <stdint.h>

#define M13_PMTU_FRAME_BYTES_MIN  548 /* RFC 791: 576 pass everywhere; less IPv4 and UDP */
#define M13_PMTU_TRIES            3   /* RFC 8899 §5.1.2, MAX_PROBES */
#define M13_PMTU_TRIES_UNANSWERED 10  /* so many without any answer: perhaps it never answers */
#define M13_PMTU_PROBES_MAX       2
#define M13_PMTU_WAIT_FIRST_NS    250000000ull /* for an answer, before a round trip is known */
#define M13_PMTU_WAIT_MIN_NS      100000000ull /* else three round trips, within these */
#define M13_PMTU_WAIT_MAX_NS      2000000000ull
#define M13_PMTU_VERIFY_NS        5000000000ull   /* the size in use is asked for again */
#define M13_PMTU_RAISE_FIRST_NS   10000000000ull  /* a byte more is asked for, later and later */
#define M13_PMTU_RAISE_MAX_NS     600000000000ull /* RFC 8899 §5.1.1, PMTU_RAISE_TIMER */

enum m13_pmtu_phase {
    M13_PMTU_IDLE,   /* no session */
    M13_PMTU_SEARCH, /* sizes are being tried */
    M13_PMTU_VERIFY, /* the size in use is being asked for again */
    M13_PMTU_DONE,
};

struct m13_pmtu {
    enum m13_pmtu_phase phase;
    bool answers;             /* the peer acknowledged a probe once: it knows how to */
    bool confirmed;           /* frame_bytes arrived on this path; false: assumed */
    uint8_t tries;            /* probes of the present size sent */
    uint16_t frame_bytes;     /* sent whole */
    uint16_t frame_bytes_max; /* more is never needed */
    uint16_t failed_bytes;    /* the smallest that did not arrive; beyond the largest: none yet */
    uint16_t probe_bytes;     /* being tried */
    uint16_t first_id;        /* of the present search: answers to former ones do not count */
    uint16_t sent_id;         /* of the newest probes */
    uint16_t next_id;
    uint64_t probed_ns; /* when those went out */
    uint64_t due_ns;
    uint64_t rtt_ns; /* 0: not known yet */
    uint64_t raise_ns;
    uint64_t raise_interval_ns;
    uint64_t sent_packets; /* of the peer, when its size was last asked for */
};

struct m13_pmtu_probe {
    uint16_t id;
    uint16_t frame_bytes;
};

/* A search begins, after the peer has (again) become reachable. frame_bytes_max: at least the
 * minimum. */
void m13_pmtu_begin(struct m13_pmtu *pmtu, uint16_t frame_bytes_max, uint64_t now_ns);

/* The path may be another one: search again, from the smallest size. */
void m13_pmtu_restart(struct m13_pmtu *pmtu, uint64_t now_ns);

/* Probes to be sent now; how many, at most M13_PMTU_PROBES_MAX. sent_packets: the peer's count so
 * far. random: any number; spreads the timers of many peers by up to a quarter. */
uint32_t m13_pmtu_due(struct m13_pmtu *pmtu, uint64_t now_ns, uint64_t sent_packets,
                      uint32_t random, struct m13_pmtu_probe *probes);

/* The peer received a probe, so long. False: not one of this search. */
bool m13_pmtu_acknowledge(struct m13_pmtu *pmtu, uint16_t id, uint16_t frame_bytes,
                          uint64_t now_ns);

/* Whether frame_bytes is what the path carries, to the byte. */
static inline bool m13_pmtu_is_settled(const struct m13_pmtu *pmtu)
{
    return pmtu->confirmed && (pmtu->phase == M13_PMTU_DONE || pmtu->phase == M13_PMTU_VERIFY);
}

#endif
