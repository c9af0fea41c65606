/* What leaves the data path for people: events, hexdumps, telemetry rows. */
#include "path.h"

#include <unistd.h>

#define DUMP_INTERVAL_NS (50 * M13_MILLISECOND_NS) /* twenty a second of each direction */
#define DUMP_BURST       20                        /* after a quiet second */

static void push(struct m13_path *path, const struct m13_event *event)
{
    uint64_t one = 1;
    /* a full ring means nobody reads: the event is lost, the data path is not */
    if (m13_ring_push(&path->events, event, 1) && write(path->event_fd, &one, sizeof one) < 0)
        return;
}

static void fill_endpoint(struct m13_event *event, const struct m13_endpoint *endpoint)
{
    memcpy(event->address, endpoint->address, sizeof event->address);
    event->endpoint_kind = (uint8_t)m13_endpoint_kind(endpoint);
    event->port = __builtin_bswap16(endpoint->port);
}

static struct m13_event describe(const struct m13_path *path, enum m13_event_kind kind,
                                 const struct m13_peer *peer)
{
    struct m13_event event = {.kind = kind,
                              .peer = path->config.worker * M13_PEER_SLOTS + peer->slot,
                              .generation = peer->generation,
                              .time_ns = path->now_ns,
                              .prefix_bits = peer->prefix_bits};
    fill_endpoint(&event, &peer->endpoint);
    memcpy(event.tunnel_address, &peer->tunnel_address, 4);
    memcpy(event.tunnel_address6, peer->tunnel_address6, 16);
    memcpy(event.fingerprint, peer->fingerprint, sizeof event.fingerprint);
    memcpy(event.name, peer->name, sizeof event.name);
    event.handshake_version = peer->current ? peer->current->version : 0;
    return event;
}

void m13_report_event(struct m13_path *path, enum m13_event_kind kind, const struct m13_peer *peer,
                      uint32_t detail, const uint8_t *fingerprint)
{
    struct m13_event event = describe(path, kind, peer);
    event.detail = detail;
    if (fingerprint)
        memcpy(event.fingerprint, fingerprint, sizeof event.fingerprint);
    push(path, &event);
}

void m13_report_config(struct m13_path *path, const struct m13_peer *peer,
                       const struct m13_wire_config *config)
{
    struct m13_event event = describe(path, M13_EVENT_CONFIG, peer);
    event.prefix_bits = config->prefix_bits;
    event.mtu_bytes = config->mtu_bytes;
    event.keepalive_ms = config->keepalive_ms;
    memcpy(event.hub_address, config->hub_address, 4);
    memcpy(event.hub_address6, config->hub_address6, 16);
    event.prefix6_bits = config->prefix6_bits;
    push(path, &event);
}

/* Of the packets around its frames, from the IP header on. */
static uint32_t path_bytes(const struct m13_peer *peer)
{
    return peer->pmtu.frame_bytes - M13_WIRE_FRAME_BYTES +
           m13_endpoint_overhead_bytes(m13_endpoint_kind(&peer->endpoint));
}

void m13_report_path(struct m13_path *path, const struct m13_peer *peer)
{
    struct m13_event event = describe(path, M13_EVENT_PATH, peer);
    event.bytes = path_bytes(peer);
    push(path, &event);
}

/* A token bucket kept as one time, so far in the future as tokens are missing. A flood one way
 * leaves the other way its own: that is where the answers are. */
static bool dump_allowed(struct m13_path *path, bool sent)
{
    uint64_t *next_ns = &path->next_dump_ns[sent];
    if (*next_ns < path->now_ns)
        *next_ns = path->now_ns;
    if (*next_ns - path->now_ns > (DUMP_BURST - 1) * DUMP_INTERVAL_NS)
        return false;
    *next_ns += DUMP_INTERVAL_NS;
    return true;
}

void m13_report_frame(struct m13_path *path, const struct m13_endpoint *endpoint,
                      const struct m13_wire_frame *frame, uint32_t bytes, bool sent)
{
    if (!dump_allowed(path, sent))
        return;
    struct m13_event event = {
        .kind = M13_EVENT_FRAME, .detail = sent, .time_ns = path->now_ns, .bytes = bytes};
    if (endpoint)
        fill_endpoint(&event, endpoint);
    memcpy(event.dump, frame, bytes < sizeof event.dump ? bytes : sizeof event.dump);
    push(path, &event);
}

static void report_peer(const struct m13_path *path, const struct m13_peer *peer)
{
    uint32_t first = path->config.worker * M13_PEER_SLOTS;
    struct m13_stats_peer *row = &path->page->peers[first + peer->slot];
    row->state = peer->state;
    if (peer->state == M13_STATE_Disconnected)
        return;
    row->generation = peer->generation;
    memcpy(row->address, peer->endpoint.address, sizeof row->address);
    row->endpoint_kind = (uint8_t)m13_endpoint_kind(&peer->endpoint);
    row->port = __builtin_bswap16(peer->endpoint.port);
    row->handshake_version = peer->current ? peer->current->version : 0;
    row->key_phase = peer->current ? peer->current->key_phase : 0;
    memcpy(row->tunnel_address, &peer->tunnel_address, 4);
    row->rtt_us = (uint32_t)(peer->loss.rtt_ns / 1000);
    row->loss_per_million = peer->loss.per_million;
    row->lost_frames = m13_loss_total(&peer->loss);
    row->missing_frames = peer->missing_before;
    if (peer->current)
        row->missing_frames += m13_loss_missing(&peer->current->replay);
    row->path_mtu_bytes = peer->current ? path_bytes(peer) : 0;
    row->received_packets = peer->received_packets;
    row->received_bytes = peer->received_bytes;
    row->sent_packets = peer->sent_packets;
    row->sent_bytes = peer->sent_bytes;
    row->last_heard_ns = peer->last_heard_ns;
    row->established_ns = peer->current ? peer->current->established_ns : 0;
    row->handshakes = peer->handshakes;
    memcpy(row->fingerprint, peer->fingerprint, sizeof row->fingerprint);
    memcpy(row->name, peer->name, sizeof row->name);
}

void m13_report_peers(struct m13_path *path)
{
    for (uint32_t slot = 0; slot < path->peers.count; slot++)
        report_peer(path, &path->peers.slots[slot]);
    m13_stats_gauge(path->stats, M13_GAUGE_peers_established, path->peers.established);
    m13_stats_gauge(path->stats, M13_GAUGE_peers_pending, path->peers.pending);
    path->page->tick_ns = path->now_ns;
}
