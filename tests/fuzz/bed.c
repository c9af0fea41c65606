/* The bed's life, and the invariants checked after every step. */
#include "bed.h"

#include <stdio.h>
#include <stdlib.h>

static const uint8_t HUB_SENDS[2][32] = {{1}, {2}};
static const uint8_t NODE_SENDS[2][32] = {{3}, {4}};
static const uint8_t PEER_MAC[6] = {2, 0, 0, 0, 0, 2};

_Noreturn void bed_fail(const char *condition, const char *file, int line)
{
    fprintf(stderr, "%s:%d: broken: %s\n", file, line, condition);
    abort();
}

uint8_t input_byte(struct input *input)
{
    if (!input->left)
        return 0;
    input->left--;
    return *input->data++;
}

uint16_t input_short(struct input *input)
{
    uint16_t low = input_byte(input);
    return (uint16_t)(low | input_byte(input) << 8);
}

uint8_t *input_piece(struct input *input, size_t most, size_t *bytes)
{
    size_t wanted = input_short(input);
    if (wanted > most)
        wanted = most;
    if (wanted > input->left)
        wanted = input->left;
    uint8_t *piece = malloc(wanted ? wanted : 1);
    BED_ASSERT(piece);
    memcpy(piece, input->data, wanted);
    input->data += wanted;
    input->left -= wanted;
    *bytes = wanted;
    return piece;
}

static struct m13_wire_frame *outlet_take(void *owner, uint32_t *index)
{
    struct bed *bed = owner;
    *index = 0;
    return (void *)(bed->outlet + M13_WIRE_OUTER6_BYTES);
}

static void outlet_send(void *owner, const struct m13_endpoint *to, uint32_t index, uint32_t bytes)
{
    struct bed *bed = owner;
    struct m13_wire_frame *frame = (void *)(bed->outlet + M13_WIRE_OUTER6_BYTES);
    BED_ASSERT(index == 0 && bytes >= M13_WIRE_FRAME_BYTES);
    BED_ASSERT(bytes <= M13_FRAME_BYTES - M13_WIRE_OUTER6_BYTES);
    if (bed->path.config.is_hub)
        m13_transmit_outer(&bed->path, to, frame, bytes);
}

struct m13_endpoint bed_endpoint(const struct bed *bed, uint8_t number)
{
    const uint8_t hub[16] = {0x20, 0x01, 0x0d, 0xb8, [15] = 1};
    const uint16_t port = __builtin_bswap16(4000);
    struct m13_endpoint endpoint = {0};
    uint8_t address[16] = {0x20, 0x01, 0x0d, 0xb8};
    address[7] = number & 1;
    address[15] = (uint8_t)(number + 2);
    if (number & BED_L2)
        m13_endpoint_set_l2(&endpoint, (const uint8_t[]){2, 0, 0, 0, 1, number});
    else if (number & BED_IPV6)
        m13_endpoint_set_udp(&endpoint, &bed->path.peers.secret, address, hub, port);
    else
        m13_endpoint_set_ipv4(&endpoint, BED_PEER_ADDRESS + ((uint32_t)number << 24),
                              BED_HUB_ADDRESS, port);
    return endpoint;
}

static void install(struct bed *bed, int which, uint8_t key_phase)
{
    struct m13_path *path = &bed->path;
    struct m13_peer *peer = &path->peers.slots[0];
    bool hub = path->config.is_hub;
    struct m13_session *session = m13_peer_spare_session(peer, &path->aead);
    const uint8_t *ours = hub ? HUB_SENDS[which] : NODE_SENDS[which];
    const uint8_t *theirs = hub ? NODE_SENDS[which] : HUB_SENDS[which];
    BED_ASSERT(!m13_session_init(session, &path->aead, 2, key_phase, ours, theirs, path->now_ns));
    BED_ASSERT(!m13_aead_key_init(&path->aead, &bed->sealing[which], theirs));
    if (which && !hub)
        peer->next = session;
    else
        m13_peer_promote(peer, &path->aead, session, path->now_ns);
}

