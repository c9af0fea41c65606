/* Which worker of a hub owns which peer: by its inner addresses and by the MAC its frames carry.
 *
 * Each worker enters and removes its own peers; any worker asks when a packet is of nobody it
 * knows. Asking is the exception, so one lock does: it is never taken for a worker's own peers. */
#ifndef M13_DIRECTORY_H
#define M13_DIRECTORY_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "map.h"
#include "prefix.h"

#define M13_DIRECTORY_NOBODY M13_MAP_NONE
_Static_assert(M13_DIRECTORY_NOBODY == M13_PREFIX_NONE, "one word for nobody");

struct m13_directory {
    pthread_rwlock_t lock;
    uint32_t established; /* peers of all workers */
    uint32_t established_max;
    struct m13_prefix_table prefixes; /* to workers */
    struct m13_map by_mac;
};

/* seed: random. prefixes: most there will ever be, of all peers. 0 or -errno. */
int m13_directory_init(struct m13_directory *directory, uint64_t seed, uint32_t established_max,
                       uint32_t prefixes);
void m13_directory_fini(struct m13_directory *directory);

/* Any worker: room for one more peer with a session, taken at once; given back by leave. */
bool m13_directory_enter(struct m13_directory *directory);
void m13_directory_leave(struct m13_directory *directory);

/* The newest owner of an address is its owner; removing names the owner, so that who lost an
 * address does not take it from who has it. mac: as m13_peer_mac_key() has it. */
void m13_directory_set_prefix(struct m13_directory *directory, const struct m13_prefix *prefix,
                              uint16_t worker);
void m13_directory_remove_prefix(struct m13_directory *directory, const struct m13_prefix *prefix,
                                 uint16_t worker);
void m13_directory_set_mac(struct m13_directory *directory, uint64_t mac, uint16_t worker);
void m13_directory_remove_mac(struct m13_directory *directory, uint64_t mac, uint16_t worker);

/* Who owns the destination of a whole inner packet (m13_inner_is_whole()), or that MAC; or
 * M13_DIRECTORY_NOBODY. */
uint16_t m13_directory_by_destination(struct m13_directory *directory, const uint8_t *inner);
uint16_t m13_directory_by_mac(struct m13_directory *directory, uint64_t mac);

#endif
