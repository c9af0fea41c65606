/* Round trips of ICMP echoes out of a namespace, as JSON on stdout.
 *
 *     ping_times NETNS ADDRESS COUNT INTERVAL_US
 *
 * Echoes leave on their own schedule whether the earlier ones came back or not, so a stall costs
 * every echo that falls into it and not only the first. The gaps are random around INTERVAL_US, so
 * that no periodic work of kernel or tunnel is met always or never. A round trip begins just before
 * the send and ends with the kernel's stamp on the reply's arrival: when this program gets the
 * processor back is no part of it. It sleeps in between, as a program that waits does. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <linux/icmp.h>
#include <netinet/ip.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>

#include "trial.h"

#define PAYLOAD_BYTES 56 /* ping(8) */
#define COUNT_MAX     60000
#define WAIT_NS       NS_PER_S /* for the last replies */

struct echo {
    struct icmphdr head;
    uint8_t payload[PAYLOAD_BYTES];
};

struct pings {
    int socket;
    struct echo request;
    uint64_t sent_ns[COUNT_MAX]; /* by sequence number */
    uint64_t trip_ns[COUNT_MAX]; /* 0 until the reply came */
    uint32_t sent, received;
};

/* The clock of the kernel's stamps. */
static uint64_t now_ns(void)
{
    return clock_ns(CLOCK_REALTIME);
}

static uint16_t checksum(const struct echo *echo)
{
    uint16_t words[sizeof *echo / 2];
    uint32_t sum = 0;
    memcpy(words, echo, sizeof *echo);
    for (size_t i = 0; i < sizeof *echo / 2; i++)
        sum += words[i];
    sum = (sum & 0xFFFF) + (sum >> 16);
    return (uint16_t) ~(sum + (sum >> 16));
}

static void send_one(struct pings *pings)
{
    struct echo *request = &pings->request;
    request->head.un.echo.sequence = htons((uint16_t)pings->sent);
    request->head.checksum = 0;
    request->head.checksum = checksum(request);
    pings->sent_ns[pings->sent] = now_ns();
    /* an echo the kernel does not take is one without an answer */
    if (send(pings->socket, request, sizeof *request, 0) < 0 && errno != ENOBUFS)
        err(1, "send");
    pings->sent++;
}

static uint64_t arrival_ns(struct msghdr *message)
{
    struct timespec stamp;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c; c = CMSG_NXTHDR(message, c)) {
        if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_TIMESTAMPNS) {
            memcpy(&stamp, CMSG_DATA(c), sizeof stamp);
            return (uint64_t)stamp.tv_sec * NS_PER_S + (uint64_t)stamp.tv_nsec;
        }
    }
    errx(1, "a reply without a time stamp");
}

static void note_reply(struct pings *pings, const uint8_t *packet, size_t bytes, uint64_t stamp_ns)
{
    struct echo reply;
    struct iphdr ip;
    if (bytes < sizeof ip)
        return;
    memcpy(&ip, packet, sizeof ip);
    if (bytes != ip.ihl * 4U + sizeof reply)
        return;
    memcpy(&reply, packet + ip.ihl * 4U, sizeof reply);
    uint32_t sequence = ntohs(reply.head.un.echo.sequence);
    if (reply.head.un.echo.id != pings->request.head.un.echo.id || sequence >= pings->sent ||
        pings->trip_ns[sequence] ||
        memcmp(reply.payload, pings->request.payload, PAYLOAD_BYTES) != 0)
        return;
    pings->trip_ns[sequence] = stamp_ns - pings->sent_ns[sequence];
    pings->received++;
}

/* Takes what comes until then, or until there are enough. */
static void receive_until(struct pings *pings, uint64_t until_ns, uint32_t enough)
{
    for (uint64_t now = now_ns(); now < until_ns && pings->received < enough; now = now_ns()) {
        struct pollfd descriptor = {.fd = pings->socket, .events = POLLIN};
        struct timespec left = {.tv_sec = (time_t)((until_ns - now) / NS_PER_S),
                                .tv_nsec = (long)((until_ns - now) % NS_PER_S)};
        if (ppoll(&descriptor, 1, &left, NULL) <= 0)
            continue;
        uint8_t packet[2048];
        union {
            struct cmsghdr head; /* for its alignment */
            uint8_t bytes[CMSG_SPACE(sizeof(struct timespec))];
        } control;
        struct iovec vector = {packet, sizeof packet};
        struct msghdr message = {.msg_iov = &vector,
                                 .msg_iovlen = 1,
                                 .msg_control = &control,
                                 .msg_controllen = sizeof control};
        ssize_t bytes = recvmsg(pings->socket, &message, MSG_DONTWAIT);
        if (bytes > 0)
            note_reply(pings, packet, (size_t)bytes, arrival_ns(&message));
    }
}

static void open_socket(struct pings *pings, const char *netns, const char *text)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    struct icmp_filter filter = {.data = ~(1U << ICMP_ECHOREPLY)};
    int on = 1;
    if (inet_pton(AF_INET, text, &address.sin_addr) != 1)
        errx(2, "%s is not an IPv4 address", text);
    pings->socket = socket_in(netns, SOCK_RAW, IPPROTO_ICMP);
    if (setsockopt(pings->socket, SOL_RAW, ICMP_FILTER, &filter, sizeof filter) != 0 ||
        setsockopt(pings->socket, SOL_SOCKET, SO_TIMESTAMPNS, &on, sizeof on) != 0 ||
        connect(pings->socket, (struct sockaddr *)&address, sizeof address) != 0)
        err(1, "socket");
}

int main(int argc, char **argv)
{
    static struct pings pings;
    if (argc != 5)
        errx(2, "usage: ping_times NETNS ADDRESS COUNT INTERVAL_US");
    uint32_t count = (uint32_t)number(argv[3], 1, COUNT_MAX);
    uint64_t interval_ns = number(argv[4], 1, 1000000) * NS_PER_US;
    open_socket(&pings, argv[1], argv[2]);
    prctl(PR_SET_TIMERSLACK, 1UL);
    pings.request.head.type = ICMP_ECHO;
    pings.request.head.un.echo.id = htons((uint16_t)getpid());
    uint64_t next_ns = now_ns();
    memcpy(pings.request.payload, &next_ns, sizeof next_ns); /* nobody else's */
    srandom((unsigned int)next_ns);
    while (pings.sent < count) {
        send_one(&pings);
        /* half to one and a half intervals */
        next_ns += interval_ns / 2 + (uint64_t)random() % interval_ns;
        receive_until(&pings, next_ns, UINT32_MAX);
    }
    receive_until(&pings, now_ns() + WAIT_NS, count);

    const char *separator = "";
    printf("{\"sent\": %u, \"trips_ns\": [", pings.sent);
    for (uint32_t i = 0; i < pings.sent; i++) {
        if (pings.trip_ns[i]) {
            printf("%s%lu", separator, pings.trip_ns[i]);
            separator = ", ";
        }
    }
    printf("]}\n");
    return 0;
}
