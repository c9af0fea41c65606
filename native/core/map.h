/* A small hash map from 64-bit keys to peer slots, for lookups by address.
 *
 * Open addressing with linear probing; removal shifts the followers back, so deleting one entry
 * never hides another and the table needs no rebuilding. The hash is seeded at random: nobody
 * outside can aim keys at one bucket. One thread only; no allocation after init. */
#ifndef M13_MAP_H
#define M13_MAP_H

#include <stdbool.h>
#include <stdint.h>

#define M13_MAP_BUCKETS 1024 /* power of two, over three times the peer slots */
#define M13_MAP_NONE    0xFFFF

struct m13_map {
    uint64_t seed;
    uint32_t count;
    uint64_t keys[M13_MAP_BUCKETS];
    uint16_t values[M13_MAP_BUCKETS]; /* M13_MAP_NONE: the bucket is empty */
};

/* Empty. The seed is secret: who knows it could choose keys that collide. */
void m13_map_init(struct m13_map *map, uint64_t seed);

/* M13_MAP_NONE when the key is not there. */
uint16_t m13_map_find(const struct m13_map *map, uint64_t key);

/* Inserts or replaces. False when the map is three quarters full. */
bool m13_map_set(struct m13_map *map, uint64_t key, uint16_t value);

/* Removes the key if it maps to this value; another owner's entry stays. */
void m13_map_remove(struct m13_map *map, uint64_t key, uint16_t value);

#endif
