"""The wire format, as the C core declares it."""

from collections import namedtuple

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from native.core cimport wire as c

Field = namedtuple("Field", "name offset bytes")

ETHERTYPE = c.M13_WIRE_ETHERTYPE
MAGIC = c.M13_WIRE_MAGIC
VERSION = c.M13_WIRE_VERSION
CLEAR = c.M13_WIRE_CLEAR
AEAD = c.M13_WIRE_AEAD
ETHERNET_BYTES = c.M13_WIRE_ETHERNET_BYTES
HEADER_BYTES = c.M13_WIRE_HEADER_BYTES
FRAME_BYTES = c.M13_WIRE_FRAME_BYTES
OUTER_BYTES = c.M13_WIRE_OUTER_BYTES
OVERHEAD_BYTES = c.M13_WIRE_OVERHEAD_BYTES
OVERHEAD6_BYTES = c.M13_WIRE_OVERHEAD6_BYTES
SEALED_OFFSET = c.M13_WIRE_SEALED_OFFSET
KEY_BYTES = c.M13_WIRE_KEY_BYTES
COUNTER_MAX = c.M13_WIRE_COUNTER_MAX

FLAGS = {
    "FRAGMENT": c.M13_FLAG_FRAGMENT,
    "HANDSHAKE": c.M13_FLAG_HANDSHAKE,
    "FEC": c.M13_FLAG_FEC,
    "FIN": c.M13_FLAG_FIN,
    "ECN": c.M13_FLAG_ECN,
    "TUNNEL": c.M13_FLAG_TUNNEL,
    "FEEDBACK": c.M13_FLAG_FEEDBACK,
    "CONTROL": c.M13_FLAG_CONTROL,
}
HUB_TO_NODE = c.M13_HUB_TO_NODE
NODE_TO_HUB = c.M13_NODE_TO_HUB

# Message type and length.
CLIENT_HELLO = (c.M13_CLIENT_HELLO, c.M13_CLIENT_HELLO_BYTES)
SERVER_HELLO = (c.M13_SERVER_HELLO, c.M13_SERVER_HELLO_BYTES)
FINISHED = (c.M13_FINISHED, c.M13_FINISHED_BYTES)
FRAGMENT_CHUNK_BYTES = c.M13_FRAGMENT_CHUNK_BYTES
FRAGMENT_CHUNK6_BYTES = c.M13_FRAGMENT_CHUNK6_BYTES
FRAGMENT_TOTAL_MAX = c.M13_FRAGMENT_TOTAL_MAX
FRAGMENT_MESSAGE_BYTES = c.M13_FRAGMENT_MESSAGE_BYTES


cdef frame_fields():
    cdef c.m13_wire_frame frame
    cdef const char *start = <const char *>&frame
    rows = (
        ("destination", <const char *>&frame.ethernet.destination - start, 6),
        ("source", <const char *>&frame.ethernet.source - start, 6),
        ("type", <const char *>&frame.ethernet.type - start, sizeof(frame.ethernet.type)),
        ("magic", <const char *>&frame.header.magic - start, 1),
        ("version", <const char *>&frame.header.version - start, 1),
        ("crypto_version", <const char *>&frame.header.crypto_version - start, 1),
        ("key_phase", <const char *>&frame.header.key_phase - start, 1),
        ("tag", <const char *>&frame.header.tag - start, sizeof(frame.header.tag)),
        ("nonce_counter", <const char *>&frame.header.nonce_counter - start,
         sizeof(frame.header.nonce_counter)),
        ("nonce_direction", <const char *>&frame.header.nonce_direction - start, 1),
        ("nonce_zero", <const char *>&frame.header.nonce_zero - start, 3),
        ("sequence", <const char *>&frame.header.sequence - start, sizeof(frame.header.sequence)),
        ("flags", <const char *>&frame.header.flags - start, 1),
        ("payload_bytes", <const char *>&frame.header.payload_bytes - start,
         sizeof(frame.header.payload_bytes)),
        ("padding", <const char *>&frame.header.padding - start, 3),
        ("payload", sizeof(frame), 0),
    )
    return tuple([Field(*row) for row in rows])


# Every field of a frame, counted from the inner Ethernet header; payload has no size of its own.
FIELDS = frame_fields()


def stamp(bytearray frame not None, const unsigned char[::1] source not None, uint8_t flags,
          uint32_t payload_bytes, uint64_t sequence):
    """Writes the Ethernet and M13 headers of a frame in place."""
    if len(frame) < c.M13_WIRE_FRAME_BYTES or source.shape[0] != 6:
        raise ValueError("a frame has at least 62 bytes and a MAC has 6")
    c.m13_wire_stamp(<c.m13_wire_frame *><char *>frame, &source[0], flags, payload_bytes, sequence)


def fragment_total(uint32_t message_bytes, uint32_t chunk_bytes=c.M13_FRAGMENT_CHUNK_BYTES):
    return c.m13_wire_fragment_total(message_bytes, chunk_bytes)
