# Mirror of selfbench.h.
from libc.stdint cimport uint8_t, uint32_t, uint64_t

cdef extern from "<stdbool.h>":
    ctypedef bint bool

cdef extern from "selfbench.h" nogil:
    enum:
        M13_SELFBENCH_MESSAGE_MAX
        M13_SELFBENCH_BURST_MAX
        M13_SELFBENCH_WINDOW_MAX

    struct m13_selfbench_flow:
        uint64_t calls
        uint64_t bytes
        uint64_t ns

    struct m13_selfbench_echo_plan:
        const uint8_t *request
        uint32_t bytes
        bool has_ip_header
        uint32_t window
        uint64_t duration_ns
        uint64_t patience_ns

    int m13_selfbench_copy(uint32_t bytes, uint64_t duration_ns, m13_selfbench_flow *flow)
    int m13_selfbench_wakeup(
        const int *cores, uint64_t gap_ns, uint64_t *samples, uint32_t count
    )
    int m13_selfbench_exchange(
        int send_fd, int receive_fd, const uint8_t *message, uint32_t bytes, uint32_t burst,
        uint64_t duration_ns, m13_selfbench_flow *sent, m13_selfbench_flow *received
    )
    int m13_selfbench_echo(
        int fd, const m13_selfbench_echo_plan *plan, m13_selfbench_flow *sent,
        m13_selfbench_flow *received
    )
