/* The search for the largest frame a path carries. Invariants while it runs and an answer came:
 * frame_bytes arrived, failed_bytes did not, probe_bytes lies between them. */
#include "pmtu.h"

static void start_search(struct m13_pmtu *pmtu, uint16_t probe_bytes, uint64_t now_ns)
{
    pmtu->phase = M13_PMTU_SEARCH;
    pmtu->tries = 0;
    pmtu->failed_bytes = pmtu->frame_bytes_max + 1;
    pmtu->probe_bytes = probe_bytes;
    pmtu->first_id = pmtu->next_id;
    pmtu->due_ns = now_ns;
}

void m13_pmtu_restart(struct m13_pmtu *pmtu, uint64_t now_ns)
{
    if (pmtu->phase == M13_PMTU_IDLE)
        return;
    pmtu->frame_bytes = pmtu->answers ? M13_PMTU_FRAME_BYTES_MIN : pmtu->frame_bytes_max;
    pmtu->confirmed = false;
    pmtu->rtt_ns = 0;
    pmtu->raise_interval_ns = M13_PMTU_RAISE_FIRST_NS;
    start_search(pmtu, pmtu->frame_bytes_max, now_ns);
}

void m13_pmtu_begin(struct m13_pmtu *pmtu, uint16_t frame_bytes_max, uint64_t now_ns)
{
    *pmtu = (struct m13_pmtu){.phase = M13_PMTU_SEARCH,
                              .frame_bytes_max = frame_bytes_max,
                              .next_id = pmtu->next_id,
                              .answers = pmtu->answers};
    m13_pmtu_restart(pmtu, now_ns);
}

static void settle(struct m13_pmtu *pmtu, uint64_t now_ns)
{
    pmtu->phase = M13_PMTU_DONE;
    pmtu->due_ns = now_ns + M13_PMTU_VERIFY_NS;
    pmtu->raise_ns = now_ns + pmtu->raise_interval_ns;
    pmtu->raise_interval_ns *= 2;
    if (pmtu->raise_interval_ns > M13_PMTU_RAISE_MAX_NS)
        pmtu->raise_interval_ns = M13_PMTU_RAISE_MAX_NS;
}

/* The next size between what arrived and what did not; the largest first. */
static void narrow(struct m13_pmtu *pmtu, uint64_t now_ns)
{
    pmtu->tries = 0;
    pmtu->due_ns = now_ns;
    if (pmtu->failed_bytes - pmtu->frame_bytes <= 1)
        settle(pmtu, now_ns);
    else if (pmtu->failed_bytes > pmtu->frame_bytes_max)
        pmtu->probe_bytes = pmtu->frame_bytes_max;
    else
        pmtu->probe_bytes = (uint16_t)((pmtu->frame_bytes + pmtu->failed_bytes) / 2);
}

/* As many probes as this size deserves were in vain. */
static void give_up_size(struct m13_pmtu *pmtu, uint64_t now_ns)
{
    if (pmtu->phase == M13_PMTU_VERIFY) {
        m13_pmtu_restart(pmtu, now_ns);
    } else if (pmtu->confirmed) {
        pmtu->failed_bytes = pmtu->probe_bytes;
        narrow(pmtu, now_ns);
    } else {
        settle(pmtu, now_ns);
    }
}

/* Nothing is being tried: is it time to? */
static void look_around(struct m13_pmtu *pmtu, uint64_t now_ns, uint64_t sent_packets)
{
    bool may_grow = pmtu->frame_bytes < pmtu->frame_bytes_max;
    if ((may_grow || !pmtu->confirmed) && now_ns >= pmtu->raise_ns) {
        uint16_t more = (uint16_t)(pmtu->frame_bytes + 1);
        start_search(pmtu, pmtu->confirmed ? more : pmtu->frame_bytes_max, now_ns);
    } else if (pmtu->confirmed && sent_packets != pmtu->sent_packets) {
        pmtu->phase = M13_PMTU_VERIFY;
        pmtu->tries = 0;
        pmtu->probe_bytes = pmtu->frame_bytes;
        pmtu->first_id = pmtu->next_id;
        pmtu->sent_packets = sent_packets;
    } else {
        pmtu->due_ns = now_ns + M13_PMTU_VERIFY_NS;
    }
}

