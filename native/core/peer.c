/* Slots, maps and sessions of peers. Invariant: every entry of a map names a slot in use whose
 * own field equals the key, so an entry is removed exactly when its slot changes. */
#include "peer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "secret.h"

#define FRAG_ARENA_BYTES   M13_FRAG_ARENA_BYTES(M13_FRAG_SLOTS, M13_FRAGMENT_MESSAGE_BYTES)
#define TUNNEL_ARENA_BYTES M13_FRAG_ARENA_BYTES(M13_PEER_TUNNEL_SLOTS, M13_PEER_INNER_BYTES)
#define MESSAGES_BYTES     (M13_FRAGMENT_MESSAGE_BYTES + M13_CLIENT_HELLO_BYTES)

int m13_peers_init(struct m13_peers *peers, uint32_t count, const uint64_t seed[2])
{
    if (!count || count > M13_PEER_SLOTS)
        return -EINVAL;
    memset(peers, 0, sizeof *peers);
    peers->count = count;
    peers->slots = m13_secret_map(count * sizeof(struct m13_peer)); /* session keys are in it */
    peers->frag_arena = calloc(count, FRAG_ARENA_BYTES);
    peers->tunnel_arena = calloc(count, TUNNEL_ARENA_BYTES);
    peers->message_arena = calloc(count, MESSAGES_BYTES);
    int error = m13_prefix_table_init(&peers->prefixes, M13_PEERS_PREFIXES_MAX);
    if (!peers->slots || !peers->frag_arena || !peers->tunnel_arena || !peers->message_arena ||
        error) {
        m13_secret_unmap(peers->slots, count * sizeof(struct m13_peer));
        free(peers->frag_arena);
        free(peers->tunnel_arena);
        free(peers->message_arena);
        m13_prefix_table_fini(&peers->prefixes);
        memset(peers, 0, sizeof *peers);
        return -ENOMEM;
    }
    for (uint32_t slot = 0; slot < count; slot++) {
        struct m13_peer *peer = &peers->slots[slot];
        peer->slot = (uint16_t)slot;
        peer->handshake.message = peers->message_arena + slot * MESSAGES_BYTES;
        peer->handshake.hello = peer->handshake.message + M13_FRAGMENT_MESSAGE_BYTES;
        m13_frag_init(&peer->frag, peers->frag_arena + slot * FRAG_ARENA_BYTES, M13_FRAG_SLOTS,
                      M13_FRAGMENT_MESSAGE_BYTES);
        m13_frag_init(&peer->tunnel_frag, peers->tunnel_arena + slot * TUNNEL_ARENA_BYTES,
                      M13_PEER_TUNNEL_SLOTS, M13_PEER_INNER_BYTES);
    }
    memcpy(peers->secret.words, seed, sizeof peers->secret.words);
    m13_map_init(&peers->by_endpoint, seed[0]);
    m13_map_init(&peers->by_mac, seed[0] ^ 0x5555555555555555ull);
    return 0;
}

void m13_peers_fini(struct m13_peers *peers, struct m13_aead *aead)
{
    for (uint32_t slot = 0; slot < peers->count; slot++)
        m13_peer_forget_sessions(&peers->slots[slot], aead);
    m13_secret_unmap(peers->slots, peers->count * sizeof(struct m13_peer));
    free(peers->frag_arena);
    free(peers->tunnel_arena);
    free(peers->message_arena);
    m13_prefix_table_fini(&peers->prefixes);
    memset(peers, 0, sizeof *peers);
}

static bool is_pending(const struct m13_peer *peer)
{
    return peer->state == M13_STATE_Handshaking;
}

/* Among the pending: all, those without cookie, or those of one source (NULL: any). */
static struct m13_peer *oldest_pending(struct m13_peers *peers, bool without_cookie,
                                       const struct m13_endpoint *source, uint32_t *count)
{
    struct m13_peer *oldest = NULL;
    *count = 0;
    for (uint32_t slot = 0; slot < peers->count; slot++) {
        struct m13_peer *peer = &peers->slots[slot];
        if (!is_pending(peer) || (without_cookie && peer->handshake.has_cookie) ||
            (source && !m13_endpoint_is_same_source(&peer->endpoint, source)))
            continue;
        (*count)++;
        if (!oldest || peer->handshake.started_ns < oldest->handshake.started_ns)
            oldest = peer;
    }
    return oldest;
}

