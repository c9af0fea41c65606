/* The handshake channel: layout of the shared page, positions, bring-up. */
#include "channel.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { CACHE_LINE_BYTES = 64 };
/* Without these the other process could shrink the file and turn our next access into SIGBUS. */
static const int SEALS = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;

_Static_assert((M13_CHANNEL_SLOTS & (M13_CHANNEL_SLOTS - 1)) == 0, "slots are a power of two");

struct shared_ring {
    alignas(CACHE_LINE_BYTES) _Atomic uint32_t tail; /* published by the producer */
    alignas(CACHE_LINE_BYTES) _Atomic uint32_t head; /* published by the consumer */
    alignas(CACHE_LINE_BYTES) struct m13_channel_message slots[M13_CHANNEL_SLOTS];
};

struct m13_channel_memory {
    uint64_t magic;
    uint32_t version;
    uint32_t bytes;
    struct shared_ring rings[M13_CHANNEL_DIRECTIONS];
};

static int event_fd(const struct m13_channel *channel, enum m13_channel_direction direction)
{
    return direction == M13_CHANNEL_REQUESTS ? channel->request_fd : channel->answer_fd;
}

static bool kind_known(uint32_t kind, enum m13_channel_direction direction)
{
    if (direction == M13_CHANNEL_REQUESTS)
        return kind >= M13_CHANNEL_ASK_START && kind <= M13_CHANNEL_ASK_FORGET;
    return kind >= M13_CHANNEL_SAY_CLIENT_HELLO && kind <= M13_CHANNEL_SAY_REFUSED;
}

bool m13_channel_send(struct m13_channel *channel, enum m13_channel_direction direction,
                      const struct m13_channel_message *message)
{
    struct shared_ring *ring = &channel->memory->rings[direction];
    uint32_t tail = channel->produced[direction];
    uint32_t waiting = tail - atomic_load_explicit(&ring->head, memory_order_acquire);
    if (message->length > M13_CHANNEL_PAYLOAD_BYTES)
        return false;
    if (waiting > M13_CHANNEL_SLOTS) {
        /* A head ahead of the tail is nonsense. Publishing our tail again lets an honest reader
         * find its place; until it has, the ring counts as full. */
        channel->malformed_count++;
        atomic_store_explicit(&ring->tail, tail, memory_order_release);
    }
    if (waiting >= M13_CHANNEL_SLOTS)
        return false;
    memcpy(&ring->slots[tail % M13_CHANNEL_SLOTS], message,
           offsetof(struct m13_channel_message, payload) + message->length);
    channel->produced[direction] = tail + 1;
    atomic_store_explicit(&ring->tail, tail + 1, memory_order_release);
    uint64_t one = 1;
    ssize_t written = write(event_fd(channel, direction), &one, sizeof one);
    (void)written; /* fails only when the counter is saturated: then it is readable anyway */
    return true;
}

/* Copies one slot out and wipes it. The other process may be writing it meanwhile, so the length
 * that was checked is the length that is used. */
static bool slot_take(struct m13_channel_message *slot, enum m13_channel_direction direction,
                      struct m13_channel_message *out)
{
    uint32_t length = __atomic_load_n(&slot->length, __ATOMIC_RELAXED);
    bool fits = length <= M13_CHANNEL_PAYLOAD_BYTES;
    out->kind = __atomic_load_n(&slot->kind, __ATOMIC_RELAXED);
    out->peer = slot->peer;
    out->generation = slot->generation;
    out->length = fits ? length : 0;
    memcpy(out->payload, slot->payload, out->length);
    explicit_bzero(slot->payload, fits ? length : M13_CHANNEL_PAYLOAD_BYTES);
    return fits && kind_known(out->kind, direction);
}

bool m13_channel_receive(struct m13_channel *channel, enum m13_channel_direction direction,
                         struct m13_channel_message *out)
{
    struct shared_ring *ring = &channel->memory->rings[direction];
    uint32_t head = channel->consumed[direction];
    uint32_t tail = atomic_load_explicit(&ring->tail, memory_order_acquire);
    bool taken = false;
    if (tail - head > M13_CHANNEL_SLOTS) {
        channel->malformed_count++; /* no way to tell what is new: start again at their position */
        head = tail;
    }
    while (!taken && head != tail) {
        taken = slot_take(&ring->slots[head % M13_CHANNEL_SLOTS], direction, out);
        channel->malformed_count += !taken;
        head++;
    }
    channel->consumed[direction] = head;
    /* Published even when nothing was taken, so that a scribbled head heals at the next poll. */
    if (atomic_load_explicit(&ring->head, memory_order_relaxed) != head)
        atomic_store_explicit(&ring->head, head, memory_order_release);
    return taken;
}

