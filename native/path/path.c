/* What every path has: backends, table, rings to the control process, timers' constants. */
#include "path.h"

#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <openssl/rand.h>

void m13_path_set_keepalive(struct m13_path *path, uint16_t keepalive_ms)
{
    path->keepalive_ns = keepalive_ms * M13_MILLISECOND_NS;
    path->timeout_ns = 5 * path->keepalive_ns - path->keepalive_ns / 4;
}

uint64_t m13_path_jitter(struct m13_path *path, uint64_t base_ns)
{
    /* xorshift64*: spreads timers, protects nothing */
    path->random_state ^= path->random_state >> 12;
    path->random_state ^= path->random_state << 25;
    path->random_state ^= path->random_state >> 27;
    return base_ns + path->random_state * 0x2545F4914F6CDD1Dull % (base_ns / 4 + 1);
}

static int init_rings(struct m13_path *path)
{
    int error = m13_ring_init(&path->events, M13_EVENT_SLOTS, sizeof(struct m13_event));
    if (error)
        return error;
    error = m13_ring_init(&path->commands, M13_EVENT_SLOTS, sizeof(struct m13_command));
    if (error)
        return error;
    path->event_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    return path->event_fd < 0 ? -errno : 0;
}

int m13_path_init(struct m13_path *path, const struct m13_path_config *config, uint32_t peers,
                  struct m13_channel *channel, struct m13_stats_page *page)
{
    uint64_t seeds[4]; /* each for one thing: the last can be read on the wire */
    memset(path, 0, sizeof *path);
    path->event_fd = -1;
    path->config = *config;
    path->direction = config->is_hub ? M13_HUB_TO_NODE : M13_NODE_TO_HUB;
    path->channel = channel;
    path->page = page;
    path->stats = &page->writers[config->worker * M13_WRITERS_WORKER + M13_WRITER_WORKER];
    path->now_ns = m13_clock_now_ns();
    m13_path_set_keepalive(path, config->keepalive_ms);
    if (RAND_bytes((uint8_t *)seeds, sizeof seeds) != 1)
        return -EIO;
    path->random_state = seeds[0] | 1;
    /* message ids come from it: one port's next node must not begin with the ids of the last */
    path->clear_sequence = seeds[3] >> 16; /* nor may a stranger guess them */
    int error = m13_aead_create(&path->aead, config->aead_backend);
    if (!error)
        error = m13_peers_init(&path->peers, peers, seeds + 1);
    if (!error)
        error = m13_cookie_init(&path->cookie, path->now_ns);
    if (!error)
        error = init_rings(path);
    if (error)
        m13_path_fini(path);
    return error;
}

void m13_path_fini(struct m13_path *path)
{
    if (path->peers.slots)
        m13_peers_fini(&path->peers, &path->aead);
    m13_cookie_fini(&path->cookie);
    m13_ring_fini(&path->events);
    m13_ring_fini(&path->commands);
    m13_aead_destroy(&path->aead);
    OPENSSL_cleanse(&path->message, sizeof path->message);
    if (path->event_fd >= 0)
        close(path->event_fd);
    path->event_fd = -1;
}
