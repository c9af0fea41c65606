"""A node's data plane: created, run in one thread, stopped, settled."""

import os

from libc.stdint cimport uint8_t, uintptr_t
from libc.string cimport memcpy, memset
from native.channel cimport Channel
from native.event cimport drain, fill
from native.path cimport node_worker as c
from native.path.path cimport m13_stats_page
from native.umem cimport Umem

FRAMES = c.M13_NODE_FRAMES
ARENA_BYTES = c.M13_NODE_ARENA_BYTES


cdef check(int result, str what):
    if result < 0:
        raise OSError(-result, f"{what}: {os.strerror(-result)}")


cdef class Node:
    """Keeps what it borrows alive; close() only after run() has returned."""

    cdef c.m13_node *ptr
    cdef object kept

    def __cinit__(self, settings, Umem arena, Channel channel, page, int tun_fd, int socket_fd,
                  const unsigned char[::1] hub, unsigned short port,
                  const unsigned char[::1] mac):
        cdef c.m13_node_config config
        cdef bytes backend = settings.aead.encode()
        if mac.shape[0] != 6 or hub.shape[0] != 4:
            raise ValueError("a MAC is 6 bytes, an IPv4 address 4")
        if arena.bytes < c.M13_NODE_ARENA_BYTES:
            raise ValueError(f"the arena is {c.M13_NODE_ARENA_BYTES} bytes")
        fill(&config.path, settings)
        config.path.is_hub = False
        config.path.echo = settings.echo
        config.path.aead_backend = backend
        config.path.udp_port = 0
        memcpy(config.path.mac, &mac[0], 6)
        config.arena = <uint8_t *>arena.ptr
        config.channel = channel.ptr
        config.page = <m13_stats_page *><uintptr_t>page.address
        config.tun_fd = tun_fd
        config.socket_fd = socket_fd
        memset(&config.hub, 0, sizeof(config.hub))
        config.hub.sin_family = c.AF_INET
        config.hub.sin_port = c.htons(port)
        memcpy(&config.hub.sin_addr, &hub[0], 4)
        config.core = settings.worker_core
        config.sqpoll = settings.sqpoll
        check(c.m13_node_create(&self.ptr, &config), "data plane")
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
            result = c.m13_node_run(self.ptr)
        check(result, "io_uring reactor")

    def stop(self):
        c.m13_node_stop(self.ptr)

    def events(self):
        return drain(&self.ptr.path)

    def settle(self):
        """After run() returned: buffers that were still with the kernel when the ring closed."""
        return c.m13_node_settle(self.ptr)

    def close(self):
        if self.ptr != NULL:
            c.m13_node_destroy(self.ptr)
            self.ptr = NULL
        self.kept = None

    def __dealloc__(self):
        c.m13_node_destroy(self.ptr)
