"""A data plane on a UDP socket, a node's or a hub's: created, run in one thread, settled."""

import os

from libc.stdint cimport uint8_t, uint32_t, uintptr_t
from libc.string cimport memcpy, memset
from native.channel cimport Channel
from native.event cimport drain, fill, place_hub
from native.path cimport reactor as c
from native.path.path cimport (
    M13_COMMAND_CONFIGURE,
    M13_COMMAND_RENEW,
    m13_hub_ask_expel,
    m13_hub_ask_renew,
    m13_stats_page,
)
from native.umem cimport Umem

ARRIVALS = c.M13_REACTOR_ARRIVALS
READS = c.M13_REACTOR_READS
BUFFERS = c.M13_REACTOR_BUFFERS
ARENA_BYTES = c.M13_REACTOR_ARENA_BYTES


cdef check(int result, str what):
    if result < 0:
        raise OSError(-result, f"{what}: {os.strerror(-result)}")


cdef class Reactor:
    """A node's, with `hub` as (16 bytes, port), IPv4 mapped, or as (6 bytes, 0), a MAC; or a hub's,
    without it. `family` is the UDP socket's, AF_INET or AF_INET6; `l2_fd` a packet socket. Either
    may be absent, -1. Keeps what it borrows alive; close() only after run() has returned."""

    cdef c.m13_reactor *ptr
    cdef object kept

    def __cinit__(self, settings, Umem arena, Channel channel, page, int tun_fd, int socket_fd,
                  const unsigned char[::1] mac, *, int family=0, int l2_fd=-1, hub=None):
        cdef c.m13_reactor_config config
        cdef bytes backend = settings.aead.encode()
        cdef const unsigned char[::1] address = hub[0] if hub else bytes(16)
        if mac.shape[0] != 6 or address.shape[0] not in (6, 16):
            raise ValueError("a MAC is 6 bytes, an endpoint's address 6 or 16")
        if arena.bytes < c.M13_REACTOR_ARENA_BYTES:
            raise ValueError(f"the arena is {c.M13_REACTOR_ARENA_BYTES} bytes")
        memset(&config, 0, sizeof(config))
        fill(&config.path, settings)
        config.path.is_hub = hub is None
        config.path.l2 = l2_fd >= 0
        config.l2_fd = l2_fd
        config.path.aead_backend = backend
        memcpy(config.path.mac, &mac[0], 6)
        if hub is None:
            config.path.feedback = settings.feedback
            config.path.udp_port = settings.port
            config.path.link_mtu_bytes = settings.link_mtu
            place_hub(&config.path, settings)
        else:
            config.path.echo = settings.echo
            config.sqpoll = settings.sqpoll
            config.hub_port = hub[1]
            if address.shape[0] == 16:
                memcpy(config.hub_address, &address[0], 16)
            else:
                memcpy(config.path.l2_hub, &address[0], 6)
        config.arena = <uint8_t *>arena.ptr
        config.channel = channel.ptr
        config.page = <m13_stats_page *><uintptr_t>page.address
        config.tun_fd = tun_fd
        config.socket_fd = socket_fd
        config.family = family
        config.core = settings.worker_core
        check(c.m13_reactor_create(&self.ptr, &config), "data plane")
        self.kept = (arena, channel, page, backend)

    @property
    def aead_backend(self):
        return self.ptr.path.aead.backend.name.decode()

    @property
    def event_fd(self):
        return self.ptr.path.event_fd

    def run(self):
        """Runs the reactor in the calling thread until stop()."""
        cdef int result
        with nogil:
            result = c.m13_reactor_run(self.ptr)
        check(result, "io_uring reactor")

    def stop(self):
        c.m13_reactor_stop(self.ptr)

    def events(self):
        return drain(&self.ptr.path)

    def expel(self, uint32_t peer, uint32_t generation):
        """Hub: ends the session of a slot's occupant within a tick; False when it is busy."""
        return m13_hub_ask_expel(&self.ptr.path, peer, generation)

    def renew(self, uint32_t peer, uint32_t generation, bint configure=False):
        """Hub: asks a slot's occupant for new keys, or sends it CONFIG; False when busy."""
        return m13_hub_ask_renew(&self.ptr.path, M13_COMMAND_CONFIGURE if configure
                                 else M13_COMMAND_RENEW, peer, generation)

    def settle(self):
        """After run() returned: buffers that were still with the kernel when the ring closed."""
        return c.m13_reactor_settle(self.ptr)

    def close(self):
        if self.ptr != NULL:
            c.m13_reactor_destroy(self.ptr)
            self.ptr = NULL
        self.kept = None

    def __dealloc__(self):
        c.m13_reactor_destroy(self.ptr)
