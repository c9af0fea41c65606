/* What this machine can do, measured piece by piece: `m13 bench` reads it to a user.
 *
 * Every function here runs for about the time it is given and touches only the descriptors it is
 * given. None of them belongs to the data path. */
#ifndef M13_SELFBENCH_H
#define M13_SELFBENCH_H

#include <stdbool.h>
#include <stdint.h>

#define M13_SELFBENCH_MESSAGE_MAX 65536 /* bytes of one send, of one receive */
#define M13_SELFBENCH_BURST_MAX   64    /* sends before what arrived is received */
#define M13_SELFBENCH_WINDOW_MAX  4096  /* echo requests under way */

/* Calls and bytes of one direction, and the time they took. */
struct m13_selfbench_flow {
    uint64_t calls;
    uint64_t bytes;
    uint64_t ns;
};

/* Copies packets of so many bytes from one packet memory to another, both far larger than the
 * caches near the core. flow counts packets. -ENOMEM, or -EINVAL for more than 4096 bytes. */
int m13_selfbench_copy(uint32_t bytes, uint64_t duration_ns, struct m13_selfbench_flow *flow);

/* One thread sleeps in poll() on a doorbell, another rings it every gap_ns: samples[i] is the time
 * from the ring to the moment the sleeper runs. cores: where the two run, -1 for anywhere.
 * Takes count times gap_ns. -errno when there is no thread or no eventfd to be had. */
int m13_selfbench_wakeup(const int cores[2], uint64_t gap_ns, uint64_t *samples, uint32_t count);

/* Sends the message in bursts through one descriptor and after each receives through the other
 * what there is; the two are timed apart. receive_fd is nonblocking, or -1: only send. -errno
 * of the first call that fails. */
int m13_selfbench_exchange(int send_fd, int receive_fd, const uint8_t *message, uint32_t bytes,
                           uint32_t burst, uint64_t duration_ns, struct m13_selfbench_flow *sent,
                           struct m13_selfbench_flow *received);

/* Keeps `window` copies of an ICMP echo request under way on a connected nonblocking socket and
 * counts the replies that begin, skip bytes into what is received, with the same identifier and
 * have the same length. A window that stays unanswered for patience_ns counts as lost. flow's time
 * ends with the last reply. -errno of the first call that fails. */
struct m13_selfbench_echo_plan {
    const uint8_t *request;
    uint32_t bytes;
    bool has_ip_header; /* a raw socket hands it over too */
    uint32_t window;
    uint64_t duration_ns;
    uint64_t patience_ns;
};
int m13_selfbench_echo(int fd, const struct m13_selfbench_echo_plan *plan,
                       struct m13_selfbench_flow *sent, struct m13_selfbench_flow *received);

#endif
