/* One UDP trial between two namespaces: a paced sender and a receiver, as JSON on stdout.
 *
 *     udp_load SENDER_NETNS RECEIVER_NETNS ADDRESS BYTES PACKETS_PER_SECOND MILLISECONDS
 *
 * Neither end may be the limit of what is measured: the sender hands whole bursts to the kernel
 * (sendmmsg of UDP_SEGMENT messages), the receiver wakes by time, not by packet, and its buffer
 * outlasts its sleep. A sender that is kept from the CPU forgets what it owes beyond LAG_MAX_NS
 * rather than flooding; the asked rate is then not reached and the caller sees it. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/udp.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif

#define TICK_NS            100000
#define LAG_MAX_NS         2000000
#define SILENCE_NS         100000000 /* after this much of it nothing more will come */
#define RECEIVE_BYTES      (8 << 20)
#define MESSAGE_BYTES_MAX  65000
#define MESSAGE_SEGMENTS   64
#define BURST_MESSAGES     16
#define DATAGRAM_BYTES_MIN 16
#define BATCH              128

struct trial {
    int sender, receiver;
    uint32_t bytes;
    uint64_t rate, duration_ns, id;
    uint64_t start_ns, sent, forgotten;
    uint64_t received, last_ns;
    atomic_bool is_sent;
};

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static void sleep_ns(uint64_t duration_ns)
{
    struct timespec left = {.tv_nsec = (long)duration_ns};
    nanosleep(&left, NULL);
}

/* The calling thread stays in the namespace; a socket keeps the one it was made in. */
static int socket_in(const char *netns)
{
    int descriptor = open(netns, O_RDONLY | O_CLOEXEC);
    if (descriptor < 0 || setns(descriptor, CLONE_NEWNET) != 0)
        err(1, "cannot enter %s", netns);
    close(descriptor);
    int made = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (made < 0)
        err(1, "socket");
    return made;
}

static void count_batch(struct trial *trial, const struct mmsghdr *messages, const uint64_t *heads,
                        int count)
{
    uint64_t now = now_ns();
    for (int i = 0; i < count; i++) {
        if (messages[i].msg_len == trial->bytes && heads[i] == trial->id) {
            trial->received++;
            trial->last_ns = now;
        }
    }
}

static void *receive(void *argument)
{
    struct trial *trial = argument;
    uint64_t heads[BATCH], heard_ns = now_ns();
    struct iovec vectors[BATCH];
    struct mmsghdr messages[BATCH] = {0};
    for (uint32_t i = 0; i < BATCH; i++) {
        vectors[i] = (struct iovec){&heads[i], sizeof heads[i]};
        messages[i].msg_hdr = (struct msghdr){.msg_iov = &vectors[i], .msg_iovlen = 1};
    }
    for (;;) {
        /* Asked before the socket, so that what came before the end is still counted. */
        bool is_sent = atomic_load(&trial->is_sent);
        /* MSG_TRUNC: the head is enough, msg_len is still the datagram's. */
        int count = recvmmsg(trial->receiver, messages, BATCH, MSG_DONTWAIT | MSG_TRUNC, NULL);
        if (count > 0) {
            count_batch(trial, messages, heads, count);
            heard_ns = now_ns();
            continue;
        }
        if (is_sent && (trial->received >= trial->sent || now_ns() - heard_ns > SILENCE_NS))
            return NULL;
        sleep_ns(TICK_NS);
    }
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
    uint64_t lag_max = trial->rate * LAG_MAX_NS / 1000000000 + 1;
    trial->start_ns = now_ns();
    for (uint64_t elapsed = 0; elapsed < trial->duration_ns; elapsed = now_ns() - trial->start_ns) {
        uint64_t due = elapsed * trial->rate / 1000000000 - trial->forgotten - trial->sent;
        if (due > lag_max) {
            trial->forgotten += due - lag_max;
            due = lag_max;
        }
        send_burst(trial, payload, due);
        trial->sent += due;
        sleep_ns(TICK_NS);
    }
    atomic_store(&trial->is_sent, true);
    free(payload);
}

static uint64_t number(const char *text, uint64_t least, uint64_t most)
{
    char *end;
    unsigned long long value = strtoull(text, &end, 10);
    if (*end || value < least || value > most)
        errx(2, "%s is not a number from %lu to %lu", text, least, most);
    return value;
}

static void open_sockets(struct trial *trial, char **argv)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t length = sizeof address;
    int buffer = RECEIVE_BYTES, segment = (int)trial->bytes;

    trial->receiver = socket_in(argv[2]);
    if (setsockopt(trial->receiver, SOL_SOCKET, SO_RCVBUFFORCE, &buffer, sizeof buffer) != 0 ||
        bind(trial->receiver, (struct sockaddr *)&address, sizeof address) != 0 ||
        getsockname(trial->receiver, (struct sockaddr *)&address, &length) != 0)
        err(1, "receiver");
    if (inet_pton(AF_INET, argv[3], &address.sin_addr) != 1)
        errx(2, "%s is not an IPv4 address", argv[3]);
    trial->sender = socket_in(argv[1]);
    if (setsockopt(trial->sender, SOL_UDP, UDP_SEGMENT, &segment, sizeof segment) != 0 ||
        connect(trial->sender, (struct sockaddr *)&address, sizeof address) != 0)
        err(1, "sender");
}

int main(int argc, char **argv)
{
    if (argc != 7)
        errx(2, "usage: udp_load SENDER_NETNS RECEIVER_NETNS ADDRESS BYTES RATE MILLISECONDS");
    struct trial trial = {
        .bytes = (uint32_t)number(argv[4], DATAGRAM_BYTES_MIN, 1472),
        .rate = number(argv[5], 1, 100000000),
        .duration_ns = number(argv[6], 1, 60000) * 1000000,
        .id = now_ns(),
    };
    open_sockets(&trial, argv);
    prctl(PR_SET_TIMERSLACK, 1UL);
    pthread_t thread;
    if (pthread_create(&thread, NULL, receive, &trial) != 0)
        errx(1, "no thread");
    send_paced(&trial);
    pthread_join(thread, NULL);
    double seconds = trial.last_ns ? (double)(trial.last_ns - trial.start_ns) / 1e9 : 0;
    printf("{\"sent\": %lu, \"forgotten\": %lu, \"received\": %lu, \"seconds\": %.6f}\n",
           trial.sent, trial.forgotten, trial.received, seconds);
    return 0;
}
