/* What sealing and opening cost above the library's own call, in vectors of 64 frames.
 *
 *   stages_aead BACKEND ROUNDS
 *
 * On standard output how many cycles of the stages' clock a nanosecond has, then a line a size and
 * depth:
 *
 *   cycles_per_ns NUMBER
 *   PACKET_BYTES DEPTH SEAL_MIN SEAL_MEDIAN OPEN_MIN OPEN_MEDIAN      (nanoseconds a packet)
 *
 * Depths: "library" is a bare loop of the library's calls, "aead" is m13_aead_seal/open, "stage"
 * is m13_seal/m13_open with stamp, number, checks and replay window. All three work on the same
 * frames, one vector each by turns, so that a disturbance or a change of clock hits all alike. The
 * frames lie as close as in a train of the reactor: caches do not hide what a layer costs. */
#include <stdio.h>
#include <stdlib.h>

#include "check/ends.h"
#include "check/stages.h"
#include "stages_library.h"

#define VECTOR       M13_AEAD_VECTOR
#define ROUNDS_MAX   100000
#define WARM_UP      64
#define CACHE_LINE   64
#define KEY_PHASE    1
#define HANDSHAKE    2
#define NS_PER_SCALE 20000000ull /* long enough that reading two clocks costs nothing */

enum depth { LIBRARY, AEAD, STAGE, DEPTHS };
static const char *const depth_names[DEPTHS] = {"library", "aead", "stage"};
static const uint32_t sizes[] = {64, 128, 256, 512, 1024, 1400};
static const uint8_t secrets[2][M13_WIRE_KEY_BYTES] = {{1}, {2}};

struct bench {
    struct end node, hub;
    struct m13_aead aead;
    struct m13_aead_key key;
    struct stages_library *library;
    struct m13_vector vector;
    struct m13_aead_job jobs[VECTOR];
    uint64_t *seal_cycles[DEPTHS], *open_cycles[DEPTHS];
};

void stages_require(bool condition, const char *complaint)
{
    if (condition)
        return;
    fprintf(stderr, "stages_aead: %s\n", complaint);
    exit(EXIT_FAILURE);
}

void *stages_memory(uint64_t bytes)
{
    bytes = (bytes + M13_FRAME_BYTES - 1) / M13_FRAME_BYTES * M13_FRAME_BYTES;
    void *memory = aligned_alloc(M13_FRAME_BYTES, bytes);
    stages_require(memory, "no memory");
    return memset(memory, 0, bytes);
}

/* The ends come with the best backend; here they get the one that is measured. */
static void install(struct end *end, const char *backend)
{
    struct m13_path *path = &end->path;
    struct m13_session *session = path->peers.slots[0].current;
    bool is_hub = path->config.is_hub;
    m13_session_fini(session, &path->aead);
    m13_aead_destroy(&path->aead);
    stages_require(!m13_aead_create(&path->aead, backend), "this machine has no such backend");
    stages_require(!m13_session_init(session, &path->aead, HANDSHAKE, KEY_PHASE, secrets[is_hub],
                                     secrets[!is_hub], path->now_ns),
                   "no session");
}

static void lay_out(struct bench *bench, uint8_t *memory, uint32_t packet_bytes)
{
    uint32_t frame_bytes = M13_WIRE_FRAME_BYTES + packet_bytes;
    uint32_t stride = (frame_bytes + CACHE_LINE - 1) / CACHE_LINE * CACHE_LINE;
    bench->vector.count = VECTOR;
    for (uint32_t i = 0; i < VECTOR; i++) {
        struct m13_wire_frame *frame = (void *)(memory + (uint64_t)i * stride);
        bench->vector.packets[i] = (struct m13_packet){.frame = frame, .bytes = frame_bytes};
        bench->jobs[i] = (struct m13_aead_job){.key = &bench->key,
                                               .header = &frame->header,
                                               .bytes = frame_bytes - M13_WIRE_ETHERNET_BYTES};
    }
}

static void address(struct bench *bench, struct end *end, enum m13_verdict verdict)
{
    struct m13_peer *peer = &end->path.peers.slots[0];
    for (uint32_t i = 0; i < VECTOR; i++) {
        bench->vector.packets[i].session = peer->current;
        bench->vector.packets[i].source = peer->endpoint;
        bench->vector.packets[i].verdict = (uint8_t)verdict;
    }
}

static void require_all(const struct bench *bench, enum m13_verdict verdict)
{
    for (uint32_t i = 0; i < VECTOR; i++)
        stages_require(bench->vector.packets[i].verdict == verdict, "a stage dropped a packet");
}

static void run_library(struct bench *bench, uint64_t *marks)
{
    marks[0] = m13_clock_cycles();
    stages_library_seal(bench->library, bench->jobs, VECTOR);
    marks[1] = marks[2] = m13_clock_cycles();
    bool all = stages_library_open(bench->library, bench->jobs, VECTOR);
    marks[3] = m13_clock_cycles();
    stages_require(all, "the library did not open what it sealed");
}

