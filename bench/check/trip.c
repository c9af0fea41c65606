/* What a trip needs memory for, and what its packets were before they left. */
#include "trip.h"

#include <stdlib.h>

#include "stages.h"

#define RING_SLOTS 2048

static uint8_t *inner_of(const struct trip *trip, uint32_t index)
{
    return trip->inner + (uint64_t)index * M13_FRAME_BYTES;
}

/* An inner packet begins on a cache line, as in the UMEM and in the node's receive group. */
static struct m13_wire_frame *frame_of(const struct trip *trip, uint32_t index)
{
    return (void *)(trip->frames + (uint64_t)index * M13_FRAME_BYTES + M13_TUN_OFFSET -
                    M13_WIRE_FRAME_BYTES);
}

static uint32_t most_packets(const struct recording *recording)
{
    uint32_t bytes = 0;
    for (uint32_t read = 0; read < recording->count; read++)
        bytes += recording->reads[read].bytes;
    return recording->count + bytes / M13_TUNNEL_MTU_MIN;
}

static void cut(struct trip *trip)
{
    struct m13_split split;
    const struct recording *recording = trip->recording;
    uint32_t index = 0, bytes, most = most_packets(recording);
    trip->inner = stages_memory((uint64_t)most * M13_FRAME_BYTES);
    trip->inner_bytes = stages_memory(most * sizeof *trip->inner_bytes);
    trip->first_of = stages_memory((recording->count + 1) * sizeof *trip->first_of);
    for (uint32_t read = 0; read < recording->count; read++) {
        const struct recorded_read *recorded = &recording->reads[read];
        stages_require(m13_split_begin(&split, recorded->data, recorded->bytes),
                       "a recorded packet cannot be cut");
        trip->first_of[read] = index;
        while ((bytes = m13_split_next_bytes(&split))) {
            stages_require(index < most && bytes <= M13_FRAME_BYTES - M13_TUN_OFFSET,
                           "a recorded packet is too large or too many");
            trip->inner_bytes[index] = bytes;
            m13_split_next(&split, inner_of(trip, index++));
        }
    }
    trip->first_of[recording->count] = trip->packet_count = index;
}

static void fill_vectors(struct trip *trip, enum m13_verdict verdict)
{
    for (uint32_t index = 0; index < trip->packet_count; index++)
        *trip->packets[index] =
            (struct m13_packet){.frame = frame_of(trip, index),
                                .index = index,
                                .bytes = trip->inner_bytes[index] + M13_WIRE_FRAME_BYTES,
                                .peer = M13_PEER_NONE,
                                .verdict = (uint8_t)verdict};
}

void trip_open(struct trip *trip)
{
    cut(trip);
    trip->vector_count = (trip->packet_count + M13_VECTOR_PACKETS - 1) / M13_VECTOR_PACKETS;
    trip->vectors = stages_memory(trip->vector_count * sizeof *trip->vectors);
    trip->packets = stages_memory(trip->packet_count * sizeof(struct m13_packet *));
    trip->frames = stages_memory((uint64_t)trip->packet_count * M13_FRAME_BYTES);
    trip->large = stages_memory(trip->recording->count * sizeof *trip->large);
    trip->merges = stages_memory((M13_MERGE_FLOWS_MAX + 1) * sizeof *trip->merges);
    for (uint32_t index = 0; index < trip->packet_count; index++) {
        struct m13_vector *vector = &trip->vectors[index / M13_VECTOR_PACKETS];
        trip->packets[index] = &vector->packets[vector->count++];
    }
    fill_vectors(trip, M13_DROPPED);
    m13_replay_init(&trip->replay);
    stages_require(!m13_sched_init(&trip->sched), "no scheduler");
    stages_require(!m13_ring_init(&trip->ring, RING_SLOTS, sizeof(uint64_t)), "no ring");
}

void trip_close(struct trip *trip)
{
    free(trip->inner);
    free(trip->inner_bytes);
    free(trip->first_of);
    free(trip->vectors);
    free(trip->packets);
    free(trip->frames);
    free(trip->large);
    free(trip->merges);
    m13_sched_fini(&trip->sched);
    m13_ring_fini(&trip->ring);
}

void trip_arrive(struct trip *trip)
{
    fill_vectors(trip, M13_TO_OPEN);
}

bool trip_is_intact(const struct trip *trip)
{
    for (uint32_t index = 0; index < trip->packet_count; index++)
        if (memcmp(trip->packets[index]->frame->payload, inner_of(trip, index),
                   trip->inner_bytes[index]) != 0)
            return false;
    return true;
}
