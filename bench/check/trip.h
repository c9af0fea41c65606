/* Recorded packets on their way from one end to the other, in vectors. */
#ifndef M13_CHECK_TRIP_H
#define M13_CHECK_TRIP_H

#include "ends.h"
#include "offload.h"
#include "recording.h"
#include "sched.h"

struct trip {
    struct end *from;
    struct end *to;
    const struct recording *recording;
    uint32_t packet_count; /* after cutting: what the tunnel carries */
    uint32_t vector_count;
    struct m13_vector *vectors;  /* full but the last */
    struct m13_packet **packets; /* all of the vectors', in order */
    struct m13_packet *large;    /* a node asks for the peer once a read */
    uint32_t *first_of;          /* read -> its first packet, and one more at the end */
    uint32_t *inner_bytes;       /* of each packet */
    uint8_t *inner;              /* what was cut, M13_FRAME_BYTES each, to compare */
    uint8_t *frames;             /* M13_FRAME_BYTES each */
    struct m13_merge *merges;
    struct m13_sched sched;
    struct m13_ring ring;
    struct m13_replay replay;
    uint32_t passed; /* packets the present stage let through, where it says so */
};

/* from, to and recording are set. Cuts the recording once to know its packets, and lays out
 * vectors that name a frame for each. */
void trip_open(struct trip *trip);
void trip_close(struct trip *trip);

/* Between the ends: the vectors as a worker fills them with what arrived, in the same frames. */
void trip_arrive(struct trip *trip);

/* Whether every frame holds the packet that was cut for it. */
bool trip_is_intact(const struct trip *trip);

#endif
