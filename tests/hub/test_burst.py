"""Bursts through an AF_XDP socket: what leaves is right by an independent codec, and what cannot
be sent is refused."""

import os
import socket
from contextlib import ExitStack

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether

from m13.host import unnamed_network
from m13.host.unnamed_network import Lane, UnnamedNetwork
from native import burst
from native.umem import Umem
from native.xdp import Socket

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")

LANE = Lane(0, "near")
FRAMES, FRAME_BYTES = 64, 4096


def packet(payload: bytes) -> bytes:
    """With a UDP checksum that is wrong."""
    ip = IP(src=LANE.source_address, dst=LANE.target_address, flags="DF")
    udp = UDP(sport=443, dport=5000, chksum=0x1234)
    return bytes(Ether(src=LANE.mac(1), dst=LANE.mac(2)) / ip / udp / payload)


def xdp_socket(network: UnnamedNetwork, stack: ExitStack) -> Socket:
    network.lay(LANE, 1500, {}, {})
    network.enter("near")
    umem = stack.enter_context(Umem(FRAMES * FRAME_BYTES))
    return stack.enter_context(Socket(umem, LANE.source, slots=FRAMES))


@pytest.mark.parametrize("payload_bytes", [0, 1, 61, 1462])
def test_packets_leave_with_a_right_checksum(payload_bytes: int) -> None:
    sent = [packet(os.urandom(payload_bytes)) for _ in range(8)]

    def work(network: UnnamedNetwork, stack: ExitStack) -> list[bytes]:
        xdp = xdp_socket(network, stack)
        network.enter("far")
        tap = stack.enter_context(
            socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0800))
        )
        tap.settimeout(1)
        # into the frames, and once on its way as it is
        xdp.transmit([(i * FRAME_BYTES, data) for i, data in enumerate(sent)])
        xdp.kick()
        assert [tap.recv(2048) for _ in sent] == sent
        while xdp.transmit_pending or len(xdp.reclaim()) < len(sent):
            xdp.kick()
        burst.send(xdp, len(sent), len(sent[0]))
        arrived = [tap.recv(2048) for _ in sent]
        assert burst.sent(xdp) == len(sent)
        assert burst.sent(xdp) == 0
        return arrived

    arrived = unnamed_network.run(work)
    for before, after in zip(sent, arrived, strict=True):
        assert after[:40] + after[42:] == before[:40] + before[42:]
        fresh = IP(before[14:])
        del fresh[UDP].chksum
        assert IP(after[14:])[UDP].chksum == IP(bytes(fresh))[UDP].chksum


@pytest.mark.parametrize(("count", "length"), [(65, 100), (1, 41), (1, 4097), (1 << 31, 100)])
def test_what_is_no_burst_is_refused(count: int, length: int) -> None:
    def work(network: UnnamedNetwork, stack: ExitStack) -> None:
        xdp = xdp_socket(network, stack)
        with pytest.raises(ValueError, match=r"at most|outside"):
            burst.send(xdp, count, length)
        xdp.close()
        for call in (burst.receive, burst.sent):
            with pytest.raises(ValueError, match="closed"):
                call(xdp)

    unnamed_network.run(work)


def test_datagrams_are_drained_and_counted() -> None:
    receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with receiver, sender:
        receiver.bind(("127.0.0.1", 0))
        for size in (1, 0, 1200):
            sender.sendto(bytes(size), receiver.getsockname())
        assert burst.drain(receiver.fileno(), bytearray(2048)) == 1201
        assert burst.drain(receiver.fileno(), bytearray(2048)) == 0
    with pytest.raises(OSError, match="receiving"):
        burst.drain(-1, bytearray(1))
