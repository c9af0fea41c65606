"""Many nodes in one process: real identities, real handshakes over UDP with a real hub.

256 processes of `m13-node` do not fit this kind of machine; a hub cannot tell these from them.
What nodes send in the data path, `scale_load.c` sends with the keys made here.
"""

import contextlib
import ipaddress
import selectors
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path

from bench.bed import HUB_ADDRESS, Bed
from bench.tunnel import PORT, Keys
from m13 import handshake, pqc
from m13.identity import fingerprint, parse_fingerprint
from native import channel, wire
from native.aead import Aead

PEERS_MAX = 256
OUTER_NETWORK = ipaddress.IPv4Network("198.18.0.0/23")  # RFC 2544: for benchmarks
TUNNEL = ipaddress.IPv4Interface("10.13.0.1/16")  # a /24 has no room for 256
NODE_GATEWAY = "192.0.2.2"  # of the bed: the namespace all of them are in
WINDOW = 32  # handshakes under way at once; the hub keeps 64
RESEND_S, PATIENCE_S = 0.5, 30
RECEIVE_BYTES = 2048
REGISTRATION, HANDSHAKE = 0x00, 0x83
TAG = slice(18, 34)
FLAGS, PHASE, CRYPTO = 54, 17, 16
FRAGMENT = struct.Struct("<HBBHH")
PEER = struct.Struct("<32sQ4s4s6sBx")  # struct peer of scale_load.c


class Peer:
    """One node: where it is, who it is, and how far its handshake has come."""

    def __init__(self, number: int, provider: pqc.Provider, hub_pin: bytes) -> None:
        self.name = f"peer{number:03}"
        self.outer = OUTER_NETWORK[number + 1]
        self.address = TUNNEL.network[number + 2]
        self.mac = bytes([2, 0, 0, 0xAA, *number.to_bytes(2, "big")])
        self.seed = seed = provider.sign_generate()
        self.key = fingerprint(provider.sign_load(seed)[1])
        self._machine = handshake.NodeHandshake(provider, seed, handshake.PROFILES["v2"], [hub_pin])
        self._generation = 0
        self._phase = 0
        self.forget()

    def forget(self) -> None:
        """Ready for a handshake; the next session has another key phase."""
        self._generation += 1
        self._phase = (self._phase + 1) & 0xFF
        self.is_connected = False
        self.send_key = self.receive_key = b""
        self._cookie = bytes(16)
        self._fragments: dict[int, bytes] = {}
        self._sequence = self._generation << 16
        hello = self._machine.feed(channel.ASK_START, 0, self._generation, b"\x02")
        assert isinstance(hello, handshake.Hello)
        self._hello = hello.message
        self.to_send = [self._clear(REGISTRATION)]
        self.sent_s = 0.0

    def take(self, frame: bytes, aead: Aead) -> bool:
        """A frame of the hub; whether it made something new to send."""
        if frame[CRYPTO] == wire.AEAD:
            self.is_connected = bool(self.receive_key) and self.opens(frame, aead)
            return False
        if frame[FLAGS] != HANDSHAKE:
            if any(self._cookie):
                return False
            self._cookie = frame[TAG]
            self.to_send = self._cut(self._hello)
            return True
        _, index, total, _, size = FRAGMENT.unpack_from(frame, wire.FRAME_BYTES)
        begin = wire.FRAME_BYTES + FRAGMENT.size
        self._fragments[index] = frame[begin : begin + size]
        if len(self._fragments) < total or self.receive_key:
            return False
        message = b"".join(self._fragments[index] for index in range(total))
        answer = self._machine.feed(channel.ASK_SERVER_HELLO, 0, self._generation, message)
        if not isinstance(answer, handshake.Established):
            raise RuntimeError(f"{self.name}: the hub's answer is refused: {answer}")
        self.send_key, self.receive_key = bytes(answer.send_key), bytes(answer.receive_key)
        self.to_send = self._cut(answer.finished)
        return True

    def opens(self, frame: bytes, aead: Aead) -> bool:
        return aead.open(self.receive_key, [bytearray(frame)])[0]

    def packed(self) -> bytes:
        places = self.outer.packed, self.address.packed, self.mac
        return PEER.pack(self.send_key, 0, *places, self._phase)

    def _clear(self, flags: int, payload: bytes = b"") -> bytes:
        frame = bytearray(wire.FRAME_BYTES) + payload
        wire.stamp(frame, self.mac, flags, 0, self._sequence)
        frame[TAG] = self._cookie
        frame[PHASE] = self._phase
        self._sequence += 1
        return bytes(frame)

    def _cut(self, message: bytes) -> list[bytes]:
        total, chunk = wire.fragment_total(len(message)), wire.FRAGMENT_CHUNK_BYTES
        identity = self._sequence & 0xFFFF
        frames = []
        for index in range(total):
            piece = message[index * chunk : (index + 1) * chunk]
            head = FRAGMENT.pack(identity, index, total, index * chunk, len(piece))
            frames.append(self._clear(HANDSHAKE, head + piece))
        return frames


