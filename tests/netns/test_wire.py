"""Eight steps of a session on the wire, against an independent codec, both ways round.

    reference node (Python) 192.0.2.2 up0 ─── wan0 192.0.2.1 m13-hub ─── internet
    m13-node                192.0.2.2 up0 ─── wan0 192.0.2.1 reference hub (Python)

Every frame is also captured on the node's interface and its bytes are checked there.
"""

import base64
import contextlib
import hashlib
import os
import socket
import struct
from collections.abc import Iterator

import pytest
from cryptography.exceptions import InvalidTag
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether

from bench.bed import HUB_ADDRESS, Bed
from bench.tunnel import PORT, Keys, start_hub, start_node
from m13.host import nic
from tests.netns.capture import Capture, raw_packet, raw_socket
from tests.netns.conftest import assert_all_frames_accounted
from tests.netns.reference import ReferenceHub, ReferenceNode, load_identity
from tests.scapy_m13 import (
    CONTROL,
    HUB_TO_NODE,
    M13,
    MESSAGE_BYTES,
    NODE_TO_HUB,
    Config,
    Fragment,
    open_frame,
    outer,
    reassemble,
)

NODE, HUB = "10.13.0.2", "10.13.0.1"
PROFILES = {"v2": ("v2", "v1"), "v1": ("v1", "v1"), "v1-full": ("v1-full", "v1-full")}
OUTER = 42  # Ethernet, IPv4 and UDP before the inner frame on a NIC


@contextlib.contextmanager
def node_socket(bed: Bed) -> Iterator[socket.socket]:
    with bed.node.inside():
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with sock:
        sock.connect((HUB_ADDRESS, PORT))
        yield sock


@contextlib.contextmanager
def hub_socket(bed: Bed) -> Iterator[socket.socket]:
    with bed.hub.inside():
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with sock:
        sock.bind((HUB_ADDRESS, PORT))
        yield sock


def check_outer(data: bytes, down: bool) -> None:
    """Outer headers of §1. A hub on AF_XDP writes its own, else they are the kernel's."""
    ip, datagram = outer(data)
    udp = ip[UDP]
    assert ip.ihl == 5
    assert ip.len == 28 + len(datagram)
    assert data[OUTER : OUTER + 6] == b"\xff" * 6
    assert data[OUTER + 12 : OUTER + 16] == bytes.fromhex("88b5d101")
    if down:
        assert (ip.src, udp.sport, int(ip.flags), ip.ttl) == (HUB_ADDRESS, PORT, 2, 64)
        sums = (ip.chksum, udp.chksum)
        del ip.chksum, udp.chksum
        fresh = IP(bytes(ip)[: ip.len])
        assert sums == (fresh.chksum, fresh[UDP].chksum)
        assert sums[1] != 0


def check_clear(frame: bytes, flags: int, cookie: bytes) -> None:
    """Byte ranges of a cleartext frame, by offset as §1 has them."""
    assert frame[16] == 0
    assert frame[18:34] == cookie
    assert frame[34:46] == bytes(12)
    assert frame[54] == flags
    assert frame[55:62] == bytes(7)


def check_fragments(frames: list[bytes], message: bytes, cookie: bytes) -> None:
    assert reassemble(frames) == message
    assert len(frames) == {1: 3, 2: 7, 3: 4}[message[0]]
    first = struct.unpack_from("<Q", frames[0], 46)[0]
    for index, frame in enumerate(frames):
        check_clear(frame, 0x83, cookie)
        assert struct.unpack_from("<Q", frame, 46)[0] == first + index
        chunk = message[index * 1402 : (index + 1) * 1402]
        head = struct.pack("<HBBHH", first & 0xFFFF, index, len(frames), index * 1402, len(chunk))
        assert frame[62:] == head + chunk


def split(
    frames: list[bytes], down: bool
) -> tuple[list[bytes], dict[int, list[bytes]], list[bytes]]:
    """Of one direction: bare clear frames, handshake fragments by message type, sealed frames."""
    bare, messages, sealed = [], {}, []
    ids: dict[int, int] = {}
    for data in frames:
        if IP not in Ether(data) or UDP not in Ether(data):
            continue
        check_outer(data, down)
        frame = outer(data)[1]
        if frame[16] == 1:
            sealed.append(frame)
        elif frame[54] == 0x83:
            piece = Ether(frame)[Fragment]
            if piece.index == 0:
                ids[piece.id] = frame[70]
            messages.setdefault(ids[piece.id], []).append(frame)
        else:
            bare.append(frame)
    return bare, messages, sealed


def check_sealed(frame: bytes, keys: dict[int, bytes], direction: int) -> None:
    """Nonce, direction and tag where §1 puts them; the tag covers what it must."""
    counter = struct.unpack_from("<Q", frame, 34)[0]
    assert frame[42:46] == bytes([direction, 0, 0, 0])
    assert open_frame(keys[direction], frame)[M13].seq_id == counter
    # from the AAD to the last byte: whatever is changed, it does not open
    for offset in (14, 15, 17, 18, 34, 46, 54, len(frame) - 1):
        damaged = bytearray(frame)
        damaged[offset] ^= 1
        with pytest.raises(InvalidTag):
            open_frame(keys[direction], bytes(damaged))


