/* Every stage of the data path on recorded traffic, each between two marks for callgrind.
 *
 *   stages UP.pcap DOWN.pcap
 *
 * Two trips: what the node read from its TUN goes to the hub's, then what the hub read goes to the
 * node's. A trip takes all packets through one stage before the next, in vectors of 64, so that
 * callgrind's profile of a stage is a dump of its own, named "hub.open" or the like. What lies
 * between stages in the real workers (sockets, slab, TUN) is outside the marks. Each stage's answer
 * is checked, so that nothing gets cheaper by leaving work out. Says on standard output what it was
 * built with and runs on, and how many packets each stage had: inner packets, after cutting. */
#include "stages.h"

#include <gnu/libc-version.h>
#include <stdio.h>
#include <stdlib.h>
#include <valgrind/callgrind.h>

#include "trip.h"

#define PAGE_BYTES  4096
#define QUEUE_BATCH 256 /* of a turn, as in hub_worker.h */

void stages_require(bool condition, const char *complaint)
{
    if (condition)
        return;
    fprintf(stderr, "stages: %s\n", complaint);
    exit(EXIT_FAILURE);
}

void *stages_memory(uint64_t bytes)
{
    bytes = (bytes + PAGE_BYTES - 1) / PAGE_BYTES * PAGE_BYTES;
    void *memory = aligned_alloc(PAGE_BYTES, bytes);
    stages_require(memory, "no memory");
    return memset(memory, 0, bytes);
}

/* --- outward stages ------------------------------------------------------------------------- */

static void split(struct trip *trip)
{
    struct m13_split split;
    uint32_t index = 0;
    for (uint32_t read = 0; read < trip->recording->count; read++) {
        const struct recorded_read *recorded = &trip->recording->reads[read];
        m13_split_begin(&split, recorded->data, recorded->bytes);
        while (m13_split_next_bytes(&split))
            m13_split_next(&split, trip->packets[index++]->frame->payload);
    }
}

/* The node: a large packet goes to one peer as a whole. */
static void collect_reads(struct trip *trip)
{
    for (uint32_t read = 0; read < trip->recording->count; read++) {
        const struct recorded_read *recorded = &trip->recording->reads[read];
        m13_collect(
            &trip->from->path, &trip->large[read], recorded->data + M13_OFFLOAD_HEADER_BYTES,
            recorded->bytes - M13_OFFLOAD_HEADER_BYTES, trip->inner_bytes[trip->first_of[read]]);
    }
}

/* The hub: packets come cut. */
static void collect_packets(struct trip *trip)
{
    for (uint32_t index = 0; index < trip->packet_count; index++) {
        struct m13_packet *packet = trip->packets[index];
        uint32_t bytes = packet->bytes - M13_WIRE_FRAME_BYTES;
        m13_collect(&trip->from->path, packet, packet->frame->payload, bytes, bytes);
    }
}

static void seal(struct trip *trip)
{
    for (uint32_t i = 0; i < trip->vector_count; i++)
        m13_seal(&trip->from->path, &trip->vectors[i]);
}

static void transmit_outer(struct trip *trip)
{
    const struct m13_endpoint to = end_other(trip->from);
    for (uint32_t index = 0; index < trip->packet_count; index++) {
        struct m13_packet *packet = trip->packets[index];
        m13_transmit_outer(&trip->from->path, &to, packet->frame, packet->bytes);
    }
}

static void schedule(struct trip *trip)
{
    struct m13_sched_entry entries[QUEUE_BATCH];
    for (uint32_t i = 0; i < trip->vector_count; i++) {
        const struct m13_vector *vector = &trip->vectors[i];
        for (uint32_t j = 0; j < vector->count; j++) {
            const struct m13_packet *packet = &vector->packets[j];
            struct m13_sched_entry entry = {.offset = packet->index, .bytes = packet->bytes};
            m13_sched_push(&trip->sched, false, &entry, 1);
        }
        trip->passed += m13_sched_pop(&trip->sched, entries, QUEUE_BATCH);
    }
}

