/* Bring-up as the handshake's end would leave it: a peer's slot, and keys installed in it. */
#include "ends.h"

#include "stages.h"

#define HUB_ADDRESS  0x010200C0u /* 192.0.2.1, network order as all addresses here */
#define NODE_ADDRESS 0x020200C0u /* 192.0.2.2 */
#define NODE_TUNNEL  0x02000D0Au /* 10.13.0.2, the node of the recording */
#define HUB_PORT     443
#define NODE_PORT    40000
#define MTU_BYTES    1400
#define KEY_PHASE    1
#define HANDSHAKE    2
#define START_NS     (1000 * M13_SECOND_NS)

static const uint8_t HUB_MAC[6] = {2, 0, 0, 0, 0, 1};
static const uint8_t NODE_MAC[6] = {2, 0, 0, 0, 0, 2};
static const uint8_t HUB_SENDS[32] = {1};
static const uint8_t NODE_SENDS[32] = {2};
static const uint8_t NODE_FINGERPRINT[32] = {3};

struct m13_endpoint end_other(const struct end *end)
{
    bool is_hub = end->path.config.is_hub;
    struct m13_endpoint other = {0};
    m13_endpoint_set_ipv4(&other, is_hub ? NODE_ADDRESS : HUB_ADDRESS,
                          is_hub ? HUB_ADDRESS : NODE_ADDRESS,
                          __builtin_bswap16(is_hub ? NODE_PORT : HUB_PORT));
    memcpy(other.mac, is_hub ? NODE_MAC : HUB_MAC, sizeof other.mac);
    return other;
}

static void install(struct m13_path *path)
{
    bool is_hub = path->config.is_hub;
    const uint8_t *sends = is_hub ? HUB_SENDS : NODE_SENDS;
    const uint8_t *receives = is_hub ? NODE_SENDS : HUB_SENDS;
    struct m13_peer *peer = &path->peers.slots[0];
    struct m13_session *session = m13_peer_spare_session(peer, &path->aead);
    stages_require(!m13_session_init(session, &path->aead, HANDSHAKE, KEY_PHASE, sends, receives,
                                     path->now_ns),
                   "no session");
    m13_peer_promote(peer, &path->aead, session, path->now_ns);
    peer->whole_bytes_max = MTU_BYTES; /* as probes would have found on an ordinary path */
}

void end_open(struct end *end, bool is_hub)
{
    struct m13_path_config config = {.aead_backend = "auto",
                                     .is_hub = is_hub,
                                     .accept_v2 = true,
                                     .large_udp = true,
                                     .handshake_version = HANDSHAKE,
                                     .mtu_bytes = MTU_BYTES,
                                     .keepalive_ms = 1000,
                                     /* a node's is the kernel's: here it stands in for that */
                                     .udp_port = is_hub ? HUB_PORT : NODE_PORT,
                                     .rekey_age_ns = 3600 * M13_SECOND_NS,
                                     .rekey_frames = M13_REKEY_FRAMES_MAX};
    struct m13_path *path = &end->path;
    memcpy(config.mac, is_hub ? HUB_MAC : NODE_MAC, sizeof config.mac);
    stages_require(!m13_channel_create(&end->channel), "no channel");
    stages_require(
        !m13_path_init(path, &config, is_hub ? M13_PEER_SLOTS : 1, end->channel, &end->page),
        "no path");
    path->now_ns = START_NS;
    struct m13_endpoint other = end_other(end);
    const struct m13_prefix own = m13_prefix_host4(NODE_TUNNEL);
    if (is_hub) {
        stages_require(
            !m13_peers_claim(&path->peers, &path->aead, &other, NODE_MAC, true, START_NS),
            "no slot");
        stages_require(m13_peers_establish(&path->peers, &path->aead, 0, NODE_FINGERPRINT, &own, 1),
                       "no peer");
    } else {
        path->peers.slots[0].endpoint = other;
        path->peers.slots[0].tunnel_address = NODE_TUNNEL;
        m13_peers_assign(&path->peers, 0, &own, 1);
    }
    install(path);
}

void end_close(struct end *end)
{
    m13_path_fini(&end->path);
    m13_channel_destroy(end->channel);
}