/* False with errno when the kernel refuses. */
static bool map_memory(struct m13_channel *channel)
{
    size_t bytes = sizeof(struct m13_channel_memory);
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, channel->memory_fd, 0);
    if (memory == MAP_FAILED)
        return false;
    channel->memory = memory;
    madvise(memory, bytes, MADV_DONTDUMP); /* keys pass through; an old kernel may refuse */
    return true;
}

static int create_into(struct m13_channel *channel)
{
    channel->memory_fd = memfd_create("m13-handshake", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (channel->memory_fd < 0 || ftruncate(channel->memory_fd, sizeof *channel->memory) < 0 ||
        fcntl(channel->memory_fd, F_ADD_SEALS, SEALS) < 0)
        return -errno;
    channel->request_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (channel->request_fd < 0)
        return -errno;
    channel->answer_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (channel->answer_fd < 0)
        return -errno;
    if (!map_memory(channel))
        return -errno;
    channel->memory->magic = M13_CHANNEL_MAGIC;
    channel->memory->version = M13_CHANNEL_VERSION;
    channel->memory->bytes = sizeof *channel->memory;
    return 0;
}

int m13_channel_create(struct m13_channel **out)
{
    struct m13_channel *channel = calloc(1, sizeof *channel);
    if (!channel)
        return -ENOMEM;
    channel->memory_fd = channel->request_fd = channel->answer_fd = -1;
    int error = create_into(channel);
    if (error) {
        m13_channel_destroy(channel);
        return error;
    }
    *out = channel;
    return 0;
}

static int attach_into(struct m13_channel *channel)
{
    struct stat status;
    int seals = fcntl(channel->memory_fd, F_GET_SEALS);
    if (seals < 0 || fstat(channel->memory_fd, &status) < 0)
        return -errno;
    if ((seals & SEALS) != SEALS || status.st_size != (off_t)sizeof *channel->memory)
        return -EPROTO;
    if (!map_memory(channel))
        return -errno;
    const struct m13_channel_memory *memory = channel->memory;
    if (memory->magic != M13_CHANNEL_MAGIC || memory->version != M13_CHANNEL_VERSION ||
        memory->bytes != sizeof *memory)
        return -EPROTO;
    return 0;
}

/* Where the predecessor stopped: it consumed requests up to head and produced answers up to tail.
 */
static void resume(struct m13_channel *channel)
{
    for (int direction = 0; direction < M13_CHANNEL_DIRECTIONS; direction++) {
        struct shared_ring *ring = &channel->memory->rings[direction];
        channel->produced[direction] = atomic_load_explicit(&ring->tail, memory_order_acquire);
        channel->consumed[direction] = atomic_load_explicit(&ring->head, memory_order_acquire);
    }
}

int m13_channel_attach(struct m13_channel **out, int memory_fd, int request_fd, int answer_fd)
{
    struct m13_channel *channel = calloc(1, sizeof *channel);
    if (!channel)
        return -ENOMEM;
    channel->memory_fd = memory_fd;
    channel->request_fd = request_fd;
    channel->answer_fd = answer_fd;
    int error = attach_into(channel);
    if (error) {
        channel->memory_fd = channel->request_fd = channel->answer_fd = -1;
        m13_channel_destroy(channel);
        return error;
    }
    resume(channel);
    *out = channel;
    return 0;
}

void m13_channel_destroy(struct m13_channel *channel)
{
    if (!channel)
        return;
    if (channel->memory)
        munmap(channel->memory, sizeof *channel->memory);
    const int descriptors[] = {channel->memory_fd, channel->request_fd, channel->answer_fd};
    for (unsigned index = 0; index < sizeof descriptors / sizeof *descriptors; index++) {
        if (descriptors[index] >= 0)
            close(descriptors[index]);
    }
    free(channel);
}

void m13_channel_progress(const struct m13_channel *channel, enum m13_channel_direction direction,
                          uint32_t *sent, uint32_t *received)
{
    const struct shared_ring *ring = &channel->memory->rings[direction];
    *sent = atomic_load_explicit(&ring->tail, memory_order_relaxed);
    *received = atomic_load_explicit(&ring->head, memory_order_relaxed);
}