void bed_open(struct bed *bed, bool is_hub)
{
    const struct m13_path_config config = {.aead_backend = "libcrypto",
                                           .is_hub = is_hub,
                                           .accept_v1 = true,
                                           .accept_v2 = true,
                                           .hexdump = true,
                                           .feedback = true,
                                           .handshake_version = 2,
                                           .mac = {2, 0, 0, 0, 0, 1},
                                           .mtu_bytes = 1400,
                                           .link_mtu_bytes = 1500,
                                           .l2 = is_hub,
                                           .keepalive_ms = 1000,
                                           .udp_port = BED_PORT,
                                           .rekey_age_ns = 3600 * M13_SECOND_NS,
                                           .rekey_frames = M13_REKEY_FRAMES_MAX};
    struct m13_channel *channel;
    struct m13_path *path = &bed->path;
    const uint8_t fingerprint[32] = {7};
    const struct m13_prefix own = m13_prefix_host4(BED_TUNNEL);
    memset(bed, 0, sizeof *bed);
    bed->outlet = malloc(M13_FRAME_BYTES);
    BED_ASSERT(bed->outlet);
    BED_ASSERT(!m13_channel_create(&channel));
    BED_ASSERT(!m13_path_init(path, &config, is_hub ? BED_PEERS : 1, channel, &bed->page));
    path->outlet = (struct m13_outlet){bed, outlet_take, outlet_send, -1};
    path->now_ns = 1000 * M13_SECOND_NS;
    const struct m13_endpoint endpoint = bed_endpoint(bed, 0);
    if (is_hub) {
        BED_ASSERT(
            !m13_peers_claim(&path->peers, &path->aead, &endpoint, PEER_MAC, true, path->now_ns));
        BED_ASSERT(m13_peers_establish(&path->peers, &path->aead, 0, fingerprint, &own, 1));
    } else {
        path->peers.slots[0].endpoint = endpoint;
        path->peers.slots[0].tunnel_address = BED_TUNNEL;
        m13_peers_assign(&path->peers, 0, &own, 1);
    }
    install(bed, 0, 5);
    install(bed, 1, 6);
    path->peers.slots[0].last_heard_ns = path->now_ns;
    m13_feedback_agree(&path->peers.slots[0], true);
    /* the smallest probe has been answered, so packets beyond it leave in pieces */
    const struct m13_wire_probe_ack small = {.id = 1, .frame_bytes = M13_PMTU_FRAME_BYTES_MIN};
    m13_probe_begin(path, &path->peers.slots[0]);
    BED_ASSERT(
        m13_probe_acknowledged(path, &path->peers.slots[0], (const void *)&small, sizeof small));
    BED_ASSERT(path->peers.slots[0].pmtu.frame_bytes == M13_PMTU_FRAME_BYTES_MIN);
}

void bed_close(struct bed *bed)
{
    m13_aead_key_fini(&bed->path.aead, &bed->sealing[0]);
    m13_aead_key_fini(&bed->path.aead, &bed->sealing[1]);
    struct m13_channel *channel = bed->path.channel;
    m13_path_fini(&bed->path);
    m13_channel_destroy(channel);
    free(bed->outlet);
}

enum key_of { ENDPOINT, MAC };

static uint64_t key_of(const struct m13_peer *peer, enum key_of which)
{
    if (which == ENDPOINT)
        return peer->endpoint.key;
    return m13_peer_mac_key(peer->mac);
}

static void check_map(const struct m13_peers *peers, const struct m13_map *map, enum key_of which)
{
    uint32_t used = 0;
    for (uint32_t bucket = 0; bucket < M13_MAP_BUCKETS; bucket++) {
        uint16_t slot = map->values[bucket];
        if (slot == M13_MAP_NONE)
            continue;
        used++;
        BED_ASSERT(slot < peers->count);
        const struct m13_peer *peer = &peers->slots[slot];
        BED_ASSERT(peer->state != M13_STATE_Disconnected);
        BED_ASSERT(key_of(peer, which) == map->keys[bucket]);
        BED_ASSERT(m13_map_find(map, map->keys[bucket]) == slot);
    }
    BED_ASSERT(used == map->count);
}

