/* Two threads on a ring, on one whose elements stay in place, on a ring with a doorbell, on a
 * handshake channel, and on the directory of a hub's workers; built with -fsanitize=thread by
 * test_doorbell.py. "race" has a race on purpose. */
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "channel.h"
#include "directory.h"
#include "doorbell.h"
#include "ring.h"

enum { NUMBERS = 300000, BATCH = 32, MESSAGES = 20000, SLEEP_MS = 2000, CHANGES = 20000, MACS = 8 };

static struct m13_ring ring;
static struct m13_doorbell bell;
static struct m13_channel *near_end, *far_end;
static struct m13_directory directory;
static unsigned unguarded;

static void require(bool condition, const char *what)
{
    if (condition)
        return;
    fprintf(stderr, "broken: %s\n", what);
    exit(1);
}

static void *produce(void *rings)
{
    for (uint64_t next = 0; next < NUMBERS;) {
        uint64_t numbers[BATCH];
        uint32_t count = 0;
        /* the doorbell is about rare pushes: one number at a time, and a pause now and then */
        uint32_t wanted = rings ? 1 : BATCH;
        while (count < wanted && next + count < NUMBERS) {
            numbers[count] = next + count;
            count++;
        }
        uint32_t pushed = m13_ring_push(&ring, numbers, count);
        next += pushed;
        if (rings && pushed)
            m13_doorbell_ring(&bell);
        if (!pushed || (rings && next % 64 == 0))
            sched_yield();
    }
    return NULL;
}

/* As a worker sleeps: arm, look once more, poll, disarm. */
static void wait_for_bell(void)
{
    struct pollfd watched = {.fd = bell.fd, .events = POLLIN};
    m13_doorbell_arm(&bell);
    if (!m13_ring_count(&ring))
        require(poll(&watched, 1, SLEEP_MS) != 0, "a sleeper was not woken");
    m13_doorbell_disarm(&bell);
}

static void consume(bool sleeps)
{
    for (uint64_t next = 0; next < NUMBERS;) {
        uint64_t numbers[BATCH];
        uint32_t count = m13_ring_pop(&ring, numbers, BATCH);
        for (uint32_t i = 0; i < count; i++)
            require(numbers[i] == next++, "a number is out of order");
        if (count)
            continue;
        if (sleeps)
            wait_for_bell();
        else
            sched_yield();
    }
}

static void run_ring(bool with_bell)
{
    pthread_t thread;
    require(!m13_ring_init(&ring, 1024, sizeof(uint64_t)), "ring");
    require(!m13_doorbell_init(&bell), "doorbell");
    require(!pthread_create(&thread, NULL, produce, with_bell ? &bell : NULL), "thread");
    consume(with_bell);
    pthread_join(thread, NULL);
    m13_doorbell_fini(&bell);
    m13_ring_fini(&ring);
}

static void *produce_in_place(void *unused)
{
    for (uint64_t next = 0; next < NUMBERS;) {
        uint64_t *place = m13_ring_reserve(&ring);
        if (!place) {
            sched_yield();
            continue;
        }
        *place = next++;
        m13_ring_commit(&ring);
    }
    return unused;
}

static void run_in_place(void)
{
    pthread_t thread;
    require(!m13_ring_init(&ring, 64, sizeof(uint64_t)), "ring");
    require(!pthread_create(&thread, NULL, produce_in_place, NULL), "thread");
    for (uint64_t next = 0; next < NUMBERS;) {
        const uint64_t *place = m13_ring_peek(&ring);
        if (!place) {
            sched_yield();
            continue;
        }
        require(*place == next++, "an element is out of order");
        m13_ring_release(&ring);
    }
    pthread_join(thread, NULL);
    m13_ring_fini(&ring);
}

