/* Longest match by hashing each length that is in use, hosts first. */
#include "prefix.h"

#include <errno.h>
#include <stdlib.h>

struct key {
    uint64_t high;
    uint64_t low;
    uint16_t length;
};

static uint16_t length_of(uint32_t family, uint32_t bits)
{
    return (uint16_t)(family << 8 | bits);
}

static uint64_t load64(const uint8_t *bytes)
{
    uint64_t value;
    memcpy(&value, bytes, sizeof value);
    return __builtin_bswap64(value);
}

/* The upper bits of a word; 0..64 of them. */
static uint64_t mask64(uint32_t bits)
{
    return bits ? ~0ull << (64 - bits) : 0;
}

/* Of two halves: no shift by as many bits as the word has. */
static uint64_t mask32(uint32_t bits)
{
    return ~0ull << 32 << (32 - bits);
}

static struct key key_of(const struct m13_prefix *prefix)
{
    return (struct key){.high = load64(prefix->address),
                        .low = load64(prefix->address + 8),
                        .length = length_of(prefix->family, prefix->bits)};
}

static inline uint32_t home(const struct m13_prefix_table *table, const struct key *key)
{
    /* Fibonacci hashing: Knuth, The Art of Computer Programming 3, §6.4; 2^64 / golden ratio */
    uint64_t mixed = (key->high ^ key->low ^ key->length) * 0x9E3779B97F4A7C15ull;
    return (uint32_t)(mixed >> table->shift);
}

static inline bool holds(const struct m13_prefix_bucket *bucket, const struct key *key)
{
    return bucket->high == key->high && bucket->low == key->low && bucket->length == key->length;
}

static inline uint32_t probe(const struct m13_prefix_table *table, const struct key *key)
{
    uint32_t index = home(table, key);
    while (table->buckets[index].slot != M13_PREFIX_NONE && !holds(&table->buckets[index], key))
        index = (index + 1) & table->mask;
    return index;
}

int m13_prefix_table_init(struct m13_prefix_table *table, uint32_t prefixes)
{
    uint32_t buckets = 4, shift = 62;
    for (; buckets / 4 * 3 < prefixes; buckets *= 2)
        shift--;
    memset(table, 0, sizeof *table);
    table->buckets = malloc(buckets * sizeof *table->buckets);
    if (!table->buckets)
        return -ENOMEM;
    memset(table->buckets, 0xFF, buckets * sizeof *table->buckets);
    table->mask = buckets - 1;
    table->shift = shift;
    return 0;
}

void m13_prefix_table_fini(struct m13_prefix_table *table)
{
    free(table->buckets);
    memset(table, 0, sizeof *table);
}

bool m13_prefix_is_valid(const struct m13_prefix *prefix)
{
    if ((prefix->family != M13_IPV4 || prefix->bits > 32) &&
        (prefix->family != M13_IPV6 || prefix->bits > 128))
        return false;
    struct key key = key_of(prefix);
    uint32_t high_bits = prefix->bits < 64 ? prefix->bits : 64;
    return !(key.high & ~mask64(high_bits)) && !(key.low & ~mask64(prefix->bits - high_bits));
}

static inline uint16_t slot_of(const struct m13_prefix_table *table, struct key key)
{
    return table->buckets[probe(table, &key)].slot;
}

/* Shorter prefixes than a host's, of the lengths in use. Apart, to keep the usual way short. */
static __attribute__((noinline)) uint16_t find_network4(const struct m13_prefix_table *table,
                                                        uint64_t high)
{
    for (uint64_t left = table->lengths4 & ~(1ull << 32); left;) {
        uint32_t bits = 63 ^ (uint32_t)__builtin_clzll(left);
        uint16_t slot = slot_of(
            table, (struct key){.high = high & mask32(bits), .length = length_of(M13_IPV4, bits)});
        if (slot != M13_PREFIX_NONE)
            return slot;
        left ^= 1ull << bits;
    }
    return M13_PREFIX_NONE;
}