static void pass_ring(struct trip *trip)
{
    uint64_t words[M13_VECTOR_PACKETS] = {0};
    for (uint32_t i = 0; i < trip->vector_count; i++) {
        m13_ring_push(&trip->ring, words, trip->vectors[i].count);
        trip->passed += m13_ring_pop(&trip->ring, words, M13_VECTOR_PACKETS);
    }
}

/* --- inward stages -------------------------------------------------------------------------- */

static void parse_outer(struct trip *trip)
{
    for (uint32_t index = 0; index < trip->packet_count; index++) {
        struct m13_packet *packet = trip->packets[index];
        m13_parse_outer(&trip->to->path, packet, (uint8_t *)packet->frame - M13_WIRE_OUTER_BYTES,
                        packet->bytes + M13_WIRE_OUTER_BYTES);
    }
}

static void parse(struct trip *trip)
{
    for (uint32_t i = 0; i < trip->vector_count; i++)
        m13_parse(&trip->to->path, &trip->vectors[i]);
}

static void replay(struct trip *trip)
{
    for (uint32_t index = 0; index < trip->packet_count; index++) {
        uint64_t counter = trip->packets[index]->frame->header.nonce_counter;
        if (m13_replay_check(&trip->replay, counter))
            trip->passed += m13_replay_advance(&trip->replay, counter);
    }
}

static void open_vectors(struct trip *trip)
{
    for (uint32_t i = 0; i < trip->vector_count; i++)
        m13_open(&trip->to->path, &trip->vectors[i]);
}

static void classify(struct trip *trip)
{
    for (uint32_t i = 0; i < trip->vector_count; i++)
        m13_classify(&trip->to->path, &trip->vectors[i]);
}

static void deliver(struct trip *trip)
{
    for (uint32_t index = 0; index < trip->packet_count; index++)
        trip->passed += m13_deliver_check(&trip->to->path, trip->packets[index]);
}

static void write_merge(struct trip *trip, struct m13_merge *merge)
{
    m13_merge_finish(merge);
    trip->passed += merge->count;
}

/* A vector's packets side by side, as both workers join them. */
static void merge(struct trip *trip)
{
    for (uint32_t i = 0; i < trip->vector_count; i++) {
        struct m13_merge_set set = {.udp_stays_alone = false};
        struct m13_merge *fresh = &trip->merges[M13_MERGE_FLOWS_MAX], *leaving;
        uint32_t unused = M13_MERGE_FLOWS_MAX;
        for (uint32_t j = 0; j < trip->vectors[i].count; j++) {
            struct m13_packet *packet = &trip->vectors[i].packets[j];
            uint32_t bytes = packet->frame->header.payload_bytes;
            if (m13_merge_join(&set, packet->frame->payload, bytes, packet->index))
                continue;
            leaving = m13_merge_open(&set, fresh, packet->frame->payload, bytes, packet->index);
            if (leaving)
                write_merge(trip, leaving);
            fresh = leaving ? leaving : &trip->merges[--unused];
        }
        for (uint32_t j = 0; j < set.count; j++)
            write_merge(trip, set.open[j]);
    }
}

/* --- trips ---------------------------------------------------------------------------------- */

static void count(struct trip *trip, const struct end *end, const char *stage,
                  void (*run)(struct trip *))
{
    char name[64];
    snprintf(name, sizeof name, "%s.%s", end->path.config.is_hub ? "hub" : "node", stage);
    trip->passed = 0;
    CALLGRIND_TOGGLE_COLLECT;
    run(trip);
    CALLGRIND_TOGGLE_COLLECT;
    CALLGRIND_DUMP_STATS_AT(name);
    printf("stage %s %u\n", name, trip->packet_count);
}

static void require_all(const struct trip *trip, enum m13_verdict verdict, const char *complaint)
{
    for (uint32_t index = 0; index < trip->packet_count; index++)
        stages_require(trip->packets[index]->verdict == verdict, complaint);
}

static void require_passed(const struct trip *trip, const char *complaint)
{
    stages_require(trip->passed == trip->packet_count, complaint);
}

