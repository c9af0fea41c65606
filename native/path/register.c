/* A registration keeps no state on the hub: the echo's cookie is all that comes of it (§4.5). */
#include "path.h"

static bool may_echo(struct m13_path *path, const struct m13_endpoint *source)
{
    uint64_t key = source->key ^ path->peers.by_mac.seed;
    uint32_t *bucket = &path->echo_ms[key * 0x9E3779B97F4A7C15ull >> 50];
    uint32_t now_ms = (uint32_t)(path->now_ns / M13_MILLISECOND_NS);
    /* sources that share a bucket wait for each other: so many, that whoever comes meanwhile to
     * 50 000 spoofed registrations a second finds three in four of them free */
    /* 0 means never, so the moment is stored odd and may lie 1 ms ahead: hence signed */
    int32_t since_ms = (int32_t)(now_ms - *bucket);
    if (*bucket && since_ms < (int32_t)(M13_ECHO_INTERVAL_NS / M13_MILLISECOND_NS))
        return false;
    *bucket = now_ms | 1;
    return true;
}
_Static_assert(M13_ECHO_BUCKETS == 1 << (64 - 50), "the hash above takes the top 14 bits");

void m13_hub_register(struct m13_path *path, struct m13_packet *packet)
{
    static const uint8_t none[M13_COOKIE_BYTES];
    uint8_t cookie[M13_COOKIE_BYTES];
    const uint8_t *tag = packet->frame->header.tag;
    packet->verdict = M13_DONE;
    m13_stats_add(path->stats, M13_STAT_registrations, 1);
    /* another hub's echo looks like a keepalive, but for the cookie of that hub in it */
    if (memcmp(tag, none, sizeof none) != 0 &&
        !m13_cookie_check(&path->cookie, &packet->source, tag))
        return;
    if (!may_echo(path, &packet->source))
        return;
    m13_cookie_make(&path->cookie, &packet->source, cookie);
    m13_control_send_clear(path, &packet->source, M13_FLAGS_ECHO, packet->frame->header.sequence,
                           cookie);
    m13_stats_add(path->stats, M13_STAT_echoes, 1);
}
