"""The handshake channel: one end of the shared memory between datapath and worker."""

import os
from collections import namedtuple

from cpython.bytearray cimport PyByteArray_AS_STRING
from libc.stdint cimport uint8_t, uint32_t, uintptr_t
from libc.string cimport memcpy, memset
from native.core cimport channel as c

cdef extern from "string.h" nogil:
    void explicit_bzero(void *memory, size_t bytes)

REQUESTS = c.M13_CHANNEL_REQUESTS
ANSWERS = c.M13_CHANNEL_ANSWERS
SLOTS = c.M13_CHANNEL_SLOTS
PAYLOAD_BYTES = c.M13_CHANNEL_PAYLOAD_BYTES
NAME_BYTES = c.M13_CHANNEL_NAME_BYTES
PREFIXES_MAX = c.M13_CHANNEL_PREFIXES_MAX

ASK_START = c.M13_CHANNEL_ASK_START
ASK_CLIENT_HELLO = c.M13_CHANNEL_ASK_CLIENT_HELLO
ASK_SERVER_HELLO = c.M13_CHANNEL_ASK_SERVER_HELLO
ASK_FINISHED = c.M13_CHANNEL_ASK_FINISHED
ASK_FORGET = c.M13_CHANNEL_ASK_FORGET
SAY_CLIENT_HELLO = c.M13_CHANNEL_SAY_CLIENT_HELLO
SAY_SERVER_HELLO = c.M13_CHANNEL_SAY_SERVER_HELLO
SAY_ESTABLISHED = c.M13_CHANNEL_SAY_ESTABLISHED
SAY_REFUSED = c.M13_CHANNEL_SAY_REFUSED

MALFORMED = c.M13_CHANNEL_MALFORMED
NOT_ADMITTED = c.M13_CHANNEL_NOT_ADMITTED
BAD_SIGNATURE = c.M13_CHANNEL_BAD_SIGNATURE
HUB_KEY_MISMATCH = c.M13_CHANNEL_HUB_KEY_MISMATCH
HUB_KEY_UNKNOWN = c.M13_CHANNEL_HUB_KEY_UNKNOWN
VERSION_REFUSED = c.M13_CHANNEL_VERSION_REFUSED
NO_STATE = c.M13_CHANNEL_NO_STATE
INTERNAL = c.M13_CHANNEL_INTERNAL
HUB_FULL = c.M13_CHANNEL_HUB_FULL

Message = namedtuple("Message", "kind peer generation payload")
Established = namedtuple(
    "Established",
    "handshake_version prefix_bits address fingerprint send_key receive_key name finished"
    " address6 prefixes",
)
Refused = namedtuple("Refused", "reason fingerprint")


cdef check(int result, str what):
    if result < 0:
        raise OSError(-result, f"{what}: {os.strerror(-result)}")


cdef copy(uint8_t *target, const unsigned char[::1] source, size_t size, str what):
    if <size_t>source.shape[0] != size:
        raise ValueError(f"{what} is {size} bytes, got {source.shape[0]}")
    memcpy(target, &source[0], size)


def pack_established(int handshake_version, int prefix_bits, address, fingerprint,
                     send_key, receive_key, str name, finished=b"", address6=bytes(16),
                     prefixes=()):
    """The payload of SAY_ESTABLISHED, in a bytearray the caller wipes. Prefixes are pairs of an
    address, of 4 or 16 bytes, and a length in bits."""
    cdef c.m13_channel_established record
    cdef bytes name_bytes = name.encode()
    if len(name_bytes) > c.M13_CHANNEL_NAME_BYTES:
        raise ValueError(f"name is longer than {c.M13_CHANNEL_NAME_BYTES} bytes")
    if len(prefixes) > c.M13_CHANNEL_PREFIXES_MAX:
        raise ValueError(f"more than {c.M13_CHANNEL_PREFIXES_MAX} prefixes")
    memset(&record, 0, sizeof(record))
    record.handshake_version = handshake_version
    record.address_prefix_bits = prefix_bits
    record.name_length = len(name_bytes)
    copy(record.tunnel_address, address, 4, "address")
    copy(record.fingerprint, fingerprint, sizeof(record.fingerprint), "fingerprint")
    copy(record.send_key, send_key, sizeof(record.send_key), "send key")
    copy(record.receive_key, receive_key, sizeof(record.receive_key), "receive key")
    memcpy(record.name, <const char *>name_bytes, len(name_bytes))
    copy(record.tunnel_address6, address6, sizeof(record.tunnel_address6), "IPv6 address")
    record.prefix_count = len(prefixes)
    for index, (network, bits) in enumerate(prefixes):
        record.prefixes[index].family = 4 if len(network) == 4 else 6
        record.prefixes[index].bits = bits
        copy(record.prefixes[index].address, network, 4 if len(network) == 4 else 16, "network")
    # whole at once: what grows, or passes through a bytes object, leaves its keys behind
    payload = bytearray(sizeof(record) + len(finished))
    memcpy(PyByteArray_AS_STRING(payload), &record, sizeof(record))
    explicit_bzero(&record, sizeof(record))
    payload[sizeof(record):] = finished
    return payload


