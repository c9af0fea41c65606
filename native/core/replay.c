/* RFC 6479 without shifting: a circular bitmap, indexed by the counter's low bits. */
#include "replay.h"

#include <string.h>

#include "wire.h"

void m13_replay_init(struct m13_replay *replay)
{
    memset(replay, 0, sizeof *replay);
}

bool m13_replay_check(const struct m13_replay *replay, uint64_t counter)
{
    if (counter >= M13_WIRE_COUNTER_MAX)
        return false;
    if (counter >= replay->next)
        return true;
    if (replay->next - counter > M13_REPLAY_WINDOW)
        return false;
    return !(replay->bits[counter / 64 % M13_REPLAY_WORDS] >> (counter % 64) & 1);
}

bool m13_replay_advance(struct m13_replay *replay, uint64_t counter)
{
    if (!m13_replay_check(replay, counter))
        return false;
    if (counter >= replay->next) {
        uint64_t newest = replay->next ? (replay->next - 1) / 64 : 0;
        uint64_t words = counter / 64 - newest;
        if (words > M13_REPLAY_WORDS)
            words = M13_REPLAY_WORDS;
        for (uint64_t i = 1; i <= words; i++)
            replay->bits[(newest + i) % M13_REPLAY_WORDS] = 0;
        replay->next = counter + 1;
    }
    replay->bits[counter / 64 % M13_REPLAY_WORDS] |= 1ull << (counter % 64);
    replay->accepted++;
    return true;
}
