/* What a hub tells a node about its place in the tunnel: CONFIG and ROUTES (§6), in one frame, so
 * that a node has both or neither. */
#include "path.h"

#define ROUTES_BYTES_MAX (M13_PEER_PREFIXES_MAX * (sizeof(struct m13_wire_route) + 16))

static bool is_none(const uint8_t address6[16])
{
    static const uint8_t none[16];
    return !memcmp(address6, none, sizeof none);
}

static uint32_t address_bytes(uint8_t family)
{
    return family == M13_IPV4 ? 4 : 16;
}

/* The networks behind a peer, all of its prefixes but its own addresses; answers their bytes. */
static uint16_t put_routes(const struct m13_peer *peer, uint8_t *out)
{
    uint8_t *at = out;
    for (uint32_t i = is_none(peer->tunnel_address6) ? 1 : 2; i < peer->prefix_count; i++) {
        const struct m13_prefix *prefix = &peer->prefixes[i];
        const struct m13_wire_route route = {.family = prefix->family, .bits = prefix->bits};
        memcpy(at, &route, sizeof route);
        memcpy(at + sizeof route, prefix->address, address_bytes(prefix->family));
        at += sizeof route + address_bytes(prefix->family);
    }
    return (uint16_t)(at - out);
}

/* A packet that fills a tunnel's MTU shall fit one frame, and the underlays differ in what they
 * take from the link's. */
static uint16_t mtu_towards(const struct m13_path *path, const struct m13_endpoint *endpoint)
{
    uint32_t overhead = m13_endpoint_overhead_bytes(m13_endpoint_kind(endpoint));
    uint32_t room = path->config.link_mtu_bytes > overhead + M13_TUNNEL_MTU_MIN
                        ? path->config.link_mtu_bytes - overhead
                        : M13_TUNNEL_MTU_MIN;
    return room < path->config.mtu_bytes ? (uint16_t)room : path->config.mtu_bytes;
}

/* CONFIG and, when there are any, ROUTES; answers their bytes. */
static uint32_t put_config(const struct m13_path *path, const struct m13_peer *peer, uint8_t *out)
{
    uint8_t routes[ROUTES_BYTES_MAX];
    struct m13_wire_config config = {.prefix_bits = peer->prefix_bits,
                                     .mtu_bytes = mtu_towards(path, &peer->endpoint),
                                     .keepalive_ms = path->config.keepalive_ms,
                                     .feedback = peer->feedback};
    memcpy(config.node_address, &peer->tunnel_address, 4);
    memcpy(config.hub_address, path->config.hub_tunnel_address, 4);
    if (!is_none(peer->tunnel_address6)) {
        memcpy(config.node_address6, peer->tunnel_address6, 16);
        memcpy(config.hub_address6, path->config.hub_tunnel_address6, 16);
        config.prefix6_bits = path->config.prefix6_bits;
    }
    uint32_t bytes = m13_wire_put_tlv(out, M13_TLV_CONFIG, &config, sizeof config);
    uint16_t route_bytes = put_routes(peer, routes);
    if (route_bytes)
        bytes += m13_wire_put_tlv(out + bytes, M13_TLV_ROUTES, routes, route_bytes);
    return bytes;
}

void m13_config_send(struct m13_path *path, struct m13_peer *peer)
{
    uint8_t tlvs[2 * M13_WIRE_TLV_HEADER_BYTES + sizeof(struct m13_wire_config) + ROUTES_BYTES_MAX];
    uint32_t index;
    if (!peer->current) {
        m13_stats_drop(path->stats, M13_DROP_no_session);
        return;
    }
    uint32_t bytes = put_config(path, peer, tlvs);
    struct m13_wire_frame *frame =
        m13_control_begin(path, peer, peer->current, M13_FLAG_CONTROL, bytes, &index);
    if (!frame)
        return;
    memcpy(frame->payload, tlvs, bytes);
    peer->last_sent_ns = path->now_ns;
    m13_control_finish(path, peer, peer->current, frame, index);
}

static bool is_allowed(const struct m13_wire_config *config)
{
    return config->prefix_bits <= 32 && config->mtu_bytes >= M13_TUNNEL_MTU_MIN &&
           config->mtu_bytes <= M13_TUNNEL_MTU_MAX && config->keepalive_ms >= 10 &&
           config->prefix6_bits <= 128;
}

bool m13_config_receive(struct m13_path *path, struct m13_peer *peer, const uint8_t *value,
                        uint32_t bytes)
{
    struct m13_wire_config config = {.prefix6_bits = 0};
    struct m13_prefix own[2];
    if (path->config.is_hub || bytes < M13_WIRE_CONFIG_BYTES_MIN)
        return false;
    memcpy(&config, value, bytes < sizeof config ? M13_WIRE_CONFIG_BYTES_MIN : sizeof config);
    if (!is_allowed(&config))
        return false;
    if (!config.prefix6_bits)
        memset(config.node_address6, 0, sizeof config.node_address6);
    memcpy(&peer->tunnel_address, config.node_address, 4);
    memcpy(peer->tunnel_address6, config.node_address6, 16);
    uint32_t count = m13_peer_own_prefixes(peer->tunnel_address, peer->tunnel_address6, own);
    m13_peers_assign(&path->peers, peer->slot, own, count); /* ROUTES, if any, follow */
    memcpy(path->config.hub_tunnel_address, config.hub_address, 4);
    memcpy(path->config.hub_tunnel_address6, config.hub_address6, 16);
    path->config.mtu_bytes = config.mtu_bytes;
    m13_path_set_keepalive(path, config.keepalive_ms);
    peer->configured = true;
    m13_node_configured(peer);
    m13_probe_begin(path, peer);
    m13_feedback_agree(peer, config.feedback);
    if (config.feedback)
        m13_feedback_send(path, peer); /* the hub learns the RTT from its answer to our Finished */
    m13_report_config(path, peer, &config);
    return true;
}

/* One entry; answers its bytes, 0 when it is none. */
static uint32_t get_route(const uint8_t *value, uint32_t bytes, struct m13_prefix *prefix)
{
    struct m13_wire_route route;
    if (bytes < sizeof route)
        return 0;
    memcpy(&route, value, sizeof route);
    uint32_t total = (uint32_t)sizeof route + address_bytes(route.family);
    *prefix = (struct m13_prefix){.family = route.family, .bits = route.bits};
    if (bytes < total)
        return 0;
    memcpy(prefix->address, value + sizeof route, address_bytes(route.family));
    return m13_prefix_is_valid(prefix) ? total : 0;
}

bool m13_routes_receive(struct m13_path *path, struct m13_peer *peer, const uint8_t *value,
                        uint32_t bytes)
{
    struct m13_prefix prefixes[M13_PEER_PREFIXES_MAX];
    uint32_t count = m13_peer_own_prefixes(peer->tunnel_address, peer->tunnel_address6, prefixes);
    if (path->config.is_hub)
        return false;
    while (bytes) {
        uint32_t used =
            count < M13_PEER_PREFIXES_MAX ? get_route(value, bytes, &prefixes[count++]) : 0;
        if (!used)
            return false;
        value += used;
        bytes -= used;
    }
    m13_peers_assign(&path->peers, peer->slot, prefixes, count);
    return true;
}
