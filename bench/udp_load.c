/* One UDP trial between two namespaces: a paced sender and a receiver, as JSON on stdout.
 *
 *     udp_load SENDER_NETNS RECEIVER_NETNS ADDRESS BYTES PACKETS_PER_SECOND MILLISECONDS
 *
 * Neither end may be the limit of what is measured, and both share the processors with it: the
 * sender hands whole bursts to the kernel (sendmmsg of UDP_SEGMENT messages), the receiver wakes by
 * time, not by packet, takes what the kernel joined in one piece (UDP_GRO), and its buffer outlasts
 * its sleep. The processor time of both is reported, so that it can be told from the tunnel's. A
 * sender that is kept from the CPU forgets what it owes beyond LAG_MAX_NS rather than flooding; the
 * asked rate is then not reached and the caller sees it. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/udp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>

#include "trial.h"

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#define UDP_GRO     104
#endif

#define SEND_TICK_NS       (100 * NS_PER_US)
#define RECEIVE_TICK_NS    (400 * NS_PER_US) /* waking costs more than a longer queue */
#define LAG_MAX_NS         (2 * NS_PER_MS)
#define SILENCE_NS         (100 * NS_PER_MS) /* after this much of it nothing more will come */
#define RECEIVE_BYTES      (64 << 20)
#define MESSAGE_BYTES_MAX  65000
#define MESSAGE_SEGMENTS   64 /* UDP_MAX_SEGMENTS of Linux 6.1 */
#define BURST_MESSAGES     16
#define DATAGRAM_BYTES_MIN 16
#define BATCH              64
/* The longest joined datagram; an odd number of cache lines, so that the heads of the buffers do
 * not all fall into the same cache set. */
#define BUFFER_BYTES (65536 + 64)

struct trial {
    int sender, receiver;
    uint32_t bytes;
    uint64_t rate, duration_ns, id;
    uint64_t start_ns, sent, forgotten, sender_busy_ns;
    uint64_t received, last_ns, receiver_busy_ns;
    atomic_bool is_sent;
};

struct inbox {
    struct mmsghdr messages[BATCH];
    struct iovec vectors[BATCH];
    union {
        struct cmsghdr head; /* for its alignment */
        uint8_t bytes[CMSG_SPACE(sizeof(int))];
    } controls[BATCH];
    uint8_t buffers[BATCH][BUFFER_BYTES];
};

static uint64_t now_ns(void)
{
    return clock_ns(CLOCK_MONOTONIC);
}

/* The length of each datagram in a received message; the kernel says so only when it joined some.
 */
static uint32_t segment_bytes(struct msghdr *message, uint32_t message_bytes)
{
    for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c; c = CMSG_NXTHDR(message, c)) {
        int segment;
        if (c->cmsg_level == SOL_UDP && c->cmsg_type == UDP_GRO) {
            memcpy(&segment, CMSG_DATA(c), sizeof segment);
            return (uint32_t)segment;
        }
    }
    return message_bytes;
}

static uint64_t count_datagrams(const struct trial *trial, const uint8_t *data, uint32_t bytes)
{
    uint64_t count = 0;
    for (uint32_t at = 0; at + trial->bytes <= bytes; at += trial->bytes)
        count += memcmp(data + at, &trial->id, sizeof trial->id) == 0;
    return count;
}

static int take_batch(struct trial *trial, struct inbox *inbox)
{
    for (uint32_t i = 0; i < BATCH; i++)
        inbox->messages[i].msg_hdr.msg_controllen = sizeof inbox->controls[i];
    int count = recvmmsg(trial->receiver, inbox->messages, BATCH, MSG_DONTWAIT, NULL);
    uint64_t received = 0;
    for (int i = 0; i < count; i++) {
        uint32_t bytes = inbox->messages[i].msg_len;
        if (segment_bytes(&inbox->messages[i].msg_hdr, bytes) == trial->bytes)
            received += count_datagrams(trial, inbox->buffers[i], bytes);
    }
    if (received > 0) {
        trial->received += received;
        trial->last_ns = now_ns();
    }
    return count;
}

static void *receive(void *argument)
{
    struct trial *trial = argument;
    uint64_t heard_ns = now_ns();
    struct inbox *inbox = calloc(1, sizeof *inbox);
    if (!inbox)
        err(1, "memory");
    for (uint32_t i = 0; i < BATCH; i++) {
        inbox->vectors[i] = (struct iovec){inbox->buffers[i], BUFFER_BYTES};
        inbox->messages[i].msg_hdr = (struct msghdr){
            .msg_iov = &inbox->vectors[i],
            .msg_iovlen = 1,
            .msg_control = &inbox->controls[i],
        };
    }
    for (;;) {
        /* Asked before the socket, so that what came before the end is still counted. */
        bool is_sent = atomic_load(&trial->is_sent);
        if (take_batch(trial, inbox) > 0) {
            heard_ns = now_ns();
            continue;
        }
        if (is_sent && (trial->received >= trial->sent || now_ns() - heard_ns > SILENCE_NS))
            break;
        sleep_ns(RECEIVE_TICK_NS);
    }
    trial->receiver_busy_ns = thread_busy_ns();
    free(inbox);
    return NULL;
}