def unpack_established(const unsigned char[::1] payload):
    cdef c.m13_channel_established record
    if <size_t>payload.shape[0] < sizeof(record):
        raise ValueError("ESTABLISHED payload is too short")
    memcpy(&record, &payload[0], sizeof(record))
    answer = Established(
        record.handshake_version, record.address_prefix_bits, bytes(record.tunnel_address[:4]),
        bytes(record.fingerprint[:32]), bytes(record.send_key[:32]), bytes(record.receive_key[:32]),
        record.name[:min(record.name_length, sizeof(record.name))].decode(),
        bytes(payload[sizeof(record):]), bytes(record.tunnel_address6[:16]),
        tuple(
            (bytes(record.prefixes[i].address[:4 if record.prefixes[i].family == 4 else 16]),
             record.prefixes[i].bits)
            for i in range(min(record.prefix_count, c.M13_CHANNEL_PREFIXES_MAX))
        ),
    )
    explicit_bzero(&record, sizeof(record))
    return answer


def pack_refused(int reason, fingerprint=bytes(32)):
    """The payload of SAY_REFUSED."""
    cdef c.m13_channel_refused record
    record.reason = reason
    copy(record.fingerprint, fingerprint, sizeof(record.fingerprint), "fingerprint")
    return (<const char *>&record)[:sizeof(record)]


def unpack_refused(const unsigned char[::1] payload):
    cdef c.m13_channel_refused record
    if <size_t>payload.shape[0] != sizeof(record):
        raise ValueError("REFUSED payload has the wrong length")
    memcpy(&record, &payload[0], sizeof(record))
    return Refused(record.reason, bytes(record.fingerprint[:32]))


cdef class Channel:
    """Owns the mapping and its three descriptors; made by create() or attach()."""

    def __init__(self):
        raise TypeError("use Channel.create() or Channel.attach()")

    @staticmethod
    def create():
        """The datapath's end: a new sealed memfd and two eventfds."""
        cdef Channel channel = Channel.__new__(Channel)
        check(c.m13_channel_create(&channel.ptr), "channel create")
        return channel

    @staticmethod
    def attach(int memory_fd, int request_fd, int answer_fd):
        """The worker's end; takes the descriptors over on success."""
        cdef Channel channel = Channel.__new__(Channel)
        check(c.m13_channel_attach(&channel.ptr, memory_fd, request_fd, answer_fd),
              "channel attach")
        return channel

    cdef int alive(self) except -1:
        if self.ptr is NULL:
            raise ValueError("the channel is closed")
        return 0

    def send(self, int direction, uint32_t kind, uint32_t peer, uint32_t generation,
             const unsigned char[::1] payload not None):
        """False when the ring is full."""
        self.alive()
        if direction not in (REQUESTS, ANSWERS):
            raise ValueError("direction is REQUESTS or ANSWERS")
        if payload.shape[0] > c.M13_CHANNEL_PAYLOAD_BYTES:
            raise ValueError(f"payload is longer than {c.M13_CHANNEL_PAYLOAD_BYTES} bytes")
        self.scratch.kind = kind
        self.scratch.peer = peer
        self.scratch.generation = generation
        self.scratch.length = <uint32_t>payload.shape[0]
        if self.scratch.length:
            memcpy(self.scratch.payload, &payload[0], self.scratch.length)
        sent = c.m13_channel_send(self.ptr, <c.m13_channel_direction>direction, &self.scratch)
        explicit_bzero(self.scratch.payload, self.scratch.length)
        return bool(sent)

    def receive(self, int direction):
        """A Message, or None when nothing well-formed is waiting."""
        self.alive()
        if direction not in (REQUESTS, ANSWERS):
            raise ValueError("direction is REQUESTS or ANSWERS")
        if not c.m13_channel_receive(self.ptr, <c.m13_channel_direction>direction, &self.scratch):
            return None
        message = Message(self.scratch.kind, self.scratch.peer, self.scratch.generation,
                          bytes(self.scratch.payload[:self.scratch.length]))
        explicit_bzero(self.scratch.payload, self.scratch.length)
        return message

    @property
    def memory_fd(self):
        self.alive()
        return self.ptr.memory_fd

    @property
    def request_fd(self):
        self.alive()
        return self.ptr.request_fd

    @property
    def answer_fd(self):
        self.alive()
        return self.ptr.answer_fd

    def progress(self, int direction):
        """(sent, received): messages of a direction so far, modulo 2^32, as either end says."""
        cdef uint32_t sent, received
        self.alive()
        c.m13_channel_progress(self.ptr, <c.m13_channel_direction>direction, &sent, &received)
        return sent, received

    @property
    def malformed_count(self):
        """Messages and ring positions this end refused."""
        self.alive()
        return self.ptr.malformed_count

    @property
    def pointer(self):
        """Address of the struct m13_channel; valid until close()."""
        self.alive()
        return <uintptr_t>self.ptr

    def close(self):
        c.m13_channel_destroy(self.ptr)
        self.ptr = NULL

    def __enter__(self):
        self.alive()
        return self

    def __exit__(self, *_):
        self.close()

    def __dealloc__(self):
        c.m13_channel_destroy(self.ptr)
