/* Probes of the path MTU and their answers: what core/pmtu decides, as frames. */
#include "path.h"

/* A probe's frame is this much, and zeros after it. */
#define PROBE_BYTES                                                                                \
    (M13_WIRE_FRAME_BYTES + M13_WIRE_TLV_HEADER_BYTES + (uint32_t)sizeof(struct m13_wire_probe))
_Static_assert(PROBE_BYTES <= M13_PMTU_FRAME_BYTES_MIN, "the smallest probe holds its id");

/* What was learned, in the form the data path asks for, and told when a search has ended. */
static void apply(struct m13_path *path, struct m13_peer *peer)
{
    const struct m13_pmtu *pmtu = &peer->pmtu;
    uint32_t whole_bytes = pmtu->frame_bytes - M13_WIRE_FRAME_BYTES;
    uint32_t mtu_bytes = path->config.mtu_bytes;
    peer->whole_bytes_max = (uint16_t)(whole_bytes < mtu_bytes ? whole_bytes : mtu_bytes);
    uint16_t told = peer->path_told_bytes ? peer->path_told_bytes : pmtu->frame_bytes_max;
    if (!m13_pmtu_is_settled(pmtu) || pmtu->frame_bytes == told)
        return;
    peer->path_told_bytes = pmtu->frame_bytes;
    m13_report_path(path, peer);
}

static void send_probe(struct m13_path *path, struct m13_peer *peer,
                       const struct m13_pmtu_probe *probe)
{
    uint8_t value[M13_TUNNEL_MTU_MAX] = {0};
    const struct m13_wire_probe header = {.id = probe->id};
    uint64_t last_sent_ns = peer->last_sent_ns;
    memcpy(value, &header, sizeof header);
    m13_stats_add(path->stats, M13_STAT_path_probes_sent, 1);
    m13_control_send(path, peer, M13_TLV_PMTU_PROBE, value,
                     (uint16_t)(probe->frame_bytes - PROBE_BYTES + sizeof header));
    peer->last_sent_ns = last_sent_ns; /* it may not arrive: no reason to leave out a keepalive */
}

void m13_probe_tick(struct m13_path *path, struct m13_peer *peer)
{
    struct m13_pmtu_probe probes[M13_PMTU_PROBES_MAX];
    if (!peer->current || path->now_ns < peer->pmtu.due_ns)
        return;
    uint32_t random = (uint32_t)(m13_path_jitter(path, 1 << 16) - (1 << 16));
    uint32_t count = m13_pmtu_due(&peer->pmtu, path->now_ns, peer->sent_packets, random, probes);
    for (uint32_t i = 0; i < count; i++)
        send_probe(path, peer, &probes[i]);
    if (peer->pmtu.phase != M13_PMTU_IDLE)
        apply(path, peer);
}

void m13_probe_begin(struct m13_path *path, struct m13_peer *peer)
{
    uint16_t frame_bytes_max = (uint16_t)(path->config.mtu_bytes + M13_WIRE_FRAME_BYTES);
    if (!peer->current)
        return;
    if (peer->pmtu.phase == M13_PMTU_IDLE || peer->pmtu.frame_bytes_max != frame_bytes_max)
        m13_pmtu_begin(&peer->pmtu, frame_bytes_max, path->now_ns);
    m13_probe_tick(path, peer);
}

void m13_probe_restart(struct m13_path *path, struct m13_peer *peer)
{
    if (peer->pmtu.phase == M13_PMTU_IDLE)
        return;
    m13_pmtu_restart(&peer->pmtu, path->now_ns);
    apply(path, peer);
}

bool m13_probe_answer(struct m13_path *path, struct m13_peer *peer, const uint8_t *value,
                      uint32_t bytes, uint32_t frame_bytes)
{
    struct m13_wire_probe probe;
    if (bytes < sizeof probe || frame_bytes > UINT16_MAX)
        return false;
    memcpy(&probe, value, sizeof probe);
    const struct m13_wire_probe_ack answer = {.id = probe.id, .frame_bytes = (uint16_t)frame_bytes};
    m13_stats_add(path->stats, M13_STAT_path_probes_received, 1);
    m13_control_send(path, peer, M13_TLV_PMTU_ACK, &answer, sizeof answer);
    return true;
}

bool m13_probe_acknowledged(struct m13_path *path, struct m13_peer *peer, const uint8_t *value,
                            uint32_t bytes)
{
    struct m13_wire_probe_ack answer;
    if (bytes < sizeof answer)
        return false;
    memcpy(&answer, value, sizeof answer);
    if (m13_pmtu_acknowledge(&peer->pmtu, answer.id, answer.frame_bytes, path->now_ns)) {
        m13_stats_add(path->stats, M13_STAT_path_probes_answered, 1);
        m13_probe_tick(path, peer);
        apply(path, peer);
    }
    return true;
}
