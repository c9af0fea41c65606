/* Handing packets from worker to worker. */
#include "share.h"

#include <errno.h>
#include <stdlib.h>

#include <openssl/rand.h>

int m13_share_create(struct m13_share **out, uint32_t workers)
{
    uint64_t seed;
    if (workers < 2 || workers > M13_WORKERS_MAX)
        return -EINVAL;
    struct m13_siphash_key secret;
    if (RAND_bytes((uint8_t *)&seed, sizeof seed) != 1 ||
        RAND_bytes((uint8_t *)&secret, sizeof secret) != 1)
        return -EIO;
    struct m13_share *share = aligned_alloc(alignof(struct m13_share), sizeof *share);
    if (!share)
        return -ENOMEM;
    memset(share, 0, sizeof *share);
    share->workers = workers;
    share->secret = secret;
    int error = m13_directory_init(&share->directory, seed, M13_PEERS_ESTABLISHED_MAX,
                                   M13_PEERS_PREFIXES_MAX);
    for (uint32_t from = 0; from < workers && !error; from++)
        for (uint32_t to = 0; to < workers && !error; to++)
            if (from != to)
                error = m13_ring_init(&share->rings[from][to], M13_SHARE_SLOTS,
                                      sizeof(struct m13_shared_packet));
    if (error) {
        m13_share_destroy(share);
        return error;
    }
    *out = share;
    return 0;
}

void m13_share_destroy(struct m13_share *share)
{
    if (!share)
        return;
    for (uint32_t from = 0; from < share->workers; from++)
        for (uint32_t to = 0; to < share->workers; to++)
            m13_ring_fini(&share->rings[from][to]);
    m13_directory_fini(&share->directory);
    free(share);
}

void m13_share_join(struct m13_share *share, struct m13_path *path, struct m13_doorbell *bell)
{
    path->share = share;
    path->peers.secret = share->secret;
    path->peers.directory = &share->directory;
    path->peers.worker = path->config.worker;
    path->may_hand_on = true;
    share->bells[path->config.worker] = bell;
}

/* The packet goes, whether there was room or not: whose worker is behind loses packets of its own
 * peers, and nobody else's. */
static void give(struct m13_path *path, struct m13_packet *packet, uint32_t to, bool is_inner,
                 const void *data, uint32_t bytes)
{
    struct m13_shared_packet *shared =
        bytes <= M13_SHARE_PACKET_BYTES
            ? m13_ring_reserve(&path->share->rings[path->config.worker][to])
            : NULL;
    if (!shared) {
        m13_drop(path, packet, M13_DROP_worker_ring_full);
        return;
    }
    shared->bytes = bytes;
    shared->is_inner = is_inner;
    shared->source = packet->source;
    memcpy(shared->data, data, bytes);
    m13_ring_commit(&path->share->rings[path->config.worker][to]);
    m13_doorbell_ring(path->share->bells[to]);
    m13_stats_add(path->stats, M13_STAT_handed_on, 1);
    packet->verdict = M13_DONE;
}

static bool is_anothers(const struct m13_path *path, uint16_t owner)
{
    return owner != M13_DIRECTORY_NOBODY && owner != path->config.worker;
}

bool m13_share_give_frame(struct m13_path *path, struct m13_packet *packet)
{
    if (!path->may_hand_on)
        return false;
    uint64_t mac = m13_peer_mac_key(packet->frame->ethernet.source);
    uint16_t owner = m13_directory_by_mac(&path->share->directory, mac);
    if (!is_anothers(path, owner))
        return false;
    give(path, packet, owner, false, packet->frame, packet->bytes);
    return true;
}

bool m13_share_give_inner(struct m13_path *path, struct m13_packet *packet, const uint8_t *inner,
                          uint32_t bytes)
{
    if (!path->may_hand_on)
        return false;
    uint16_t owner = m13_directory_by_destination(&path->share->directory, inner);
    if (!is_anothers(path, owner))
        return false;
    give(path, packet, owner, true, inner, bytes);
    return true;
}
