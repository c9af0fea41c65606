/* A hub and a node that have a session with each other, without network and handshake. */
#ifndef M13_CHECK_ENDS_H
#define M13_CHECK_ENDS_H

#include "path.h"

struct end {
    struct m13_path path;
    struct m13_stats_page page;
    struct m13_channel *channel;
};

/* Where the other end is, as this one's frames are addressed. */
struct m13_endpoint end_other(const struct end *end);

void end_open(struct end *end, bool is_hub);
void end_close(struct end *end);

#endif