/* Who gives way to one more handshake from this source; NULL when there is room. A source that
 * has its share displaces only itself, so no single one can crowd out the others. */
static struct m13_peer *find_victim(struct m13_peers *peers, const struct m13_endpoint *source)
{
    uint32_t count;
    struct m13_peer *oldest = oldest_pending(peers, false, source, &count);
    if (count >= M13_PEERS_PENDING_PER_SOURCE)
        return oldest;
    if (peers->pending >= M13_PEERS_PENDING_MAX)
        return oldest_pending(peers, false, NULL, &count);
    return NULL;
}

/* The same for one without cookie; false: not now. When the budget is full, the moment it may no
 * longer be is kept, so that what comes before is refused without a search. */
static bool make_room_without_cookie(struct m13_peers *peers, struct m13_aead *aead,
                                     uint64_t now_ns)
{
    uint32_t count;
    if (peers->pending_without_cookie < M13_PEERS_NO_COOKIE_MAX)
        return peers->pending < M13_PEERS_PENDING_MAX;
    if (now_ns < peers->no_cookie_full_ns)
        return false;
    const struct m13_peer *oldest = oldest_pending(peers, true, NULL, &count);
    peers->no_cookie_full_ns = oldest->handshake.started_ns + M13_PEERS_NO_COOKIE_HOLD_NS;
    if (now_ns < peers->no_cookie_full_ns)
        return false;
    m13_peers_release(peers, aead, oldest->slot);
    return true;
}

/* Where a handshake is under way nobody else moves to: whose place it is, its Finished tells. The
 * mover is found by its MAC. */
static void enter_maps(struct m13_peers *peers, const struct m13_peer *peer)
{
    uint16_t holder = m13_map_find(&peers->by_endpoint, peer->endpoint.key);
    if (holder == M13_MAP_NONE || !is_pending(&peers->slots[holder]))
        (void)m13_map_set(&peers->by_endpoint, peer->endpoint.key, peer->slot);
}

uint16_t m13_peers_claim(struct m13_peers *peers, struct m13_aead *aead,
                         const struct m13_endpoint *endpoint, const uint8_t mac[6], bool has_cookie,
                         uint64_t now_ns)
{
    struct m13_peer *victim = has_cookie ? find_victim(peers, endpoint) : NULL;
    if (victim)
        m13_peers_release(peers, aead, victim->slot);
    if (!has_cookie && !make_room_without_cookie(peers, aead, now_ns))
        return M13_PEER_NONE;
    for (uint32_t slot = 0; slot < peers->count; slot++) {
        struct m13_peer *peer = &peers->slots[slot];
        if (peer->state != M13_STATE_Disconnected)
            continue;
        peer->state = M13_STATE_Handshaking;
        peer->generation = ++peers->generation;
        peer->endpoint = *endpoint;
        memcpy(peer->mac, mac, 6);
        peer->handshake.has_cookie = has_cookie;
        peer->handshake.started_ns = now_ns;
        peers->pending++;
        peers->pending_without_cookie += !has_cookie;
        enter_maps(peers, peer);
        return peer->slot;
    }
    return M13_PEER_NONE;
}

static void leave_maps(struct m13_peers *peers, const struct m13_peer *peer)
{
    m13_map_remove(&peers->by_endpoint, peer->endpoint.key, peer->slot);
    bool has_mac = m13_map_find(&peers->by_mac, m13_peer_mac_key(peer->mac)) == peer->slot;
    m13_map_remove(&peers->by_mac, m13_peer_mac_key(peer->mac), peer->slot);
    if (peers->directory && has_mac)
        m13_directory_remove_mac(peers->directory, m13_peer_mac_key(peer->mac), peers->worker);
}

static void leave_pending(struct m13_peers *peers, const struct m13_peer *peer)
{
    peers->pending--;
    peers->pending_without_cookie -= !peer->handshake.has_cookie;
}

