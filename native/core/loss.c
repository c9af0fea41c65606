/* Reports made from the replay window, and what a sender learns from them. */
#include "loss.h"

#include <string.h>

#define MILLISECOND_NS 1000000ull
#define GAP_MIN_NS     (MILLISECOND_NS / 50)
#define GAP_MAX_NS     (250 * MILLISECOND_NS)
#define GAPS_PER_RTT   32
#define RTT_MAX_NS     (60000 * MILLISECOND_NS)
#define WINDOW_NS      (1000 * MILLISECOND_NS)
#define WINDOW_LONG_NS (10000 * MILLISECOND_NS) /* after so long few frames will do */
#define WINDOW_FRAMES  64

static uint64_t missing_of_last(const struct m13_replay *replay)
{
    uint64_t highest = replay->next - 1, found = 0;
    for (uint64_t i = 0; i < M13_LOSS_NACK_BITS && i < highest; i++) {
        uint64_t counter = highest - 1 - i;
        bool seen = replay->bits[counter / 64 % M13_REPLAY_WORDS] >> (counter % 64) & 1;
        found |= (uint64_t)!seen << i;
    }
    return found;
}

struct m13_loss_report m13_loss_describe(const struct m13_replay *replay, uint64_t began_ns,
                                         uint64_t heard_ns, uint64_t now_ns)
{
    return (struct m13_loss_report){.highest = replay->next - 1,
                                    .made_ns = now_ns - began_ns,
                                    .delivered = (uint32_t)replay->accepted,
                                    .delivered_ns = heard_ns - began_ns,
                                    .missing = (uint32_t)m13_loss_missing(replay),
                                    .missing_of_last = missing_of_last(replay)};
}

uint64_t m13_loss_note(struct m13_loss *loss, uint64_t counter, uint64_t now_ns)
{
    uint64_t place = loss->moment_count++ % M13_LOSS_MOMENTS;
    loss->moments[place].counter = counter;
    loss->moments[place].sent_ns = now_ns;
    if (!loss->moment_gap_ns)
        loss->moment_gap_ns = GAP_MIN_NS;
    return now_ns + loss->moment_gap_ns;
}

/* When the counter was sent, 0 when that is forgotten. A frame between two moments left between
 * them, and no later than a gap after the first, or it would have been noted itself. */
static uint64_t sent_ns(const struct m13_loss *loss, uint64_t counter)
{
    uint64_t kept = loss->moment_count < M13_LOSS_MOMENTS ? loss->moment_count : M13_LOSS_MOMENTS;
    for (uint64_t i = 1; i <= kept; i++) {
        uint64_t place = (loss->moment_count - i) % M13_LOSS_MOMENTS;
        uint64_t first = loss->moments[place].counter, since = loss->moments[place].sent_ns;
        if (first > counter)
            continue;
        if (i == 1 || first == counter)
            return since;
        uint64_t next = (place + 1) % M13_LOSS_MOMENTS;
        uint64_t frames = loss->moments[next].counter - first;
        uint64_t later_ns = loss->moments[next].sent_ns - since;
        if (later_ns > loss->moment_gap_ns)
            later_ns = loss->moment_gap_ns;
        return since + later_ns * (counter - first) / frames;
    }
    return 0;
}

/* RFC 6298 §2, in nanoseconds. */
static void smooth(struct m13_loss *loss, uint64_t sample_ns)
{
    if (!loss->rtt_ns) {
        loss->rtt_ns = sample_ns;
        loss->rtt_deviation_ns = sample_ns / 2;
        return;
    }
    uint64_t apart = loss->rtt_ns > sample_ns ? loss->rtt_ns - sample_ns : sample_ns - loss->rtt_ns;
    loss->rtt_deviation_ns = (3 * loss->rtt_deviation_ns + apart) / 4;
    loss->rtt_ns = (7 * loss->rtt_ns + sample_ns) / 8;
}

/* The time the other end held the frame before it reported is not of the way. */
static void measure_rtt(struct m13_loss *loss, const struct m13_loss_report *report,
                        uint64_t now_ns)
{
    uint64_t since_ns = sent_ns(loss, report->highest);
    uint64_t held_ns = report->made_ns - report->delivered_ns;
    if (since_ns && held_ns < now_ns - since_ns && now_ns - since_ns - held_ns <= RTT_MAX_NS) {
        smooth(loss, now_ns - since_ns - held_ns);
        loss->moment_gap_ns = loss->rtt_ns / GAPS_PER_RTT;
    } else if (!since_ns) {
        loss->moment_gap_ns *= 2; /* the way is longer than what was remembered */
    }
    if (loss->moment_gap_ns < GAP_MIN_NS)
        loss->moment_gap_ns = GAP_MIN_NS;
    if (loss->moment_gap_ns > GAP_MAX_NS)
        loss->moment_gap_ns = GAP_MAX_NS;
}

/* Frames that were missing when a window began and came later make its ratio smaller, never less
 * than none. */
static void measure_ratio(struct m13_loss *loss, const struct m13_loss_report *report,
                          uint64_t now_ns)
{
    if (!loss->window_ns) {
        loss->window_ns = now_ns;
        loss->window_highest = loss->has_report ? loss->last.highest : 0;
        loss->window_missing = loss->has_report ? loss->last.missing : 0;
    }
    uint64_t frames = report->highest - loss->window_highest;
    int64_t lost = (int64_t)report->missing - loss->window_missing;
    uint64_t age_ns = now_ns - loss->window_ns;
    bool whole = age_ns >= WINDOW_LONG_NS || (age_ns >= WINDOW_NS && frames >= WINDOW_FRAMES);
    if (frames && (whole || !loss->has_ratio)) {
        uint64_t share = lost > 0 ? (uint64_t)lost * 1000000 / frames : 0;
        loss->per_million = share < 1000000 ? (uint32_t)share : 1000000;
    }
    if (whole) {
        loss->has_ratio = true;
        loss->window_ns = now_ns;
        loss->window_highest = report->highest;
        loss->window_missing = report->missing;
    }
}

/* A report that is true of itself and of what was sent. */
static bool is_possible(const struct m13_loss_report *report, uint64_t next)
{
    uint64_t gaps_of_last = (uint64_t)__builtin_popcountll(report->missing_of_last);
    return report->highest < next && report->delivered <= report->highest + 1 &&
           report->missing <= report->highest && gaps_of_last <= report->missing &&
           report->delivered_ns <= report->made_ns;
}

enum m13_loss_verdict m13_loss_learn(struct m13_loss *loss, const struct m13_loss_report *report,
                                     uint64_t next, uint64_t now_ns)
{
    const struct m13_loss_report *last = &loss->last;
    if (!is_possible(report, next))
        return M13_LOSS_FALSE;
    if (loss->has_report && report->made_ns <= last->made_ns)
        return M13_LOSS_OLD;
    if (loss->has_report &&
        (report->highest < last->highest || report->delivered_ns < last->delivered_ns ||
         (int32_t)(report->delivered - last->delivered) < 0))
        return M13_LOSS_FALSE;
    measure_ratio(loss, report, now_ns);
    /* a frame that was spoken of before says nothing new about the way */
    if (!loss->has_report || report->highest > last->highest)
        measure_rtt(loss, report, now_ns);
    loss->last = *report;
    loss->has_report = true;
    return M13_LOSS_TAKEN;
}

void m13_loss_renew(struct m13_loss *loss)
{
    loss->lost_before = m13_loss_total(loss);
    loss->moment_count = 0;
    memset(&loss->last, 0, sizeof loss->last);
    loss->has_report = false;
    loss->window_ns = 0;
}