static void run_aead(struct bench *bench, uint64_t *marks)
{
    marks[0] = m13_clock_cycles();
    m13_aead_seal(&bench->aead, bench->jobs, VECTOR);
    marks[1] = marks[2] = m13_clock_cycles();
    m13_aead_open(&bench->aead, bench->jobs, VECTOR);
    marks[3] = m13_clock_cycles();
    for (uint32_t i = 0; i < VECTOR; i++)
        stages_require(bench->jobs[i].authentic, "the backend did not open what it sealed");
}

static void run_stage(struct bench *bench, uint64_t *marks)
{
    address(bench, &bench->node, M13_TO_NETWORK);
    marks[0] = m13_clock_cycles();
    m13_seal(&bench->node.path, &bench->vector);
    marks[1] = m13_clock_cycles();
    require_all(bench, M13_TO_NETWORK);
    address(bench, &bench->hub, M13_TO_OPEN);
    marks[2] = m13_clock_cycles();
    m13_open(&bench->hub.path, &bench->vector);
    marks[3] = m13_clock_cycles();
    require_all(bench, M13_TO_CLASSIFY);
}

static void measure(struct bench *bench, uint32_t rounds)
{
    void (*const runs[DEPTHS])(struct bench *, uint64_t *) = {run_library, run_aead, run_stage};
    for (uint32_t round = 0; round < WARM_UP + rounds; round++) {
        for (uint32_t turn = 0; turn < DEPTHS; turn++) {
            /* each follows each other one equally often */
            uint32_t depth = (round % 2 ? turn : DEPTHS - 1 - turn) + round / 2;
            uint64_t marks[4];
            runs[depth % DEPTHS](bench, marks);
            if (round < WARM_UP)
                continue;
            bench->seal_cycles[depth % DEPTHS][round - WARM_UP] = marks[1] - marks[0];
            bench->open_cycles[depth % DEPTHS][round - WARM_UP] = marks[3] - marks[2];
        }
    }
}

static int compare(const void *left, const void *right)
{
    uint64_t a = *(const uint64_t *)left, b = *(const uint64_t *)right;
    return a < b ? -1 : a > b;
}

static double cycles_per_ns(void)
{
    uint64_t begin_ns = m13_clock_now_ns(), begin = m13_clock_cycles(), now_ns;
    do
        now_ns = m13_clock_now_ns();
    while (now_ns - begin_ns < NS_PER_SCALE);
    return (double)(m13_clock_cycles() - begin) / (double)(now_ns - begin_ns);
}

static void say(uint64_t *cycles, uint32_t rounds, double scale)
{
    qsort(cycles, rounds, sizeof *cycles, compare);
    printf(" %.2f %.2f", (double)cycles[0] / scale / VECTOR,
           (double)cycles[rounds / 2] / scale / VECTOR);
}

static void open_bench(struct bench *bench, const char *backend, uint32_t rounds)
{
    end_open(&bench->node, false);
    end_open(&bench->hub, true);
    install(&bench->node, backend);
    install(&bench->hub, backend);
    stages_require(!m13_aead_create(&bench->aead, backend), "no backend");
    stages_require(!m13_aead_key_init(&bench->aead, &bench->key, secrets[0]), "no key");
    bench->library = stages_library_open_key(backend, secrets[0]);
    for (uint32_t depth = 0; depth < DEPTHS; depth++) {
        bench->seal_cycles[depth] = stages_memory(rounds * sizeof(uint64_t));
        bench->open_cycles[depth] = stages_memory(rounds * sizeof(uint64_t));
    }
}

static void close_bench(struct bench *bench)
{
    for (uint32_t depth = 0; depth < DEPTHS; depth++) {
        free(bench->seal_cycles[depth]);
        free(bench->open_cycles[depth]);
    }
    stages_library_close(bench->library);
    m13_aead_key_fini(&bench->aead, &bench->key);
    m13_aead_destroy(&bench->aead);
    end_close(&bench->node);
    end_close(&bench->hub);
}

int main(int argument_count, char **arguments)
{
    static struct bench bench;
    long rounds = argument_count == 3 ? strtol(arguments[2], NULL, 10) : 0;
    stages_require(rounds > 0 && rounds <= ROUNDS_MAX, "usage: stages_aead BACKEND ROUNDS");
    open_bench(&bench, arguments[1], (uint32_t)rounds);
    double scale = cycles_per_ns();
    printf("cycles_per_ns %.4f\n", scale);
    uint8_t *memory = stages_memory((uint64_t)VECTOR * M13_FRAME_BYTES);
    for (uint32_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        lay_out(&bench, memory, sizes[i]);
        measure(&bench, (uint32_t)rounds);
        for (uint32_t depth = 0; depth < DEPTHS; depth++) {
            printf("%u %s", sizes[i], depth_names[depth]);
            say(bench.seal_cycles[depth], (uint32_t)rounds, scale);
            say(bench.open_cycles[depth], (uint32_t)rounds, scale);
            printf("\n");
        }
    }
    free(memory);
    close_bench(&bench);
    return EXIT_SUCCESS;
}
