"""Many packets at once through an AF_XDP or UDP socket, each handled as cheaply as a hub does: what
hub/receive_cost.py times. No packet becomes a Python object."""

from libc.errno cimport EAGAIN, errno
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from native.core cimport checksum
from native.core cimport xdp as c
from native.xdp cimport Socket

cdef extern from "<arpa/inet.h>" nogil:
    uint16_t htons(uint16_t value)

cdef extern from "<sys/socket.h>" nogil:
    int MSG_DONTWAIT
    ssize_t recv(int descriptor, void *buffer, size_t bytes, int flags)

cdef enum:
    BATCH = 64
    # offsets in a packet whose IPv4 header has no options
    ADDRESSES = 26
    UDP = 34
    UDP_CHECKSUM = 40
    UDP_PROTOCOL = 17


def receive(Socket socket not None):
    """Takes up to 64 packets and hands their frames straight back; answers how many."""
    cdef c.m13_xdp *xdp = socket.open()
    cdef c.m13_xdp_frame packets[BATCH]
    cdef uint32_t frames[BATCH]
    cdef uint32_t space = c.m13_xdp_refill_space(xdp)
    cdef uint32_t count = c.m13_xdp_receive(xdp, packets, min(space, BATCH))
    for i in range(count):
        frames[i] = c.m13_xdp_frame_number(xdp, packets[i].address)
    c.m13_xdp_refill(xdp, frames, count)
    c.m13_xdp_wake_receive(xdp)
    return count


def send(Socket socket not None, uint32_t count, uint32_t length):
    """Sends the packets of `length` bytes that begin the frames 0 to `count` - 1, each with a fresh
    UDP checksum, which AF_XDP leaves to the sender. `sent` tells when they left."""
    cdef c.m13_xdp *xdp = socket.open()
    cdef c.m13_xdp_frame packets[BATCH]
    cdef uint8_t *packet
    # RFC 768: beside addresses, header and data, the protocol and once more the length
    cdef uint64_t pseudo = <uint64_t>htons(UDP_PROTOCOL) + htons(<uint16_t>(length - UDP))
    if count > min(BATCH, c.m13_xdp_transmit_space(xdp)) or length < 42:
        raise ValueError("at most 64 packets with IPv4 and UDP headers")
    if length > socket.frame_bytes or count > socket.umem.bytes // socket.frame_bytes:
        raise ValueError("frames outside the packet memory")
    for i in range(count):
        packets[i] = c.m13_xdp_frame(address=i * socket.frame_bytes, length=length)
        packet = <uint8_t *>socket.umem.ptr + packets[i].address
        (<uint16_t *>(packet + UDP_CHECKSUM))[0] = 0
        (<uint16_t *>(packet + UDP_CHECKSUM))[0] = checksum.m13_checksum_fold(
            checksum.m13_checksum_add(pseudo, packet + ADDRESSES, length - ADDRESSES))
    c.m13_xdp_transmit(xdp, packets, count)
    socket.kick()


def sent(Socket socket not None):
    """How many frames came back since the last call, 64 at most; sends on where some wait."""
    cdef uint32_t frames[BATCH]
    if c.m13_xdp_transmit_pending(socket.open()):
        socket.kick()
    return c.m13_xdp_reclaim(socket.ptr, frames, BATCH)


def drain(int descriptor, unsigned char[::1] buffer not None):
    """Receives datagrams until none is left, each into the same buffer; answers all their bytes."""
    cdef ssize_t taken, total = 0
    while True:
        taken = recv(descriptor, &buffer[0], buffer.shape[0], MSG_DONTWAIT)
        if taken >= 0:
            total += taken
        elif errno == EAGAIN:
            return total
        else:
            raise OSError(errno, "receiving datagrams")