static uint64_t wait_ns(const struct m13_pmtu *pmtu)
{
    uint64_t wait = pmtu->rtt_ns ? 3 * pmtu->rtt_ns : M13_PMTU_WAIT_FIRST_NS;
    if (wait < M13_PMTU_WAIT_MIN_NS)
        wait = M13_PMTU_WAIT_MIN_NS;
    /* many sizes of a search do not arrive, and each costs all its tries: they do not slow down */
    if (!(pmtu->phase == M13_PMTU_SEARCH && pmtu->confirmed) && pmtu->tries)
        wait <<= pmtu->tries - 1;
    return wait < M13_PMTU_WAIT_MAX_NS ? wait : M13_PMTU_WAIT_MAX_NS;
}

uint32_t m13_pmtu_due(struct m13_pmtu *pmtu, uint64_t now_ns, uint64_t sent_packets,
                      uint32_t random, struct m13_pmtu_probe *probes)
{
    if (pmtu->phase == M13_PMTU_IDLE || now_ns < pmtu->due_ns)
        return 0;
    if (pmtu->phase == M13_PMTU_DONE)
        look_around(pmtu, now_ns, sent_packets);
    else if (pmtu->tries >= (pmtu->confirmed ? M13_PMTU_TRIES : M13_PMTU_TRIES_UNANSWERED))
        give_up_size(pmtu, now_ns);
    if (pmtu->phase == M13_PMTU_DONE)
        return 0;
    uint32_t count = 0;
    pmtu->sent_id = pmtu->next_id;
    probes[count++] = (struct m13_pmtu_probe){pmtu->next_id++, pmtu->probe_bytes};
    /* the smallest last, so that its answer finds the large one's there */
    if (!pmtu->confirmed && pmtu->probe_bytes != M13_PMTU_FRAME_BYTES_MIN)
        probes[count++] = (struct m13_pmtu_probe){pmtu->next_id++, M13_PMTU_FRAME_BYTES_MIN};
    pmtu->tries++;
    pmtu->probed_ns = now_ns;
    uint64_t wait = wait_ns(pmtu);
    pmtu->due_ns = now_ns + wait + wait * (random & 0xFF) / 1024;
    return count;
}

static bool is_since(const struct m13_pmtu *pmtu, uint16_t id, uint16_t first)
{
    return (uint16_t)(id - first) < (uint16_t)(pmtu->next_id - first);
}

static void advance_search(struct m13_pmtu *pmtu, uint16_t frame_bytes, uint64_t now_ns)
{
    if (frame_bytes >= pmtu->failed_bytes)
        pmtu->failed_bytes = pmtu->frame_bytes_max + 1; /* it was only late */
    if (pmtu->frame_bytes == pmtu->frame_bytes_max)
        settle(pmtu, now_ns);
    else if (pmtu->frame_bytes >= pmtu->probe_bytes)
        narrow(pmtu, now_ns);
    else if (pmtu->due_ns > pmtu->probed_ns + wait_ns(pmtu))
        pmtu->due_ns = pmtu->probed_ns + wait_ns(pmtu); /* the round trip is known now */
}

bool m13_pmtu_acknowledge(struct m13_pmtu *pmtu, uint16_t id, uint16_t frame_bytes, uint64_t now_ns)
{
    if (pmtu->phase == M13_PMTU_IDLE || !is_since(pmtu, id, pmtu->first_id) ||
        frame_bytes < M13_PMTU_FRAME_BYTES_MIN || frame_bytes > pmtu->frame_bytes_max)
        return false;
    if (is_since(pmtu, id, pmtu->sent_id))
        pmtu->rtt_ns = now_ns - pmtu->probed_ns;
    bool first = !pmtu->confirmed;
    if (first)
        pmtu->frame_bytes = M13_PMTU_FRAME_BYTES_MIN; /* what was assumed is still to be shown */
    pmtu->answers = pmtu->confirmed = true;
    if (frame_bytes > pmtu->frame_bytes) {
        pmtu->frame_bytes = frame_bytes;
        pmtu->raise_interval_ns = M13_PMTU_RAISE_FIRST_NS;
    }
    if (pmtu->phase == M13_PMTU_SEARCH) {
        advance_search(pmtu, frame_bytes, now_ns);
    } else if (pmtu->phase == M13_PMTU_VERIFY && frame_bytes >= pmtu->probe_bytes) {
        pmtu->phase = M13_PMTU_DONE;
        pmtu->due_ns = now_ns + M13_PMTU_VERIFY_NS;
    } else if (first) {
        start_search(pmtu, pmtu->frame_bytes_max, now_ns); /* it answers after all */
    }
    return true;
}