class Crowd:
    """The peers of one bed, and the roster that admits them."""

    def __init__(self, keys: Keys, count: int = PEERS_MAX) -> None:
        provider = pqc.choose()
        pin = parse_fingerprint(keys.fingerprints["hub"])
        self.peers = [Peer(number, provider, pin) for number in range(count)]
        keys.roster.write_text(
            "".join(
                f'[[node]]\nname = "{peer.name}"\nkey = "{peer.key}"\naddress = "{peer.address}"\n'
                for peer in self.peers
            )
        )

    def lay_out(self, bed: Bed) -> None:
        """Their outer addresses are the node namespace's, all of them; see ip-route(8), local."""
        with bed.node.netlink() as netlink:
            loopback = netlink.link_lookup(ifname="lo")[0]
            network = str(OUTER_NETWORK)
            netlink.route("add", dst=network, oif=loopback, type="local", scope="host", table=255)
        bed.hub.route(str(OUTER_NETWORK), NODE_GATEWAY)
        bed.internet.route(str(TUNNEL.network), "198.51.100.1")

    def connect(self, bed: Bed) -> float:
        """All that are not connected; the seconds it took."""
        waiting = [peer for peer in self.peers if not peer.is_connected]
        begin = time.monotonic()
        with selectors.DefaultSelector() as selector, Aead() as aead:
            under_way: dict[Peer, socket.socket] = {}
            while waiting or under_way:
                while waiting and len(under_way) < WINDOW:
                    peer = waiting.pop()
                    under_way[peer] = _open(bed, peer)
                    selector.register(under_way[peer], selectors.EVENT_READ, peer)
                    _send(peer, under_way[peer])
                for key, _ in selector.select(RESEND_S):
                    _receive(key.data, under_way[key.data], aead)
                for peer in [peer for peer in under_way if peer.is_connected]:
                    selector.unregister(under_way[peer])
                    under_way.pop(peer).close()
                _resend(under_way)
                if time.monotonic() - begin > PATIENCE_S:
                    missing = ", ".join(peer.name for peer in under_way)
                    raise TimeoutError(f"not connected: {missing}")
        return time.monotonic() - begin

    def write(self, path: Path) -> None:
        """For scale_load.c."""
        path.touch(mode=0o600)
        path.write_bytes(b"".join(peer.packed() for peer in self.peers))

    @contextlib.contextmanager
    def listening(self, bed: Bed) -> Iterator[dict[Peer, socket.socket]]:
        with contextlib.ExitStack() as stack:
            yield {peer: stack.enter_context(_open(bed, peer)) for peer in self.peers}


def _open(bed: Bed, peer: Peer) -> socket.socket:
    with bed.node.inside():
        opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    opened.bind((str(peer.outer), PORT))
    opened.connect((HUB_ADDRESS, PORT))
    opened.setblocking(False)
    return opened


def _send(peer: Peer, opened: socket.socket) -> None:
    for frame in peer.to_send:
        opened.send(frame)
    peer.sent_s = time.monotonic()


def _receive(peer: Peer, opened: socket.socket, aead: Aead) -> None:
    with contextlib.suppress(BlockingIOError):
        while not peer.is_connected:
            if peer.take(opened.recv(RECEIVE_BYTES), aead):
                _send(peer, opened)


def _resend(under_way: dict[Peer, socket.socket]) -> None:
    late = time.monotonic() - RESEND_S
    for peer, opened in under_way.items():
        if peer.sent_s < late:
            _send(peer, opened)
