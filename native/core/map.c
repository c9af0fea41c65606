/* Linear probing with backward-shift deletion. */
#include "map.h"

#include <string.h>

#define MASK (M13_MAP_BUCKETS - 1)

static uint32_t home(const struct m13_map *map, uint64_t key)
{
    uint64_t mixed = (key ^ map->seed) * 0x9E3779B97F4A7C15ull; /* 2^64 / golden ratio */
    mixed ^= mixed >> 29;
    mixed *= 0xBF58476D1CE4E5B9ull; /* a mixing multiplier of splitmix64 */
    return (uint32_t)(mixed >> 40) & MASK;
}

static uint32_t probe(const struct m13_map *map, uint64_t key)
{
    uint32_t bucket = home(map, key);
    while (map->values[bucket] != M13_MAP_NONE && map->keys[bucket] != key)
        bucket = (bucket + 1) & MASK;
    return bucket;
}

void m13_map_init(struct m13_map *map, uint64_t seed)
{
    memset(map, 0, sizeof *map);
    memset(map->values, 0xFF, sizeof map->values);
    map->seed = seed;
}

uint16_t m13_map_find(const struct m13_map *map, uint64_t key)
{
    return map->values[probe(map, key)];
}

bool m13_map_set(struct m13_map *map, uint64_t key, uint16_t value)
{
    uint32_t bucket = probe(map, key);
    if (map->values[bucket] == M13_MAP_NONE) {
        /* an empty bucket must always remain, or probe() would not end */
        if (map->count >= M13_MAP_BUCKETS / 4 * 3)
            return false;
        map->count++;
        map->keys[bucket] = key;
    }
    map->values[bucket] = value;
    return true;
}

void m13_map_remove(struct m13_map *map, uint64_t key, uint16_t value)
{
    uint32_t hole = probe(map, key);
    if (map->values[hole] == M13_MAP_NONE || map->values[hole] != value)
        return;
    for (uint32_t next = (hole + 1) & MASK; map->values[next] != M13_MAP_NONE;
         next = (next + 1) & MASK) {
        uint32_t wanted = home(map, map->keys[next]);
        /* an entry may move into the hole unless its home lies between hole and entry */
        if (((next - wanted) & MASK) < ((next - hole) & MASK))
            continue;
        map->keys[hole] = map->keys[next];
        map->values[hole] = map->values[next];
        hole = next;
    }
    map->values[hole] = M13_MAP_NONE;
    map->count--;
}