static void send_burst(const struct trial *trial, uint8_t *payload, uint64_t count)
{
    uint64_t segments_max = MESSAGE_BYTES_MAX / trial->bytes;
    if (segments_max > MESSAGE_SEGMENTS)
        segments_max = MESSAGE_SEGMENTS;
    while (count > 0) {
        struct iovec vectors[BURST_MESSAGES];
        struct mmsghdr messages[BURST_MESSAGES] = {0};
        uint32_t used = 0;
        for (; used < BURST_MESSAGES && count > 0; used++) {
            uint64_t segments = count < segments_max ? count : segments_max;
            vectors[used] = (struct iovec){payload, segments * trial->bytes};
            messages[used].msg_hdr = (struct msghdr){.msg_iov = &vectors[used], .msg_iovlen = 1};
            count -= segments;
        }
        for (uint32_t done = 0; done < used;) {
            int taken = sendmmsg(trial->sender, messages + done, used - done, 0);
            if (taken < 0 && errno != ENOBUFS)
                err(1, "sendmmsg");
            done += taken < 0 ? 1 : (uint32_t)taken; /* ENOBUFS: that message is lost */
        }
    }
}

static void send_paced(struct trial *trial)
{
    uint8_t *payload = calloc(1, MESSAGE_BYTES_MAX);
    if (!payload)
        err(1, "memory");
    for (uint32_t at = 0; at + trial->bytes <= MESSAGE_BYTES_MAX; at += trial->bytes)
        memcpy(payload + at, &trial->id, sizeof trial->id);
    uint64_t lag_max = trial->rate * LAG_MAX_NS / NS_PER_S + 1;
    uint64_t busy_ns = thread_busy_ns();
    trial->start_ns = now_ns();
    for (uint64_t elapsed = 0; elapsed < trial->duration_ns; elapsed = now_ns() - trial->start_ns) {
        uint64_t due = elapsed * trial->rate / NS_PER_S - trial->forgotten - trial->sent;
        if (due > lag_max) {
            trial->forgotten += due - lag_max;
            due = lag_max;
        }
        send_burst(trial, payload, due);
        trial->sent += due;
        sleep_ns(SEND_TICK_NS);
    }
    atomic_store(&trial->is_sent, true);
    trial->sender_busy_ns = thread_busy_ns() - busy_ns;
    free(payload);
}

static void open_sockets(struct trial *trial, char **argv)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t length = sizeof address;
    int buffer = RECEIVE_BYTES, segment = (int)trial->bytes, on = 1;

    trial->receiver = socket_in(argv[2], SOCK_DGRAM, 0);
    if (setsockopt(trial->receiver, SOL_SOCKET, SO_RCVBUFFORCE, &buffer, sizeof buffer) != 0 ||
        setsockopt(trial->receiver, SOL_UDP, UDP_GRO, &on, sizeof on) != 0 ||
        bind(trial->receiver, (struct sockaddr *)&address, sizeof address) != 0 ||
        getsockname(trial->receiver, (struct sockaddr *)&address, &length) != 0)
        err(1, "receiver");
    if (inet_pton(AF_INET, argv[3], &address.sin_addr) != 1)
        errx(2, "%s is not an IPv4 address", argv[3]);
    trial->sender = socket_in(argv[1], SOCK_DGRAM, 0);
    if (setsockopt(trial->sender, SOL_UDP, UDP_SEGMENT, &segment, sizeof segment) != 0 ||
        connect(trial->sender, (struct sockaddr *)&address, sizeof address) != 0)
        err(1, "sender");
}

static void print_result(const struct trial *trial)
{
    double seconds = trial->last_ns ? (double)(trial->last_ns - trial->start_ns) / 1e9 : 0;
    double asked_ns = (double)trial->duration_ns;
    printf("{\"sent\": %lu, \"forgotten\": %lu, \"received\": %lu, \"seconds\": %.6f, "
           "\"sender_busy\": %.4f, \"receiver_busy\": %.4f}\n",
           trial->sent, trial->forgotten, trial->received, seconds,
           (double)trial->sender_busy_ns / asked_ns, (double)trial->receiver_busy_ns / asked_ns);
}

int main(int argc, char **argv)
{
    if (argc != 7)
        errx(2, "usage: udp_load SENDER_NETNS RECEIVER_NETNS ADDRESS BYTES RATE MILLISECONDS");
    struct trial trial = {
        .bytes = (uint32_t)number(argv[4], DATAGRAM_BYTES_MIN, 1472),
        .rate = number(argv[5], 1, 100000000),
        .duration_ns = number(argv[6], 1, 60000) * NS_PER_MS,
        .id = now_ns(),
    };
    open_sockets(&trial, argv);
    prctl(PR_SET_TIMERSLACK, 1UL);
    pthread_t thread;
    if (pthread_create(&thread, NULL, receive, &trial) != 0)
        errx(1, "no thread");
    send_paced(&trial);
    pthread_join(thread, NULL);
    print_result(&trial);
    return 0;
}
