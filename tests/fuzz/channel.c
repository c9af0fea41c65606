/* The handshake channel when the other process writes what it likes into the shared memory.
 *
 *   records: kind u8, detail u8, then SCRIBBLE: offset u16, length u16, bytes */
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bed.h"

enum { SCRIBBLE, SEND, RECEIVE, ATTACH, KINDS };

struct run {
    struct m13_channel *channel;
    uint8_t *shared;
    size_t shared_bytes;
    struct m13_channel_message *message;
};

/* Offsets count from the places that matter: the header, positions and first slots of each ring. */
static void scribble(struct run *run, uint8_t detail, struct input *input)
{
    size_t bytes, ring_bytes = (run->shared_bytes - 64) / 2;
    size_t offset = input_short(input) % 1024;
    if (detail & 3)
        offset += 64 + (detail & 1) * ring_bytes;
    uint8_t *piece = input_piece(input, 64, &bytes);
    memcpy(run->shared + offset, piece, bytes);
    free(piece);
}

static void receive_all(struct run *run, enum m13_channel_direction direction)
{
    int taken = 0;
    while (m13_channel_receive(run->channel, direction, run->message)) {
        BED_ASSERT(run->message->length <= M13_CHANNEL_PAYLOAD_BYTES);
        BED_ASSERT(++taken <= M13_CHANNEL_SLOTS); /* nobody can keep us here */
    }
}

static void attach(struct run *run)
{
    struct m13_channel *second;
    int descriptors[] = {dup(run->channel->memory_fd), dup(run->channel->request_fd),
                         dup(run->channel->answer_fd)};
    if (!m13_channel_attach(&second, descriptors[0], descriptors[1], descriptors[2])) {
        m13_channel_destroy(second);
        return;
    }
    for (int i = 0; i < 3; i++)
        close(descriptors[i]);
}

static void record(struct run *run, struct input *input)
{
    uint8_t kind = input_byte(input), detail = input_byte(input);
    enum m13_channel_direction direction = detail & 1;
    switch (kind % KINDS) {
    case SCRIBBLE:
        scribble(run, detail, input);
        break;
    case SEND:
        run->message->kind = detail;
        run->message->length = input_short(input);
        m13_channel_send(run->channel, direction, run->message);
        break;
    case RECEIVE:
        receive_all(run, direction);
        break;
    case ATTACH:
        attach(run);
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input input = {data, size};
    struct run run = {.message = calloc(1, sizeof *run.message)};
    struct stat status;
    BED_ASSERT(run.message && !m13_channel_create(&run.channel));
    BED_ASSERT(!fstat(run.channel->memory_fd, &status));
    run.shared_bytes = (size_t)status.st_size;
    run.shared =
        mmap(NULL, run.shared_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, run.channel->memory_fd, 0);
    BED_ASSERT(run.shared != MAP_FAILED);
    while (input.left)
        record(&run, &input);
    munmap(run.shared, run.shared_bytes);
    m13_channel_destroy(run.channel);
    free(run.message);
    return 0;
}