uint16_t m13_prefix_find4(const struct m13_prefix_table *table, uint32_t address)
{
    uint64_t high = (uint64_t)__builtin_bswap32(address) << 32;
    uint16_t slot = slot_of(table, (struct key){.high = high, .length = length_of(M13_IPV4, 32)});
    return slot != M13_PREFIX_NONE ? slot : find_network4(table, high);
}

static __attribute__((noinline)) uint16_t find_network6(const struct m13_prefix_table *table,
                                                        uint64_t high, uint64_t low)
{
    for (uint32_t word = 2; word--;) {
        for (uint64_t left = table->lengths6[word]; left;) {
            uint32_t bit = 63 ^ (uint32_t)__builtin_clzll(left), bits = word * 64 + bit;
            uint16_t slot = slot_of(table, (struct key){.high = word ? high : high & mask64(bits),
                                                        .low = word ? low & mask64(bit) : 0,
                                                        .length = length_of(M13_IPV6, bits)});
            if (slot != M13_PREFIX_NONE)
                return slot;
            left ^= 1ull << bit;
        }
    }
    return M13_PREFIX_NONE;
}

uint16_t m13_prefix_find6(const struct m13_prefix_table *table, const uint8_t address[16])
{
    const struct key host = {load64(address), load64(address + 8), length_of(M13_IPV6, 128)};
    uint16_t slot = slot_of(table, host);
    return slot != M13_PREFIX_NONE ? slot : find_network6(table, host.high, host.low);
}

uint16_t m13_prefix_holder(const struct m13_prefix_table *table, const struct m13_prefix *prefix)
{
    return slot_of(table, key_of(prefix));
}

/* One more prefix of a length, or one less: its bit says whether there are any. */
static void count_length(struct m13_prefix_table *table, uint16_t length, uint16_t change)
{
    uint32_t bits = length & 0xFF;
    bool is_ipv4 = length >> 8 == M13_IPV4;
    uint16_t *count = is_ipv4 ? &table->counts4[bits] : &table->counts6[bits];
    uint64_t *word = is_ipv4 ? &table->lengths4 : &table->lengths6[bits / 64];
    *count = (uint16_t)(*count + change);
    *word &= ~(1ull << bits % 64);
    *word |= (uint64_t)(*count != 0) << bits % 64;
}

bool m13_prefix_set(struct m13_prefix_table *table, const struct m13_prefix *prefix, uint16_t slot)
{
    struct key key = key_of(prefix);
    struct m13_prefix_bucket *bucket = &table->buckets[probe(table, &key)];
    if (bucket->slot == M13_PREFIX_NONE) {
        /* an empty bucket must always remain, or probe() would not end */
        if (table->count >= (table->mask + 1) / 4 * 3)
            return false;
        table->count++;
        count_length(table, key.length, 1);
        bucket->high = key.high;
        bucket->low = key.low;
        bucket->length = key.length;
    }
    bucket->slot = slot;
    return true;
}

void m13_prefix_remove(struct m13_prefix_table *table, const struct m13_prefix *prefix,
                       uint16_t slot)
{
    struct key key = key_of(prefix);
    uint32_t hole = probe(table, &key);
    if (table->buckets[hole].slot == M13_PREFIX_NONE || table->buckets[hole].slot != slot)
        return;
    for (uint32_t next = (hole + 1) & table->mask; table->buckets[next].slot != M13_PREFIX_NONE;
         next = (next + 1) & table->mask) {
        const struct m13_prefix_bucket *entry = &table->buckets[next];
        struct key moving = {entry->high, entry->low, entry->length};
        /* an entry may move into the hole unless its home lies between hole and entry */
        if (((next - home(table, &moving)) & table->mask) < ((next - hole) & table->mask))
            continue;
        table->buckets[hole] = *entry;
        hole = next;
    }
    table->buckets[hole].slot = M13_PREFIX_NONE;
    table->count--;
    count_length(table, key.length, (uint16_t)-1);
}
