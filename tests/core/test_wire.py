"""The wire format: offsets against the table of the specification, bytes against an encoder of
the tests' own."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from native import wire

# docs/PROTOCOL.md §1, column by column: offset from the inner Ethernet header, size, field.
FRAME_TABLE = [
    (0, 6, "destination"),
    (6, 6, "source"),
    (12, 2, "type"),
    (14, 1, "magic"),
    (15, 1, "version"),
    (16, 1, "crypto_version"),
    (17, 1, "key_phase"),
    (18, 16, "tag"),
    (34, 8, "nonce_counter"),
    (42, 1, "nonce_direction"),
    (43, 3, "nonce_zero"),
    (46, 8, "sequence"),
    (54, 1, "flags"),
    (55, 4, "payload_bytes"),
    (59, 3, "padding"),
    (62, 0, "payload"),
]
FLAG_TABLE = {
    "CONTROL": 0x80,
    "FEEDBACK": 0x40,
    "TUNNEL": 0x20,
    "ECN": 0x10,
    "FIN": 0x08,
    "FEC": 0x04,
    "HANDSHAKE": 0x02,
    "FRAGMENT": 0x01,
}


def encode(source, flags, payload_bytes, sequence):
    """A cleartext frame's headers, written down a second time."""
    ethernet = struct.pack(">6s6sH", b"\xff" * 6, source, 0x88B5)
    header = struct.pack(
        "<BBBB16s12sQBI3x", 0xD1, 1, 0, 0, b"", b"", sequence, flags, payload_bytes
    )
    return ethernet + header


def test_fields_lie_where_the_specification_says():
    assert [(field.offset, field.bytes, field.name) for field in wire.FIELDS] == FRAME_TABLE


def test_constants_are_those_of_the_specification():
    assert wire.FLAGS == FLAG_TABLE
    assert (wire.ETHERTYPE, wire.MAGIC, wire.VERSION) == (0x88B5, 0xD1, 1)
    assert (wire.CLEAR, wire.AEAD) == (0, 1)
    assert (wire.ETHERNET_BYTES, wire.HEADER_BYTES, wire.FRAME_BYTES) == (14, 48, 62)
    assert (wire.OUTER_BYTES, wire.OVERHEAD_BYTES, wire.SEALED_OFFSET) == (42, 20 + 8 + 62, 32)
    assert (wire.HUB_TO_NODE, wire.NODE_TO_HUB) == (0, 1)
    assert (wire.CLIENT_HELLO, wire.SERVER_HELLO, wire.FINISHED) == (
        (1, 2 + 32 + 1568 + 2592),
        (2, 1 + 1568 + 2592 + 4627),
        (3, 1 + 4627),
    )
    assert wire.COUNTER_MAX == 1 << 48


@pytest.mark.parametrize(
    ("message", "total"), [("CLIENT_HELLO", 3), ("SERVER_HELLO", 7), ("FINISHED", 4)]
)
def test_messages_take_the_fragments_the_specification_counts(message, total):
    assert wire.fragment_total(getattr(wire, message)[1]) == total


@pytest.mark.parametrize(("size", "total"), [(1, 1), (1402, 1), (1403, 2), (9216, 7)])
def test_fragment_total_rounds_up(size, total):
    assert wire.fragment_total(size) == total


@given(
    source=st.binary(min_size=6, max_size=6),
    flags=st.integers(0, 255),
    payload=st.binary(max_size=64),
    length=st.integers(0, 2**32 - 1),
    sequence=st.integers(0, 2**64 - 1),
    before=st.integers(0, 255),
)
def test_stamp_writes_what_an_independent_encoder_writes(
    source, flags, payload, length, sequence, before
):
    frame = bytearray([before]) * 62 + payload
    wire.stamp(frame, source, flags, length, sequence)
    assert frame == encode(source, flags, length, sequence) + payload


@pytest.mark.parametrize(("frame", "source"), [(61, 6), (62, 5), (62, 7), (0, 6)])
def test_stamp_refuses_what_is_too_short(frame, source):
    with pytest.raises(ValueError, match="62"):
        wire.stamp(bytearray(frame), bytes(source), 0, 0, 0)
