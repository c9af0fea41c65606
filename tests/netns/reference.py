"""A node and a hub in Python, written from docs/PROTOCOL.md §4 with `cryptography` alone.

They take part in real handshakes over UDP sockets; nothing of the product is imported.
"""

import base64
import contextlib
import copy
import hashlib
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA87PrivateKey, MLDSA87PublicKey
from cryptography.hazmat.primitives.asymmetric.mlkem import (
    MLKEM1024PrivateKey,
    MLKEM1024PublicKey,
)
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from scapy.layers.l2 import Ether

from tests.scapy_m13 import (
    CONTROL,
    FRAME,
    HUB_TO_NODE,
    M13,
    MESSAGE_BYTES,
    NODE_TO_HUB,
    TUNNEL,
    ClientHello,
    Config,
    Finished,
    Fragment,
    ServerHello,
    Tlv,
    fragments,
    frame,
    open_frame,
    reassemble,
    seal,
)

WAIT_S, RESEND_S = 5, 0.5


def _sha512(*parts: bytes) -> bytes:
    return hashlib.sha512(b"".join(parts)).digest()


def _hkdf(salt: bytes, secret: bytes, info: bytes) -> bytes:
    return HKDF(hashes.SHA512(), 32, salt, info).derive(secret)


@dataclass(frozen=True)
class Transcript:
    """What is signed and derived from the two hellos; one row of the table in §4."""

    profile: str
    client: bytes
    server: bytes

    @property
    def context(self) -> bytes:
        return b"M13-HS-v2" if self.profile == "v2" else b"M13-HS-v1"

    @property
    def of_hub(self) -> bytes:
        """`server` may still lack its signature."""
        if self.profile == "v1":
            return _sha512(self.client[2:34], self.server[1:4161])
        if self.profile == "v1-full":
            return _sha512(self.client, self.server[1:1569])
        return _sha512(self.client, self.server[:4161])

    @property
    def of_node(self) -> bytes:
        return self.of_hub if self.profile == "v1" else _sha512(self.client, self.server)

    def keys(self, secret: bytes) -> dict[int, bytes]:
        """By direction."""
        if self.profile != "v2":
            key = _hkdf(self.client[2:34], secret, b"M13-PQC-SESSION-KEY-v1")
            return {HUB_TO_NODE: key, NODE_TO_HUB: key}
        salt = _sha512(self.client, self.server)
        info = b"M13-PQC-SESSION-KEY-v2 "
        return {
            HUB_TO_NODE: _hkdf(salt, secret, info + b"hub->node"),
            NODE_TO_HUB: _hkdf(salt, secret, info + b"node->hub"),
        }


def load_identity(path: Path) -> MLDSA87PrivateKey:
    """The second line of the file is the seed."""
    return MLDSA87PrivateKey.from_seed_bytes(base64.b64decode(path.read_text().split("\n")[1]))


class Link:
    """Datagrams to and from one peer, the clear and the sealed counters, and the session's keys."""

    def __init__(self, sock: socket.socket, sends: int, mac: str) -> None:
        self.socket, self.sends, self.mac = sock, sends, mac
        self.socket.settimeout(WAIT_S)
        self.cookie = bytes(16)
        self.clear_sequence = 0
        self.counter = 0
        self.keys: dict[int, bytes] = {}
        self.phase = 0  # of the key, as v2 marks it
        self.to: Any = None

    def send(self, data: bytes) -> None:
        self.socket.sendto(data, self.to) if self.to else self.socket.send(data)

    def receive(self) -> bytes:
        data, sender = self.socket.recvfrom(65536)
        if self.to:
            self.to = sender
        return data

    def send_clear(self, flags: int) -> None:
        self.send(frame(self.mac, flags, sequence=self.clear_sequence, tag=self.cookie))
        self.clear_sequence += 1

    def send_echo(self, question: bytes, cookie: bytes) -> None:
        sequence = Ether(question)[M13].seq_id
        self.send(frame(self.mac, CONTROL, sequence=sequence, tag=cookie))

    def send_message(self, message: bytes) -> list[bytes]:
        first, phase = self.clear_sequence, self.phase
        frames = fragments(self.mac, message, first, tag=self.cookie, phase=phase)
        self.clear_sequence += len(frames)
        for data in frames:
            self.send(data)
        return frames

    def clear_frames(self) -> Iterator[bytes]:
        while True:
            data = self.receive()
            if data[16] == 0:
                yield data

    def receive_message(self) -> bytes:
        """The next complete handshake message."""
        found: dict[int, dict[int, bytes]] = {}
        for data in self.clear_frames():
            packet = Ether(data)
            if Fragment not in packet:
                continue
            piece = packet[Fragment]
            parts = found.setdefault(piece.id, {})
            parts[piece.index] = data
            if len(parts) == piece.total:
                message = reassemble(list(parts.values()))
                assert len(message) == MESSAGE_BYTES[message[0]]
                return message
        raise AssertionError("unreachable")

    def sealed(self, flags: int, payload: bytes) -> bytes:
        clear = frame(self.mac, flags, payload, sequence=self.counter, length=len(payload))
        data = seal(self.keys[self.sends], clear, self.counter, self.sends, self.phase)
        self.counter += 1
        return data

    def send_packet(self, packet: bytes) -> bytes:
        data = self.sealed(TUNNEL, packet)
        self.send(data)
        return data

    def receive_sealed(self, flags: int) -> Any:
        """The next authentic frame of the present key with these flags, opened."""
        while True:
            data = self.receive()
            if data[16:18] != bytes([1, self.phase]):
                continue
            packet = open_frame(self.keys[1 - self.sends], data)
            header = packet[M13]
            assert header.seq_id == header.counter
            assert header.nonce_direction == 1 - self.sends
            if int(header.flags) == flags:
                return packet

    def receive_packet(self) -> bytes:
        packet = self.receive_sealed(TUNNEL)
        return packet.original[FRAME : FRAME + packet[M13].payload_len]