static void leave_node(struct trip *trip)
{
    count(trip, trip->from, "split", split);
    count(trip, trip->from, "collect", collect_reads);
    for (uint32_t read = 0; read < trip->recording->count; read++) {
        for (uint32_t index = trip->first_of[read]; index < trip->first_of[read + 1]; index++) {
            trip->packets[index]->peer = trip->large[read].peer;
            trip->packets[index]->session = trip->large[read].session;
            trip->packets[index]->verdict = trip->large[read].verdict;
        }
    }
    require_all(trip, M13_TO_NETWORK, "collect dropped a packet");
    count(trip, trip->from, "seal", seal);
    require_all(trip, M13_TO_NETWORK, "seal dropped a packet");
    transmit_outer(trip); /* the kernel's part */
}

static void leave_hub(struct trip *trip)
{
    count(trip, trip->from, "split", split);
    count(trip, trip->from, "collect", collect_packets);
    require_all(trip, M13_TO_NETWORK, "collect dropped a packet");
    count(trip, trip->from, "seal", seal);
    require_all(trip, M13_TO_NETWORK, "seal dropped a packet");
    count(trip, trip->from, "transmit_outer", transmit_outer);
    count(trip, trip->from, "sched", schedule);
    require_passed(trip, "the scheduler lost a packet");
    count(trip, trip->from, "ring", pass_ring);
    require_passed(trip, "the ring lost a packet");
}

static void enter(struct trip *trip)
{
    trip_arrive(trip);
    if (trip->to->path.config.is_hub)
        count(trip, trip->to, "parse_outer", parse_outer);
    require_all(trip, M13_TO_OPEN, "parse_outer dropped a packet");
    count(trip, trip->to, "parse", parse);
    require_all(trip, M13_TO_OPEN, "parse dropped a packet");
    count(trip, trip->to, "replay", replay);
    require_passed(trip, "the replay window refused a packet");
    count(trip, trip->to, "open", open_vectors);
    require_all(trip, M13_TO_CLASSIFY, "open dropped a packet");
    stages_require(trip_is_intact(trip), "a packet arrived changed");
    count(trip, trip->to, "classify", classify);
    require_all(trip, M13_TO_TUN, "classify dropped a packet");
    count(trip, trip->to, "deliver", deliver);
    require_passed(trip, "deliver dropped a packet");
    count(trip, trip->to, "merge", merge);
    require_passed(trip, "merge lost a packet");
}

static void travel(struct end *from, struct end *to, const char *recording_path)
{
    struct recording recording;
    recording_open(&recording, recording_path);
    struct trip trip = {.from = from, .to = to, .recording = &recording};
    trip_open(&trip);
    if (from->path.config.is_hub)
        leave_hub(&trip);
    else
        leave_node(&trip);
    enter(&trip);
    trip_close(&trip);
    recording_close(&recording);
}

/* Everything but the recording that counts depend on. */
static void say_conditions(const struct end *end)
{
    const char *cpu = "default";
#ifdef __x86_64__
    /* what the target_clones of checksum.c choose from */
    if (__builtin_cpu_supports("avx512f"))
        cpu = "avx512f";
    else if (__builtin_cpu_supports("avx2"))
        cpu = "avx2";
#endif
    printf("condition compiler %s\n", __VERSION__);
    printf("condition libc %s\n", gnu_get_libc_version());
    printf("condition cpu %s\n", cpu);
    printf("condition aead %s\n", end->path.aead.backend->name);
}

int main(int argument_count, char **arguments)
{
    static struct end hub, node;
    stages_require(argument_count == 3, "usage: stages UP.pcap DOWN.pcap");
    end_open(&hub, true);
    end_open(&node, false);
    say_conditions(&hub);
    CALLGRIND_START_INSTRUMENTATION;
    travel(&node, &hub, arguments[1]);
    travel(&hub, &node, arguments[2]);
    CALLGRIND_STOP_INSTRUMENTATION;
    end_close(&hub);
    end_close(&node);
    return EXIT_SUCCESS;
}