/* 256 of all workers, when there are several. */
static bool enter_established(struct m13_peers *peers)
{
    bool has_room = peers->directory ? m13_directory_enter(peers->directory)
                                     : peers->established < M13_PEERS_ESTABLISHED_MAX;
    peers->established += has_room;
    return has_room;
}

static void leave_established(struct m13_peers *peers)
{
    peers->established--;
    if (peers->directory)
        m13_directory_leave(peers->directory);
}

static uint64_t identity(const uint8_t fingerprint[32])
{
    uint64_t first;
    memcpy(&first, fingerprint, sizeof first);
    return first;
}

bool m13_peers_returned(struct m13_peers *peers, const uint8_t fingerprint[32])
{
    bool found = false;
    for (uint32_t i = 0; i < M13_PEERS_DEPARTED_MAX; i++) {
        if (peers->departed[i] != identity(fingerprint))
            continue;
        peers->departed[i] = 0;
        found = true;
    }
    return found;
}

static void note_departed(struct m13_peers *peers, const uint8_t fingerprint[32])
{
    (void)m13_peers_returned(peers, fingerprint); /* one entry each */
    peers->departed[peers->departed_next++ % M13_PEERS_DEPARTED_MAX] = identity(fingerprint);
}

void m13_peers_release(struct m13_peers *peers, struct m13_aead *aead, uint16_t slot)
{
    struct m13_peer *peer = &peers->slots[slot];
    if (peer->state == M13_STATE_Disconnected)
        return;
    leave_maps(peers, peer);
    m13_peers_assign(peers, slot, NULL, 0);
    if (is_pending(peer))
        leave_pending(peers, peer);
    else
        leave_established(peers);
    if (!is_pending(peer))
        note_departed(peers, peer->fingerprint);
    m13_peer_forget_sessions(peer, aead);
    m13_frag_reset(&peer->frag);
    m13_frag_reset(&peer->tunnel_frag);
    uint8_t *message = peer->handshake.message, *hello = peer->handshake.hello;
    struct m13_frag frag = peer->frag, tunnel_frag = peer->tunnel_frag;
    memset(peer, 0, offsetof(struct m13_peer, sessions));
    peer->slot = slot;
    peer->frag = frag;
    peer->tunnel_frag = tunnel_frag;
    peer->handshake.message = message;
    peer->handshake.hello = hello;
}

void m13_peers_move(struct m13_peers *peers, uint16_t slot, const struct m13_endpoint *endpoint)
{
    struct m13_peer *peer = &peers->slots[slot];
    m13_map_remove(&peers->by_endpoint, peer->endpoint.key, slot);
    peer->endpoint = *endpoint;
    enter_maps(peers, peer);
}

void m13_peers_assign(struct m13_peers *peers, uint16_t slot, const struct m13_prefix *prefixes,
                      uint32_t count)
{
    struct m13_peer *peer = &peers->slots[slot];
    for (uint32_t i = 0; i < peer->prefix_count; i++) {
        m13_prefix_remove(&peers->prefixes, &peer->prefixes[i], slot);
        if (peers->directory)
            m13_directory_remove_prefix(peers->directory, &peer->prefixes[i], peers->worker);
    }
    peer->prefix_count = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (m13_prefix_holder(&peers->prefixes, &prefixes[i]) != M13_PREFIX_NONE)
            continue;
        peer->prefixes[peer->prefix_count++] = prefixes[i];
        /* has room for all of all peers */
        (void)m13_prefix_set(&peers->prefixes, &prefixes[i], slot);
        if (peers->directory)
            m13_directory_set_prefix(peers->directory, &prefixes[i], peers->worker);
    }
}

uint32_t m13_peer_own_prefixes(uint32_t address, const uint8_t address6[16],
                               struct m13_prefix *prefixes)
{
    static const uint8_t none[16];
    prefixes[0] = m13_prefix_host4(address);
    if (!memcmp(address6, none, sizeof none))
        return 1;
    prefixes[1] = m13_prefix_host6(address6);
    return 2;
}

