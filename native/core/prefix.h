/* Whose an inner address is: a table from IPv4 and IPv6 prefixes to peer slots, longest match
 * first.
 *
 * One hash table holds prefixes of every length; beside it lie the lengths in use, a bit each, and
 * a lookup asks for one length after the other. So a table of single hosts only, /32 and /128,
 * costs one probe, as much as a plain map. Linear probing; removal shifts the followers back, so
 * deleting one prefix never hides another. What stands in the table is the roster's,
 * not a stranger's to choose, so the hash is a plain one. One thread only; no allocation after
 * init. */
#ifndef M13_PREFIX_H
#define M13_PREFIX_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define M13_PREFIX_NONE 0xFFFF /* no slot */

enum m13_family { M13_IPV4 = 4, M13_IPV6 = 6 }; /* the version field of a packet */

/* Network order; of IPv4 the first four bytes count, the others are zero. */
struct m13_prefix {
    uint8_t family; /* enum m13_family */
    uint8_t bits;
    uint8_t address[16];
};

struct m13_prefix_bucket {
    uint64_t high; /* host order; of IPv4 the address stands in the top half */
    uint64_t low;
    uint16_t length; /* family and bits */
    uint16_t slot;   /* M13_PREFIX_NONE: the bucket is empty */
};

struct m13_prefix_table {
    struct m13_prefix_bucket *buckets;
    uint32_t mask;  /* buckets - 1 */
    uint32_t shift; /* 64 - log2(buckets) */
    uint32_t count;
    uint64_t lengths4;     /* bit n: there are IPv4 prefixes of n bits */
    uint64_t lengths6[3];  /* bit n % 64 of word n / 64: of IPv6 */
    uint16_t counts4[33];  /* by length */
    uint16_t counts6[129]; /* by length */
};

/* prefixes: most there will ever be, 1..2^20. 0 or -ENOMEM. */
int m13_prefix_table_init(struct m13_prefix_table *table, uint32_t prefixes);
void m13_prefix_table_fini(struct m13_prefix_table *table);

/* Family known, as many bits as it has at most, and no bit set behind them. */
bool m13_prefix_is_valid(const struct m13_prefix *prefix);

/* The slot of the longest prefix around an address in network order, or M13_PREFIX_NONE. */
uint16_t m13_prefix_find4(const struct m13_prefix_table *table, uint32_t address);
uint16_t m13_prefix_find6(const struct m13_prefix_table *table, const uint8_t address[16]);

/* The slot of exactly this prefix. */
uint16_t m13_prefix_holder(const struct m13_prefix_table *table, const struct m13_prefix *prefix);

/* Inserts or replaces a valid prefix. False when the table is full. */
bool m13_prefix_set(struct m13_prefix_table *table, const struct m13_prefix *prefix, uint16_t slot);

/* Removes the prefix if it is that slot's; another owner's stays. */
void m13_prefix_remove(struct m13_prefix_table *table, const struct m13_prefix *prefix,
                       uint16_t slot);

/* One host, as the prefix that holds it alone; address in network order. */
static inline struct m13_prefix m13_prefix_host4(uint32_t address)
{
    struct m13_prefix prefix = {.family = M13_IPV4, .bits = 32};
    memcpy(prefix.address, &address, sizeof address);
    return prefix;
}

static inline struct m13_prefix m13_prefix_host6(const uint8_t address[16])
{
    struct m13_prefix prefix = {.family = M13_IPV6, .bits = 128};
    memcpy(prefix.address, address, sizeof prefix.address);
    return prefix;
}

#endif
