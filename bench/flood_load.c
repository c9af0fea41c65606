/* A flood from nowhere: M13 frames in the clear from random addresses and ports, at a steady rate.
 *
 *     flood_load NETNS ADDRESS PORT KIND PACKETS_PER_SECOND MILLISECONDS
 *
 * KIND is "hello" (the first fragment of a v2 ClientHello with a random cookie), "bare" (the same
 * with none, as v1 has it) or "registration". Sources are in 100.64.0.0/10 (RFC 6598), 4 million of
 * them with 64 000 ports each, from a generator with a fixed seed; IPv4 checksums are the kernel's
 * (raw(7)), UDP has none (RFC 768). Prints how many were sent, as JSON. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/ip.h>
#include <netinet/udp.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>

#include "trial.h"
#include "wire.h"

#define TICK_NS        (200 * NS_PER_US)
#define LAG_MAX_NS     (5 * NS_PER_MS)
#define BATCH          32
#define SEND_BYTES     (4 << 20)
#define HEAD_BYTES     (sizeof(struct iphdr) + sizeof(struct udphdr))
#define SLOT_BYTES     (HEAD_BYTES + M13_WIRE_FRAME_BYTES + FRAGMENT_BYTES)
#define FIRST          0x64400000u /* 100.64.0.0 */
#define HOSTS_MASK     0x003FFFFFu
#define PORT_FIRST     1024
#define PORTS          64000
#define SOURCE_MAC     "\x02\x00\x00\x00\xF1\x00"
#define FRAGMENT_BYTES (sizeof(struct m13_wire_fragment) + M13_FRAGMENT_CHUNK_BYTES)

struct flood {
    int socket;
    struct sockaddr_in to;
    bool has_fragment, has_cookie;
    uint32_t bytes;
    uint64_t random;
    struct mmsghdr messages[BATCH];
    struct iovec vectors[BATCH];
    uint8_t slots[BATCH][SLOT_BYTES];
};

/* splitmix64: enough to look like everybody. */
static uint64_t next_random(struct flood *flood)
{
    uint64_t value = flood->random += 0x9E3779B97F4A7C15ull;
    value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9ull;
    value = (value ^ (value >> 27)) * 0x94D049BB133111EBull;
    return value ^ (value >> 31);
}

static void write_packet(struct flood *flood, uint8_t *slot)
{
    uint64_t dice = next_random(flood);
    struct iphdr ip = {.version = 4,
                       .ihl = sizeof ip / 4,
                       .tot_len = htons((uint16_t)flood->bytes),
                       .ttl = 64,
                       .protocol = IPPROTO_UDP,
                       .saddr = htonl(FIRST | ((uint32_t)dice & HOSTS_MASK)),
                       .daddr = flood->to.sin_addr.s_addr};
    struct udphdr udp = {.source = htons((uint16_t)(PORT_FIRST + (dice >> 32) % PORTS)),
                         .dest = flood->to.sin_port,
                         .len = htons((uint16_t)(flood->bytes - sizeof ip))};
    struct m13_wire_frame *frame = (void *)(slot + HEAD_BYTES);
    memcpy(slot, &ip, sizeof ip);
    memcpy(slot + sizeof ip, &udp, sizeof udp);
    m13_wire_stamp(frame, (const uint8_t *)SOURCE_MAC,
                   flood->has_fragment ? M13_FLAGS_HANDSHAKE : M13_FLAGS_REGISTRATION, 0, dice);
    if (flood->has_cookie) {
        uint64_t halves[2] = {next_random(flood), next_random(flood)};
        memcpy(frame->header.tag, halves, sizeof frame->header.tag);
    }
    if (flood->has_fragment) {
        struct m13_wire_fragment header = {
            .id = (uint16_t)dice, .total = 3, .bytes = M13_FRAGMENT_CHUNK_BYTES};
        memcpy(frame->payload, &header, sizeof header);
        frame->payload[sizeof header] = M13_CLIENT_HELLO;
        frame->payload[sizeof header + 1] = flood->has_cookie ? 2 : 1;
    }
}

/* A full queue, or no way for a moment while a node changes its routes: that packet is lost. */
static bool is_loss(int error)
{
    return error == ENOBUFS || error == EHOSTUNREACH || error == ENETUNREACH;
}

static uint64_t send_batch(struct flood *flood, uint32_t count)
{
    for (uint32_t slot = 0; slot < count; slot++)
        write_packet(flood, flood->slots[slot]);
    for (uint32_t done = 0; done < count;) {
        int taken = sendmmsg(flood->socket, flood->messages + done, count - done, 0);
        if (taken < 0 && !is_loss(errno))
            err(1, "sendmmsg");
        done += taken < 0 ? 1 : (uint32_t)taken;
    }
    return count;
}

static void run(struct flood *flood, uint64_t rate, uint64_t duration_ns)
{
    uint64_t sent = 0, forgotten = 0, lag_max = rate * LAG_MAX_NS / NS_PER_S + 1;
    uint64_t start_ns = clock_ns(CLOCK_MONOTONIC), elapsed = 0;
    for (; elapsed < duration_ns; elapsed = clock_ns(CLOCK_MONOTONIC) - start_ns) {
        uint64_t due = elapsed * rate / NS_PER_S - forgotten - sent;
        if (due > lag_max) {
            forgotten += due - lag_max;
            due = lag_max;
        }
        for (uint64_t left = due; left;) {
            uint32_t count = left < BATCH ? (uint32_t)left : BATCH;
            sent += send_batch(flood, count);
            left -= count;
        }
        sleep_ns(TICK_NS);
    }
    printf("{\"sent\": %lu, \"seconds\": %.6f}\n", sent, (double)elapsed / 1e9);
}

int main(int argc, char **argv)
{
    static struct flood flood;
    int buffer = SEND_BYTES;
    if (argc != 7)
        errx(2, "usage: flood_load NETNS ADDRESS PORT hello|bare|registration RATE MILLISECONDS");
    flood.has_fragment = strcmp(argv[4], "registration") != 0;
    flood.has_cookie = !strcmp(argv[4], "hello");
    flood.bytes = (uint32_t)(flood.has_fragment ? SLOT_BYTES : HEAD_BYTES + M13_WIRE_FRAME_BYTES);
    flood.to = (struct sockaddr_in){.sin_family = AF_INET,
                                    .sin_port = htons((uint16_t)number(argv[3], 1, UINT16_MAX))};
    if (inet_pton(AF_INET, argv[2], &flood.to.sin_addr) != 1)
        errx(2, "%s is not an IPv4 address", argv[2]);
    uint64_t rate = number(argv[5], 1, 1000000);
    uint64_t duration_ns = number(argv[6], 1, 60000) * NS_PER_MS;
    flood.socket = socket_in(argv[1], SOCK_RAW, IPPROTO_RAW);
    if (setsockopt(flood.socket, SOL_SOCKET, SO_SNDBUFFORCE, &buffer, sizeof buffer) != 0)
        err(1, "socket");
    for (uint32_t slot = 0; slot < BATCH; slot++) {
        flood.vectors[slot] = (struct iovec){flood.slots[slot], flood.bytes};
        flood.messages[slot].msg_hdr = (struct msghdr){.msg_name = &flood.to,
                                                       .msg_namelen = sizeof flood.to,
                                                       .msg_iov = &flood.vectors[slot],
                                                       .msg_iovlen = 1};
    }
    prctl(PR_SET_TIMERSLACK, 1UL);
    run(&flood, rate, duration_ns);
    return 0;
}
