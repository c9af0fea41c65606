"""The M13 wire format a second time: scapy layers and an AEAD written from docs/PROTOCOL.md alone.

Nothing of the product is imported, so that an agreement between the two means something.
"""

# ruff: noqa: RUF012 (fields_desc as scapy has it)
import struct
from typing import Any

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from scapy.fields import (
    ByteEnumField,
    ByteField,
    FlagsField,
    IPField,
    LEIntField,
    LELongField,
    LEShortField,
    StrFixedLenField,
    StrLenField,
    XByteField,
    XStrFixedLenField,
)
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether
from scapy.packet import Packet, bind_layers

ETHERTYPE = 0x88B5
ETHERNET, HEADER, SEALED_FROM = 14, 48, 32
FRAME = ETHERNET + HEADER
CHUNK = 1402
HUB_TO_NODE, NODE_TO_HUB = 0, 1
CLEAR, AEAD = 0, 1
FRAGMENT, HANDSHAKE, FIN, TUNNEL, FEEDBACK, CONTROL = 0x01, 0x02, 0x08, 0x20, 0x40, 0x80
MESSAGE_BYTES = {1: 4194, 2: 8788, 3: 4628}


class M13(Packet):
    """The header as it is in the clear; a sealed one makes sense after `open_frame`."""

    name = "M13"
    fields_desc = [
        XByteField("magic", 0xD1),
        XByteField("version", 1),
        ByteEnumField("crypto", CLEAR, {CLEAR: "clear", AEAD: "aead"}),
        ByteField("phase", 0),
        XStrFixedLenField("tag", bytes(16), 16),
        LELongField("counter", 0),
        ByteField("nonce_direction", 0),
        XStrFixedLenField("nonce_zero", bytes(3), 3),
        LELongField("seq_id", 0),
        FlagsField(
            "flags",
            0,
            8,
            ["FRAGMENT", "HANDSHAKE", "FEC", "FIN", "ECN", "TUNNEL", "FEEDBACK", "CONTROL"],
        ),
        LEIntField("payload_len", 0),
        XStrFixedLenField("padding", bytes(3), 3),
    ]

    def guess_payload_class(self, payload: bytes) -> Any:
        if self.crypto == AEAD:
            return super().guess_payload_class(payload)
        if int(self.flags) & FRAGMENT:
            return Fragment
        return IP if int(self.flags) == TUNNEL else super().guess_payload_class(payload)


class Fragment(Packet):
    name = "M13 fragment"
    fields_desc = [
        LEShortField("id", 0),
        ByteField("index", 0),
        ByteField("total", 1),
        LEShortField("offset", 0),
        LEShortField("length", 0),
    ]


class ClientHello(Packet):
    name = "M13 ClientHello"
    fields_desc = [
        ByteField("type", 1),
        ByteField("version", 2),
        StrFixedLenField("nonce", bytes(32), 32),
        StrFixedLenField("encapsulation_key", bytes(1568), 1568),
        StrFixedLenField("node_key", bytes(2592), 2592),
    ]


class ServerHello(Packet):
    name = "M13 ServerHello"
    fields_desc = [
        ByteField("type", 2),
        StrFixedLenField("ciphertext", bytes(1568), 1568),
        StrFixedLenField("hub_key", bytes(2592), 2592),
        StrFixedLenField("signature", bytes(4627), 4627),
    ]


class Finished(Packet):
    name = "M13 Finished"
    fields_desc = [
        ByteField("type", 3),
        StrFixedLenField("signature", bytes(4627), 4627),
    ]


class Tlv(Packet):
    name = "M13 TLV"
    fields_desc = [
        ByteEnumField("type", 0, {0: "keepalive", 1: "config"}),
        LEShortField("length", 0),
        StrLenField("value", b"", length_from=lambda packet: packet.length),
    ]


class Config(Packet):
    name = "M13 CONFIG"
    fields_desc = [
        IPField("node", "0.0.0.0"),
        ByteField("prefix", 24),
        IPField("hub", "0.0.0.0"),
        LEShortField("mtu", 1400),
        LEShortField("keepalive_ms", 1000),
        ByteField("fec", 0),
        ByteField("feedback", 0),
    ]


bind_layers(Ether, M13, type=ETHERTYPE)


def frame(
    mac: str, flags: int, payload: bytes = b"", *, sequence: int = 0, length: int = 0, **more: Any
) -> bytes:
    """A cleartext frame, its Ethernet header included."""
    header = M13(flags=flags, seq_id=sequence, payload_len=length, **more)
    return bytes(Ether(dst="ff:ff:ff:ff:ff:ff", src=mac, type=ETHERTYPE) / header) + payload


def fragments(mac: str, message: bytes, first: int, **more: Any) -> list[bytes]:
    """A handshake message as its frames; `first` is the sequence number of the first."""
    total = -(-len(message) // CHUNK)
    made = []
    for index in range(total):
        chunk = message[index * CHUNK : (index + 1) * CHUNK]
        head = Fragment(
            id=first & 0xFFFF, index=index, total=total, offset=index * CHUNK, length=len(chunk)
        )
        flags = CONTROL | HANDSHAKE | FRAGMENT
        made.append(frame(mac, flags, bytes(head) + chunk, sequence=first + index, **more))
    return made


def reassemble(frames: list[bytes]) -> bytes:
    """The message of its fragments, which must cover it exactly, in chunks of one length but the
    last, CHUNK at most."""
    pieces = sorted((Ether(data)[Fragment] for data in frames), key=lambda piece: piece.index)
    assert [piece.index for piece in pieces] == list(range(len(frames)))
    assert pieces[0].length <= CHUNK
    for piece in pieces:
        assert len(bytes(piece.payload)) == piece.length
        assert (piece.total, piece.offset) == (len(frames), piece.index * pieces[0].length)
    return b"".join(bytes(piece.payload) for piece in pieces)


def seal(key: bytes, clear: bytes, counter: int, direction: int, phase: int = 0) -> bytes:
    """`clear` from `frame`; its sequence must already be the counter."""
    head = struct.pack("4B", 0xD1, 1, AEAD, phase)
    nonce = struct.pack("<QB3x", counter, direction)
    sealed = AESGCM(key).encrypt(nonce, clear[ETHERNET + SEALED_FROM :], head)
    return clear[:ETHERNET] + head + sealed[-16:] + nonce + sealed[:-16]


def open_frame(key: bytes, data: bytes) -> Packet:
    """The frame with its encrypted part in the clear; InvalidTag when it is not authentic."""
    header = data[ETHERNET:]
    head, tag, nonce = header[:4], header[4:20], header[20:32]
    clear = AESGCM(key).decrypt(nonce, header[SEALED_FROM:] + tag, head)
    opened = head[:2] + bytes([CLEAR]) + head[3:] + tag + nonce + clear
    return Ether(data[:ETHERNET] + opened)


def outer(data: bytes) -> tuple[Packet, bytes]:
    """The IPv4 packet of a captured Ethernet frame, and the M13 frame in its UDP datagram."""
    packet = Ether(data)
    return packet[IP], bytes(packet[UDP].payload)
