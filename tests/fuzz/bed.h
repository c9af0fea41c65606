/* A hub's or a node's path without network and threads, for fuzzing its stages.
 *
 * The hub has a live peer in slot 0, the node its hub; each has the keys of both ends, so that a
 * target can make frames that are authentic. What the path sends is checked and forgotten. */
#ifndef M13_FUZZ_BED_H
#define M13_FUZZ_BED_H

#include "path.h"

#define BED_PEERS        12
#define BED_PEER_ADDRESS 0x0200000Au /* 10.0.0.2 */
#define BED_HUB_ADDRESS  0x0100000Au /* 10.0.0.1 */
#define BED_TUNNEL       0x02000D0Au /* 10.13.0.2 */
#define BED_PORT         443

struct bed {
    struct m13_path path;
    struct m13_stats_page page;
    struct m13_aead_key
        sealing[2];   /* the other end's send keys: of the live session, of the next */
    uint64_t counter; /* next one the other end uses */
    uint8_t *outlet;
};

/* The rest of a fuzz input. Reading past its end gives zeros. */
struct input {
    const uint8_t *data;
    size_t left;
};

uint8_t input_byte(struct input *input);
uint16_t input_short(struct input *input);
/* At most `most` bytes of what a length prefix asks for, in memory of exactly that size. */
uint8_t *input_piece(struct input *input, size_t most, size_t *bytes);

void bed_open(struct bed *bed, bool is_hub);
void bed_close(struct bed *bed);

/* The live peer's is 0; those with these bits are IPv6, or on the hub's Ethernet. */
#define BED_IPV6 8
#define BED_L2   16
struct m13_endpoint bed_endpoint(const struct bed *bed, uint8_t number);

/* Every invariant of the peers' table, the slow way. */
void bed_check(const struct bed *bed);

#define BED_ASSERT(condition)                                                                      \
    do {                                                                                           \
        if (!(condition))                                                                          \
            bed_fail(#condition, __FILE__, __LINE__);                                              \
    } while (0)
_Noreturn void bed_fail(const char *condition, const char *file, int line);

#endif
