"""A hub's data plane: created, run in two threads, stopped, settled."""

import os

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uintptr_t
from libc.string cimport memcpy
from native.channel cimport Channel
from native.event cimport drain, fill, place_hub
from native.path cimport hub_worker as c
from native.path.path cimport (
    M13_COMMAND_CONFIGURE,
    M13_COMMAND_NEXT_HOP,
    M13_COMMAND_RENEW,
    m13_command,
    m13_hub_ask_expel,
    m13_hub_ask_renew,
    m13_stats_page,
)
from native.xdp cimport Socket

FRAMES = c.M13_HUB_FRAMES
UMEM_BYTES = c.M13_HUB_UMEM_BYTES
XDP_RING_SLOTS = c.M13_HUB_XDP_RING_SLOTS
WORKERS_MAX = c.M13_WORKERS_MAX


cdef check(int result, str what):
    if result < 0:
        raise OSError(-result, f"{what}: {os.strerror(-result)}")


cdef class Share:
    """What the workers of one hub share; outlives them all."""

    cdef c.m13_share *ptr

    def __cinit__(self, uint32_t workers):
        check(c.m13_share_create(&self.ptr, workers), "workers")

    def __dealloc__(self):
        c.m13_share_destroy(self.ptr)


cdef class Hub:
    """Keeps what it borrows alive; close() only after both threads have returned.

    One of several workers says which, and names what they share; all exist before a thread runs.
    """

    cdef c.m13_hub *ptr
    cdef object kept

    def __cinit__(self, settings, Socket socket, Channel channel, page, int tun_fd,
                  const unsigned char[::1] mac, uint16_t worker=0, Share share=None):
        cdef c.m13_hub_config config
        cdef bytes backend = settings.aead.encode()
        if mac.shape[0] != 6:
            raise ValueError("a MAC is 6 bytes")
        fill(&config.path, settings)
        config.path.feedback = settings.feedback
        config.path.is_hub = True
        config.path.echo = False
        config.path.aead_backend = backend
        config.path.udp_port = settings.port
        config.path.l2 = settings.l2
        config.path.link_mtu_bytes = settings.link_mtu
        memcpy(config.path.mac, &mac[0], 6)
        place_hub(&config.path, settings)
        config.xdp = socket.ptr
        config.umem = <uint8_t *>socket.umem.ptr + socket.first_byte
        config.path.worker = worker
        config.share = share.ptr if share is not None else NULL
        config.channel = channel.ptr
        config.page = <m13_stats_page *><uintptr_t>page.address
        config.tun_fd = tun_fd
        config.worker_core = settings.worker_core
        config.tun_core = settings.tun_core
        check(c.m13_hub_create(&self.ptr, &config), "data plane")
        self.kept = (socket, channel, page, backend, share)

    @property
    def aead_backend(self):
        return self.ptr.path.aead.backend.name.decode()

    @property
    def event_fd(self):
        return self.ptr.path.event_fd

    def run_worker(self):
        """Runs the worker in the calling thread until stop()."""
        cdef int result
        with nogil:
            result = c.m13_hub_run_worker(self.ptr)
        check(result, "hub worker")

    def run_tun(self):
        """Runs the TUN thread in the calling thread until stop()."""
        cdef int result
        with nogil:
            result = c.m13_hub_run_tun(self.ptr)
        check(result, "TUN thread")

    def stop(self):
        c.m13_hub_stop(self.ptr)

    def events(self):
        return drain(&self.ptr.path)

    def set_next_hop(self, uint32_t peer, uint32_t generation, const unsigned char[::1] address,
                     const unsigned char[::1] mac):
        """Tells the worker the MAC that leads to a peer's address; False when it is too busy."""
        cdef m13_command command
        if address.shape[0] != 16 or mac.shape[0] != 6:
            raise ValueError("a MAC is 6 bytes, an endpoint's address 16")
        command.kind = M13_COMMAND_NEXT_HOP
        command.peer = peer
        command.generation = generation
        memcpy(command.address, &address[0], 16)
        memcpy(command.mac, &mac[0], 6)
        return c.m13_hub_command(self.ptr, &command)

    def expel(self, uint32_t peer, uint32_t generation):
        """Ends the session of a slot's occupant within a tick; False when the worker is busy."""
        return m13_hub_ask_expel(&self.ptr.path, peer, generation)

    def renew(self, uint32_t peer, uint32_t generation, bint configure=False):
        """Asks a slot's occupant for new keys, or sends it CONFIG; False when busy."""
        return m13_hub_ask_renew(&self.ptr.path, M13_COMMAND_CONFIGURE if configure
                                 else M13_COMMAND_RENEW, peer, generation)

    def settle(self):
        """After both threads returned: frames unaccounted for, 0 unless something leaked."""
        return c.m13_hub_settle(self.ptr)

    def close(self):
        if self.ptr != NULL:
            c.m13_hub_destroy(self.ptr)
            self.ptr = NULL
        self.kept = None

    def __dealloc__(self):
        c.m13_hub_destroy(self.ptr)
