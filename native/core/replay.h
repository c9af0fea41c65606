/* The anti-replay window of RFC 6479: which counters have been seen, 8192 back from the newest.
 *
 * check() is asked before any cryptography and changes nothing; advance() is called only for a
 * counter whose tag verified. The bitmap is twice the window so that whole words can be cleared
 * ahead without eating into it. */
#ifndef M13_REPLAY_H
#define M13_REPLAY_H

#include <stdbool.h>
#include <stdint.h>

#define M13_REPLAY_WINDOW 8192
#define M13_REPLAY_WORDS  (2 * M13_REPLAY_WINDOW / 64)

struct m13_replay {
    uint64_t next;     /* highest counter seen, plus one */
    uint64_t accepted; /* counters seen, each once */
    uint64_t bits[M13_REPLAY_WORDS];
};

/* Nothing seen: every counter is new. */
void m13_replay_init(struct m13_replay *replay);

/* True when the counter may be accepted: new, inside the window, below the hard stop. */
bool m13_replay_check(const struct m13_replay *replay, uint64_t counter);

/* Marks an authenticated counter; false when check() would have refused it. */
bool m13_replay_advance(struct m13_replay *replay, uint64_t counter);

#endif