/* Every prefix leads to a slot that names it, and every slot's to the slot. */
static void check_prefixes(const struct m13_peers *peers)
{
    uint32_t named = 0;
    for (uint32_t slot = 0; slot < peers->count; slot++) {
        const struct m13_peer *peer = &peers->slots[slot];
        BED_ASSERT(peer->prefix_count <= M13_PEER_PREFIXES_MAX);
        BED_ASSERT(!peer->prefix_count || peer->state == M13_STATE_Established ||
                   peers->count == 1);
        named += peer->prefix_count;
        for (uint32_t i = 0; i < peer->prefix_count; i++) {
            BED_ASSERT(m13_prefix_is_valid(&peer->prefixes[i]));
            BED_ASSERT(m13_prefix_holder(&peers->prefixes, &peer->prefixes[i]) == slot);
        }
    }
    BED_ASSERT(named == peers->prefixes.count);
}

static void check_sessions(const struct m13_peer *peer)
{
    const struct m13_session *used[] = {peer->current, peer->next, peer->previous};
    uint32_t valid = 0, named = 0;
    for (uint32_t i = 0; i < 3; i++) {
        valid += peer->sessions[i].valid;
        named += used[i] != NULL;
        BED_ASSERT(!used[i] || used[i]->valid);
        for (uint32_t j = 0; j < i; j++)
            BED_ASSERT(!used[i] || used[i] != used[j]);
    }
    BED_ASSERT(valid == named); /* no key is kept that nothing refers to */
}

/* No frame is ever made larger than what arrived, nor an inner packet than the tunnel's MTU. */
static void check_path(const struct m13_path *path, const struct m13_peer *peer)
{
    const struct m13_pmtu *pmtu = &peer->pmtu;
    if (pmtu->phase == M13_PMTU_IDLE)
        return;
    BED_ASSERT(pmtu->frame_bytes >= M13_PMTU_FRAME_BYTES_MIN);
    BED_ASSERT(pmtu->frame_bytes <= pmtu->frame_bytes_max);
    BED_ASSERT(pmtu->probe_bytes <= pmtu->frame_bytes_max);
    BED_ASSERT(pmtu->frame_bytes_max == path->config.mtu_bytes + M13_WIRE_FRAME_BYTES);
    BED_ASSERT(peer->whole_bytes_max + M13_WIRE_FRAME_BYTES == pmtu->frame_bytes);
}

void bed_check(const struct bed *bed)
{
    const struct m13_peers *peers = &bed->path.peers;
    uint32_t pending = 0, without_cookie = 0, established = 0;
    check_prefixes(peers);
    for (uint32_t slot = 0; slot < peers->count; slot++) {
        const struct m13_peer *peer = &peers->slots[slot];
        BED_ASSERT(peer->slot == slot);
        BED_ASSERT(peer->handshake.message_bytes <= M13_FRAGMENT_MESSAGE_BYTES);
        BED_ASSERT((uint8_t *)peer->frag.slots ==
                   peers->frag_arena +
                       slot * M13_FRAG_ARENA_BYTES(M13_FRAG_SLOTS, M13_FRAGMENT_MESSAGE_BYTES));
        BED_ASSERT((uint8_t *)peer->tunnel_frag.slots ==
                   peers->tunnel_arena +
                       slot * M13_FRAG_ARENA_BYTES(M13_PEER_TUNNEL_SLOTS, M13_PEER_INNER_BYTES));
        check_path(&bed->path, peer);
        check_sessions(peer);
        BED_ASSERT(peer->loss.per_million <= 1000000);
        pending += peer->state == M13_STATE_Handshaking;
        without_cookie += peer->state == M13_STATE_Handshaking && !peer->handshake.has_cookie;
        established += peer->state == M13_STATE_Established;
    }
    if (!bed->path.config.is_hub)
        return;
    BED_ASSERT(pending == peers->pending && established == peers->established);
    BED_ASSERT(without_cookie == peers->pending_without_cookie);
    check_map(peers, &peers->by_endpoint, ENDPOINT);
    check_map(peers, &peers->by_mac, MAC);
}