@pytest.mark.parametrize("profile", PROFILES)
def test_a_reference_node_joins_a_real_hub(bed: Bed, keys: Keys, rx: str, profile: str) -> None:
    with bed.hub.inside():
        # else the kernel leaves the sum of a socket's datagram to a NIC that a veth has not
        nic.set_features(bed.hub_interface, {"tx-checksum-ip-generic": False})
    hub = start_hub(bed, keys, "--rx", rx, "--v1-profile", PROFILES[profile][1])
    identity = load_identity(keys.identity("node"))
    up, down = os.urandom(900), os.urandom(1100)
    with (
        Capture(bed.node, bed.node_interface, outgoing=True) as capture,
        node_socket(bed) as sock,
        contextlib.closing(raw_socket(bed.hub)) as inside,
    ):
        node = ReferenceNode(sock, identity, profile)
        echo = node.register()  # steps 1 and 2
        client = node.hello()  # 3
        server = node.finish()  # 4, 5 and 6
        config = node.configure()  # what opens with our keys was sealed with the same ones
        node.link.send_packet(raw_packet(NODE, HUB, 1, up))  # 7
        assert inside.recv(65536) == raw_packet(NODE, HUB, 1, up)
        inside.sendto(raw_packet(HUB, NODE, 2, down), (NODE, 0))  # 8
        assert node.link.receive_packet() == raw_packet(HUB, NODE, 2, down)
        capture.settle()
    assert (config.node, config.prefix, config.hub, config.mtu) == (NODE, 24, HUB, 1400)
    assert (config.fec, config.feedback) == (0, 1)
    assert fingerprint_matches(server[1569:4161], keys.fingerprints["hub"])

    cookie = echo[18:34] if profile == "v2" else bytes(16)
    registration, messages, sealed = split(capture.left, down=False)
    assert {len(frame) for frame in registration} == {62}
    check_clear(registration[0], 0x00, bytes(16))
    check_fragments(messages[1], client, cookie)
    assert len(reassemble(messages[3])) == MESSAGE_BYTES[3]
    check_sealed(sealed[-1], node.link.keys, NODE_TO_HUB)

    echoes, messages, sealed = split(capture.arrived, down=True)
    assert {len(frame) for frame in echoes} == {62}
    check_clear(echoes[0], CONTROL, echo[18:34])
    assert echo[18:34] != bytes(16)
    check_fragments(messages[2], server, bytes(16))
    check_sealed(sealed[-1], node.link.keys, HUB_TO_NODE)
    assert hub.stop() == 0
    assert_all_frames_accounted(hub)


@pytest.mark.parametrize("profile", PROFILES)
def test_a_real_node_joins_a_reference_hub(bed: Bed, keys: Keys, profile: str) -> None:
    identity = load_identity(keys.identity("hub"))
    with (
        Capture(bed.node, bed.node_interface, outgoing=True) as capture,
        hub_socket(bed) as sock,
        contextlib.closing(raw_socket(bed.node)) as inside,
    ):
        hub = ReferenceHub(sock, identity, profile)
        node = start_node(bed, keys, "--handshake", profile, wait=False)
        registration = hub.welcome()
        client = hub.answer()
        hub.confirm(Config(node=NODE, prefix=24, hub=HUB, mtu=1300, keepalive_ms=200))
        node.wait_log(r"tunnel 10.13.0.2/24, MTU 1300")
        hub.link.send_packet(raw_packet(HUB, NODE, 3, b"down" * 200))
        assert inside.recv(65536) == raw_packet(HUB, NODE, 3, b"down" * 200)
        inside.sendto(raw_packet(NODE, HUB, 4, b"up" * 300), (HUB, 0))
        assert hub.link.receive_packet() == raw_packet(NODE, HUB, 4, b"up" * 300)
        assert node.stop() == 0
        capture.settle()
    assert client[1] == (2 if profile == "v2" else 1)
    assert fingerprint_matches(client[1602:4194], keys.fingerprints["node"])
    check_clear(registration, 0x00, bytes(16))
    assert (registration[6] & 0x03, len(registration)) == (0x02, 62)  # locally administered

    _, messages, sealed = split(capture.left, down=False)
    cookie = hub.cookie if profile == "v2" else bytes(16)
    check_fragments(messages[1], client, cookie)
    assert len(messages[3]) == 4
    counters = [struct.unpack_from("<Q", frame, 34)[0] for frame in sealed]
    assert counters == list(range(len(sealed)))
    check_sealed(sealed[-1], hub.link.keys, NODE_TO_HUB)


def fingerprint_matches(public_key: bytes, fingerprint: str) -> bool:
    digest = base64.b64encode(hashlib.sha256(public_key).digest()).decode()
    return fingerprint == "SHA256:" + digest.rstrip("=")