/* Peers of worker 1 come and go; their MACs and addresses are nobody else's. */
static void *come_and_go(void *unused)
{
    for (uint32_t i = 0; i < CHANGES; i++) {
        uint32_t host = i % MACS;
        struct m13_prefix prefix = m13_prefix_host4(host);
        require(m13_directory_enter(&directory), "no room for the only peer");
        m13_directory_set_mac(&directory, host, 1);
        m13_directory_set_prefix(&directory, &prefix, 1);
        require(m13_directory_by_mac(&directory, host) == 1, "a MAC is lost");
        m13_directory_remove_prefix(&directory, &prefix, 2); /* not its owner */
        m13_directory_remove_prefix(&directory, &prefix, 1);
        m13_directory_remove_mac(&directory, host, 1);
        m13_directory_leave(&directory);
    }
    return unused;
}

static void run_directory(void)
{
    pthread_t thread;
    uint8_t inner[20] = {0x45};
    require(!m13_directory_init(&directory, 42, 1, MACS), "directory");
    require(!pthread_create(&thread, NULL, come_and_go, NULL), "thread");
    for (uint32_t i = 0; i < CHANGES; i++) {
        inner[16] = (uint8_t)(i % MACS);
        uint16_t by_mac = m13_directory_by_mac(&directory, i % MACS);
        uint16_t by_address = m13_directory_by_destination(&directory, inner);
        require(by_mac == 1 || by_mac == M13_DIRECTORY_NOBODY, "a MAC is a stranger's");
        require(by_address == 1 || by_address == M13_DIRECTORY_NOBODY,
                "an address is a stranger's");
    }
    pthread_join(thread, NULL);
    require(!directory.established, "somebody stayed");
    m13_directory_fini(&directory);
}

/* The worker: answers every request with its number. */
static void *answer(void *unused)
{
    static struct m13_channel_message message;
    for (uint32_t done = 0; done < MESSAGES;) {
        if (!m13_channel_receive(far_end, M13_CHANNEL_REQUESTS, &message)) {
            sched_yield();
            continue;
        }
        require(message.generation == done++, "a request is out of order");
        message.kind = M13_CHANNEL_SAY_REFUSED;
        while (!m13_channel_send(far_end, M13_CHANNEL_ANSWERS, &message))
            sched_yield();
    }
    return unused;
}

static void exchange(void)
{
    static struct m13_channel_message sent, received;
    uint32_t asked = 0, answered = 0;
    sent.kind = M13_CHANNEL_ASK_FINISHED;
    sent.length = 64;
    while (answered < MESSAGES) {
        sent.generation = asked;
        memset(sent.payload, (int)asked, sent.length);
        if (asked < MESSAGES && m13_channel_send(near_end, M13_CHANNEL_REQUESTS, &sent))
            asked++;
        if (!m13_channel_receive(near_end, M13_CHANNEL_ANSWERS, &received))
            continue;
        require(received.generation == answered, "an answer is out of order");
        require(received.payload[63] == (uint8_t)answered++, "an answer has another payload");
    }
}

static void run_channel(void)
{
    pthread_t thread;
    require(!m13_channel_create(&near_end), "channel");
    require(!m13_channel_attach(&far_end, dup(near_end->memory_fd), dup(near_end->request_fd),
                                dup(near_end->answer_fd)),
            "attach");
    require(!pthread_create(&thread, NULL, answer, NULL), "thread");
    exchange();
    pthread_join(thread, NULL);
    m13_channel_destroy(far_end);
    m13_channel_destroy(near_end);
}

static void *increment(void *unused)
{
    for (int i = 0; i < 100000; i++)
        unguarded++;
    return unused;
}

static void run_race(void)
{
    pthread_t thread;
    require(!pthread_create(&thread, NULL, increment, NULL), "thread");
    increment(NULL);
    pthread_join(thread, NULL);
}

int main(int count, char **arguments)
{
    const char *scenario = count > 1 ? arguments[1] : "";
    if (!strcmp(scenario, "ring"))
        run_ring(false);
    else if (!strcmp(scenario, "doorbell"))
        run_ring(true);
    else if (!strcmp(scenario, "ring in place"))
        run_in_place();
    else if (!strcmp(scenario, "directory"))
        run_directory();
    else if (!strcmp(scenario, "channel"))
        run_channel();
    else if (!strcmp(scenario, "race"))
        run_race();
    else
        return 2;
    return 0;
}
