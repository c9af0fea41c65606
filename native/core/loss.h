/* What two ends tell each other about their way by FEEDBACK (docs/PROTOCOL.md §6): which frames
 * arrived, and from that, at the sender, the round trip and the share of frames that were lost.
 *
 * The receiving half costs nothing per frame: the replay window knows which counters were seen. The
 * sending half remembers when some frames were sent, not all: 64 moments over about two round
 * trips, so a round trip is measured to a thirty-second part of itself. A report speaks of one
 * key; with the next one counting begins anew, and the totals go on. */
#ifndef M13_LOSS_H
#define M13_LOSS_H

#include <stdbool.h>
#include <stdint.h>

#include "replay.h"

#define M13_LOSS_MOMENTS   64 /* power of two */
#define M13_LOSS_NACK_BITS 64

/* The payload of FEEDBACK. Both times count from when the receiver's key was installed. */
struct m13_loss_report {
    uint64_t highest;         /* counter of the newest frame that arrived */
    uint64_t made_ns;         /* when the report was made */
    uint32_t delivered;       /* frames that arrived, each once */
    uint64_t delivered_ns;    /* when the newest of them did */
    uint32_t missing;         /* counters below highest that did not arrive (yet) */
    uint64_t missing_of_last; /* bit i: highest - 1 - i is one of them */
} __attribute__((packed));
_Static_assert(sizeof(struct m13_loss_report) == 40, "the payload of FEEDBACK");

/* One end's knowledge of what it sends. Zeroed memory is a fresh one. */
struct m13_loss {
    struct {
        uint64_t counter;
        uint64_t sent_ns;
    } moments[M13_LOSS_MOMENTS]; /* a ring, counters and times ascending */
    uint64_t moment_count;       /* ever noted under this key */
    uint64_t moment_gap_ns;      /* between two; 0: not yet chosen */
    uint64_t rtt_ns;             /* smoothed, RFC 6298 §2; 0: unknown */
    uint64_t rtt_deviation_ns;
    struct m13_loss_report last; /* the newest report of this key, zero before the first */
    bool has_report;
    uint64_t lost_before; /* frames lost under former keys */
    uint64_t window_ns;   /* when the present window of the ratio began; 0: none */
    uint64_t window_highest;
    uint32_t window_missing;
    uint32_t per_million; /* lost, of the last whole window; of the present one before that */
    bool has_ratio;
};

enum m13_loss_verdict {
    M13_LOSS_TAKEN,
    M13_LOSS_OLD,   /* reordered on its way: nothing new in it */
    M13_LOSS_FALSE, /* contradicts itself, what was sent, or what was reported before */
};

/* Frames of a key that did not arrive: those below the newest, whether still on their way or not.
 */
static inline uint64_t m13_loss_missing(const struct m13_replay *replay)
{
    return replay->next - replay->accepted;
}

/* What has arrived, for the other end; at least one frame has. began_ns: when the key was
 * installed, heard_ns: when its newest frame came. */
struct m13_loss_report m13_loss_describe(const struct m13_replay *replay, uint64_t began_ns,
                                         uint64_t heard_ns, uint64_t now_ns);

/* A frame with this counter leaves now; answers when the next one is worth noting. */
uint64_t m13_loss_note(struct m13_loss *loss, uint64_t counter, uint64_t now_ns);

/* A report arrives about a key of which the counters below `next` have been sent. */
enum m13_loss_verdict m13_loss_learn(struct m13_loss *loss, const struct m13_loss_report *report,
                                     uint64_t next, uint64_t now_ns);

/* The next key sends from now on. */
void m13_loss_renew(struct m13_loss *loss);

/* Frames of all keys that the other end did not get, as far as it has said. */
static inline uint64_t m13_loss_total(const struct m13_loss *loss)
{
    return loss->lost_before + loss->last.missing;
}

#endif
