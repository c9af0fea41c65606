# Mirror of reactor.h.
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from native.core.channel cimport m13_channel
from native.path.path cimport m13_path, m13_path_config, m13_stats_page

cdef extern from "reactor.h" nogil:
    enum:
        M13_REACTOR_ARRIVALS
        M13_REACTOR_READS
        M13_REACTOR_BUFFERS
        M13_REACTOR_ARENA_BYTES

    struct m13_reactor_config:
        m13_path_config path
        uint8_t *arena
        m13_channel *channel
        m13_stats_page *page
        int tun_fd
        int socket_fd
        int l2_fd
        int family
        uint8_t hub_address[16]
        uint16_t hub_port
        int core
        bint sqpoll

    struct m13_reactor:
        m13_path path

    int m13_reactor_create(m13_reactor **out, const m13_reactor_config *config)
    void m13_reactor_destroy(m13_reactor *reactor)
    int m13_reactor_run(m13_reactor *reactor)
    void m13_reactor_stop(m13_reactor *reactor)
    uint32_t m13_reactor_settle(const m13_reactor *reactor)
