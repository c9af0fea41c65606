# Mirror of hub_worker.h.
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from native.core.channel cimport m13_channel
from native.core.xdp cimport m13_xdp
from native.path.path cimport m13_command, m13_path, m13_path_config, m13_stats_page

cdef extern from "share.h" nogil:
    enum:
        M13_WORKERS_MAX

    struct m13_share:
        pass

    int m13_share_create(m13_share **out, uint32_t workers)
    void m13_share_destroy(m13_share *share)


cdef extern from "hub_worker.h" nogil:
    enum:
        M13_HUB_FRAMES
        M13_HUB_UMEM_BYTES
        M13_HUB_XDP_RING_SLOTS

    struct m13_hub_config:
        m13_path_config path
        m13_xdp *xdp
        uint8_t *umem
        m13_channel *channel
        m13_stats_page *page
        int tun_fd
        m13_share *share
        int worker_core
        int tun_core

    struct m13_hub:
        m13_path path

    int m13_hub_create(m13_hub **out, const m13_hub_config *config)
    void m13_hub_destroy(m13_hub *hub)
    int m13_hub_run_worker(m13_hub *hub)
    int m13_hub_run_tun(m13_hub *hub)
    void m13_hub_stop(m13_hub *hub)
    bint m13_hub_command(m13_hub *hub, const m13_command *command)
    uint32_t m13_hub_settle(m13_hub *hub)