class ReferenceNode:
    def __init__(self, sock: socket.socket, identity: MLDSA87PrivateKey, profile: str) -> None:
        self.link = Link(sock, NODE_TO_HUB, "02:00:00:00:00:77")
        self.identity, self.profile = identity, profile
        self.client_hello = self.server_hello = b""
        self.config: Any = None

    def register(self) -> bytes:
        """Registrations until the hub's echo, whose tag is the cookie."""
        self.link.socket.settimeout(RESEND_S)
        for _ in range(int(WAIT_S / RESEND_S)):
            self.link.send_clear(0)
            with contextlib.suppress(TimeoutError):
                echo = next(self.link.clear_frames())
                break
        self.link.socket.settimeout(WAIT_S)
        if self.profile == "v2":
            self.link.cookie = Ether(echo)[M13].tag
        return echo

    def make_hello(self) -> bytes:
        self._decapsulation_key = MLKEM1024PrivateKey.generate()
        self.client_hello = bytes(
            ClientHello(
                version=2 if self.profile == "v2" else 1,
                nonce=os.urandom(32),
                encapsulation_key=self._decapsulation_key.public_key().public_bytes_raw(),
                node_key=self.identity.public_key().public_bytes_raw(),
            )
        )
        return self.client_hello

    def hello(self) -> bytes:
        self.link.send_message(self.make_hello())
        return self.client_hello

    def finish(self) -> bytes:
        """Takes the ServerHello, verifies, derives, answers; the ServerHello."""
        self.server_hello = self.link.receive_message()
        answer = ServerHello(self.server_hello)
        transcript = Transcript(self.profile, self.client_hello, self.server_hello)
        hub_key = MLDSA87PublicKey.from_public_bytes(answer.hub_key)
        hub_key.verify(answer.signature, transcript.of_hub, transcript.context)
        self.link.keys = transcript.keys(self._decapsulation_key.decapsulate(answer.ciphertext))
        self.link.counter = 0
        signature = self.identity.sign(transcript.of_node, transcript.context)
        self.link.send_message(bytes(Finished(signature=signature)))
        return self.server_hello

    def configure(self) -> Any:
        tlv = Tlv(bytes(self.link.receive_sealed(CONTROL)[M13].payload))
        assert tlv.type == 1
        self.config = Config(tlv.value)
        return self.config

    def rekey(self) -> "Link":
        """New keys beside the old ones; what could still be sent under those."""
        old = copy.copy(self.link)
        self.link.phase += 1
        self.connect()
        return old

    def connect(self) -> Any:
        self.register()
        self.hello()
        self.finish()
        return self.configure()


class ReferenceHub:
    def __init__(self, sock: socket.socket, identity: MLDSA87PrivateKey, profile: str) -> None:
        self.link = Link(sock, HUB_TO_NODE, "02:00:00:00:00:88")
        self.identity, self.profile = identity, profile
        self.link.to = ("0.0.0.0", 0)
        self.cookie = os.urandom(16)

    def welcome(self) -> bytes:
        """A registration answered by an echo with a cookie; the registration."""
        registration = next(self.link.clear_frames())
        self.link.send_echo(registration, self.cookie)
        return registration

    def answer(self) -> bytes:
        """A ClientHello answered by a ServerHello; the ClientHello."""
        client = self.link.receive_message()
        hello = ClientHello(client)
        key = MLKEM1024PublicKey.from_public_bytes(hello.encapsulation_key)
        self._secret, ciphertext = key.encapsulate()
        own_key = self.identity.public_key().public_bytes_raw()
        server = b"\x02" + ciphertext + own_key
        unsigned = Transcript(self.profile, client, server)
        server += self.identity.sign(unsigned.of_hub, unsigned.context)
        self.transcript = Transcript(self.profile, client, server)
        self.node_key = MLDSA87PublicKey.from_public_bytes(hello.node_key)
        self.link.send_message(server)
        return client

    def confirm(self, config: Config) -> None:
        """A Finished verified and answered by a sealed CONFIG; what else was resent is skipped."""
        message = b""
        while message[:1] != b"\x03":
            message = self.link.receive_message()
        finished = Finished(message)
        transcript = self.transcript
        self.node_key.verify(finished.signature, transcript.of_node, transcript.context)
        self.link.keys = self.keys()
        self.send_config(config)

    def keys(self) -> dict[int, bytes]:
        return self.transcript.keys(self._secret)

    def send_config(self, config: Config) -> None:
        value = bytes(config)
        self.link.send(
            self.link.sealed(CONTROL, bytes(Tlv(type=1, length=len(value), value=value)))
        )