/* Whoever was this node, or has an address of its, gives way: the roster says that both are its. */
static void release_holders(struct m13_peers *peers, struct m13_aead *aead, uint16_t slot,
                            const uint8_t fingerprint[32], const struct m13_prefix *prefixes,
                            uint32_t count)
{
    for (uint32_t other = 0; other < peers->count; other++) {
        const struct m13_peer *holder = &peers->slots[other];
        if (other != slot && holder->state == M13_STATE_Established &&
            !memcmp(holder->fingerprint, fingerprint, 32))
            m13_peers_release(peers, aead, (uint16_t)other);
    }
    for (uint32_t i = 0; i < count; i++) {
        uint16_t holder = m13_prefix_holder(&peers->prefixes, &prefixes[i]);
        if (holder != M13_PEER_NONE && holder != slot)
            m13_peers_release(peers, aead, holder);
    }
}

bool m13_peers_establish(struct m13_peers *peers, struct m13_aead *aead, uint16_t slot,
                         const uint8_t fingerprint[32], const struct m13_prefix *prefixes,
                         uint32_t count)
{
    struct m13_peer *peer = &peers->slots[slot];
    release_holders(peers, aead, slot, fingerprint, prefixes, count);
    if (is_pending(peer)) {
        if (!enter_established(peers))
            return false;
        leave_pending(peers, peer);
    }
    if (memcmp(peer->fingerprint, fingerprint, 32) != 0)
        m13_peer_forget_sessions(peer, aead); /* another node behind the same address and port */
    peer->state = M13_STATE_Established;
    memcpy(&peer->tunnel_address, prefixes[0].address, sizeof peer->tunnel_address);
    memcpy(peer->fingerprint, fingerprint, 32);
    m13_peers_assign(peers, slot, prefixes, count);
    /* a MAC that another peer has stays with it */
    if (m13_map_find(&peers->by_mac, m13_peer_mac_key(peer->mac)) == M13_MAP_NONE)
        (void)m13_map_set(&peers->by_mac, m13_peer_mac_key(peer->mac), slot);
    bool has_mac = m13_map_find(&peers->by_mac, m13_peer_mac_key(peer->mac)) == slot;
    if (peers->directory && has_mac)
        m13_directory_set_mac(peers->directory, m13_peer_mac_key(peer->mac), peers->worker);
    return true;
}

struct m13_session *m13_peer_spare_session(struct m13_peer *peer, struct m13_aead *aead)
{
    for (uint32_t i = 0; i < 3; i++)
        if (!peer->sessions[i].valid)
            return &peer->sessions[i];
    struct m13_session *spare = peer->previous ? peer->previous : peer->next;
    m13_session_fini(spare, aead);
    if (spare == peer->previous)
        peer->previous = NULL;
    else
        peer->next = NULL;
    return spare;
}

static void wipe(struct m13_session **session, struct m13_aead *aead)
{
    if (*session)
        m13_session_fini(*session, aead);
    *session = NULL;
}

void m13_peer_promote(struct m13_peer *peer, struct m13_aead *aead, struct m13_session *fresh,
                      uint64_t now_ns)
{
    wipe(&peer->previous, aead);
    if (peer->next == fresh)
        peer->next = NULL;
    peer->previous = peer->current;
    peer->current = fresh;
    if (peer->previous)
        peer->missing_before += m13_loss_missing(&peer->previous->replay);
    m13_loss_renew(&peer->loss);
    peer->note_ns = 0;
    peer->retire_ns = now_ns + M13_SESSION_OVERLAP_NS;
    if (peer->previous && peer->previous->key_phase == fresh->key_phase)
        wipe(&peer->previous, aead);
}

void m13_peer_retire(struct m13_peer *peer, struct m13_aead *aead, uint64_t now_ns)
{
    if (peer->previous && now_ns >= peer->retire_ns)
        wipe(&peer->previous, aead);
}

void m13_peer_forget_sessions(struct m13_peer *peer, struct m13_aead *aead)
{
    for (uint32_t i = 0; i < 3; i++)
        m13_session_fini(&peer->sessions[i], aead);
    peer->current = peer->next = peer->previous = NULL;
}
