/* Measuring descriptors that packets pass: TUN, UDP socket, a tunnel that answers echoes. */
#include "selfbench.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "clock.h"

#define IPV4_HEADER_BYTES_MAX 60u
#define ECHO_HEAD_BYTES       8u /* of an ICMP echo: type, code, checksum, identifier, sequence */
#define ECHO_REPLY            0u

static int send_burst(int fd, const uint8_t *message, uint32_t bytes, uint32_t burst,
                      struct m13_selfbench_flow *flow)
{
    uint64_t begun = m13_clock_now_ns();
    for (uint32_t i = 0; i < burst; i++) {
        ssize_t written = write(fd, message, bytes);
        if (written < 0)
            return -errno;
        flow->calls++;
        flow->bytes += (uint64_t)written;
    }
    flow->ns += m13_clock_now_ns() - begun;
    return 0;
}

/* The last call, which finds nothing, is part of what receiving costs. */
static int receive_all(int fd, uint8_t *buffer, struct m13_selfbench_flow *flow)
{
    uint64_t begun = m13_clock_now_ns();
    ssize_t got;
    while ((got = read(fd, buffer, M13_SELFBENCH_MESSAGE_MAX)) > 0) {
        flow->calls++;
        flow->bytes += (uint64_t)got;
    }
    if (got < 0 && errno != EAGAIN)
        return -errno;
    flow->ns += m13_clock_now_ns() - begun;
    return 0;
}

int m13_selfbench_exchange(int send_fd, int receive_fd, const uint8_t *message, uint32_t bytes,
                           uint32_t burst, uint64_t duration_ns, struct m13_selfbench_flow *sent,
                           struct m13_selfbench_flow *received)
{
    *sent = *received = (struct m13_selfbench_flow){0};
    if (!burst || burst > M13_SELFBENCH_BURST_MAX || bytes > M13_SELFBENCH_MESSAGE_MAX)
        return -EINVAL;
    uint8_t *buffer = malloc(M13_SELFBENCH_MESSAGE_MAX);
    if (!buffer)
        return -ENOMEM;
    int error = 0;
    uint64_t begun = m13_clock_now_ns();
    while (!error && m13_clock_now_ns() - begun < duration_ns) {
        error = send_burst(send_fd, message, bytes, burst, sent);
        if (!error && receive_fd >= 0)
            error = receive_all(receive_fd, buffer, received);
    }
    free(buffer);
    return error;
}

/* --- echoes ---------------------------------------------------------------------------------- */

/* How many messages a call moved: none where its error means not now (ENOBUFS is a full queue of
 * the device), or -errno. */
static int moved(int result)
{
    if (result >= 0)
        return result;
    return errno == EAGAIN || errno == ENOBUFS || errno == EINTR ? 0 : -errno;
}

static int send_requests(int fd, const struct m13_selfbench_echo_plan *plan, uint32_t count,
                         struct m13_selfbench_flow *flow)
{
    struct iovec piece = {.iov_base = (void *)(uintptr_t)plan->request, .iov_len = plan->bytes};
    struct mmsghdr messages[M13_SELFBENCH_BURST_MAX];
    memset(messages, 0, sizeof messages);
    for (uint32_t i = 0; i < count; i++)
        messages[i].msg_hdr = (struct msghdr){.msg_iov = &piece, .msg_iovlen = 1};
    int done = moved(sendmmsg(fd, messages, count, 0));
    if (done < 0)
        return done;
    flow->calls += (uint64_t)done;
    flow->bytes += (uint64_t)done * plan->bytes;
    return done;
}

static bool is_reply(const struct m13_selfbench_echo_plan *plan, const uint8_t *packet,
                     uint32_t bytes)
{
    uint32_t skip = plan->has_ip_header ? (packet[0] & 15u) * 4u : 0;
    /* identifier and sequence come back as they were sent; only a raw socket may choose the first
     */
    uint32_t same = plan->has_ip_header ? 4 : 6;
    return bytes == skip + plan->bytes && packet[skip] == ECHO_REPLY &&
           !memcmp(packet + skip + same, plan->request + same, ECHO_HEAD_BYTES - same);
}

static int receive_replies(int fd, const struct m13_selfbench_echo_plan *plan,
                           struct m13_selfbench_flow *flow)
{
    uint8_t heads[M13_SELFBENCH_BURST_MAX][IPV4_HEADER_BYTES_MAX + ECHO_HEAD_BYTES];
    struct iovec pieces[M13_SELFBENCH_BURST_MAX];
    struct mmsghdr messages[M13_SELFBENCH_BURST_MAX];
    memset(messages, 0, sizeof messages);
    for (uint32_t i = 0; i < M13_SELFBENCH_BURST_MAX; i++) {
        pieces[i] = (struct iovec){.iov_base = heads[i], .iov_len = sizeof heads[i]};
        messages[i].msg_hdr = (struct msghdr){.msg_iov = &pieces[i], .msg_iovlen = 1};
    }
    /* MSG_TRUNC: the whole length, though only the head is copied */
    int got = moved(recvmmsg(fd, messages, M13_SELFBENCH_BURST_MAX, MSG_TRUNC, NULL));
    if (got < 0)
        return got;
    int replies = 0;
    for (int i = 0; i < got; i++)
        replies += is_reply(plan, heads[i], messages[i].msg_len);
    flow->calls += (uint64_t)replies;
    flow->bytes += (uint64_t)replies * plan->bytes;
    return replies;
}

int m13_selfbench_echo(int fd, const struct m13_selfbench_echo_plan *plan,
                       struct m13_selfbench_flow *sent, struct m13_selfbench_flow *received)
{
    *sent = *received = (struct m13_selfbench_flow){0};
    if (plan->bytes < ECHO_HEAD_BYTES || !plan->window || plan->window > M13_SELFBENCH_WINDOW_MAX)
        return -EINVAL;
    struct pollfd waits = {.fd = fd, .events = POLLIN};
    const int patience_ms = (int)(plan->patience_ns / M13_MILLISECOND_NS) + 1;
    const uint64_t begun = m13_clock_now_ns();
    uint32_t under_way = 0;
    bool is_sending = true;
    while (is_sending || under_way) {
        is_sending = m13_clock_now_ns() - begun < plan->duration_ns;
        while (is_sending && under_way < plan->window) {
            uint32_t room = plan->window - under_way;
            int done = send_requests(
                fd, plan, room < M13_SELFBENCH_BURST_MAX ? room : M13_SELFBENCH_BURST_MAX, sent);
            if (done < 0)
                return done;
            if (!done)
                break;
            under_way += (uint32_t)done;
        }
        if (poll(&waits, 1, patience_ms) == 0) {
            under_way = 0; /* lost; those that come yet are counted all the same */
            continue;
        }
        int replies = receive_replies(fd, plan, received);
        if (replies < 0)
            return replies;
        under_way -= (uint32_t)replies < under_way ? (uint32_t)replies : under_way;
        if (replies)
            received->ns = m13_clock_now_ns() - begun;
    }
    sent->ns = received->ns;
    return 0;
}
