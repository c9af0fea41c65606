"""What the kernel takes for packets: TUN and UDP sockets. For a namespace of one's own."""

import contextlib
import errno
import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import closing

from m13.bench.figure import (
    FRAME_OVERHEAD_BYTES,
    LARGE_BYTES,
    REPEATS,
    SMALL_BYTES,
    Figure,
    Omission,
    Result,
)
from m13.bench.packet import SINK_NETWORK, TUN_ADDRESS, Shape, shapes
from m13.errors import HostError, M13Error
from m13.host import route_table
from m13.host.route_table import Route
from m13.host.tun import IFF_VNET_HDR, TUN_F_CSUM, TUNSETOFFLOAD, Tun
from native import selfbench

TUN_NAME, TUN_MTU = "m13bench0", 1400
TUN_BURST = 32
ETH_P_IP = 0x0800
SOL_PACKET, PACKET_VNET_HDR, PACKET_IGNORE_OUTGOING = 263, 15, 23
SOL_UDP, UDP_SEGMENT, UDP_GRO = 17, 103, 104  # include/uapi/linux/udp.h
SO_RCVBUFFORCE = 33
RECEIVE_BUFFER_BYTES = 4 << 20
DATAGRAM_MAX = 65507
TRAIN_FRAMES_MAX = 64
UDP_BURST_BYTES = 131072  # fits into a receive buffer of the default size
CUT_TUN_NAME, CUT_TUN_MTU = "m13bench1", 1500
CUT_ADDRESS, CUT_PEER = "203.0.113.1", "203.0.113.2"
CUT_QUEUE = 320  # datagrams; the TUN's queue has 500
UNITS = 2 * 4 + 2 * 2 + 2

KERNEL_MEND = "use a newer kernel: m13 doctor tells which"


def figures(unit_s: float) -> Iterator[Result]:
    yield from _tun(unit_s)
    yield from _udp(unit_s)


def _tun(unit_s: float) -> Iterator[Result]:
    try:
        device = Tun(TUN_NAME, TUN_MTU, flags=IFF_VNET_HDR, blocking=False)
    except M13Error as error:
        yield Omission("TUN", str(error), "modprobe tun; m13 doctor tells more")
        return
    with device:
        note = device.use_offloads()
        if note:
            yield Omission("TUN, large UDP", note, "use Linux 6.2 or newer")
        device.add_address(TUN_ADDRESS, 24)
        device.up()
        sink = Route(SINK_NETWORK, route_table.TABLE_MAIN, kind=route_table.BLACKHOLE)
        route_table.add(sink)
        for shape in shapes(device.takes_large_udp):
            yield _write(device, shape, unit_s)
            yield _read(device, shape, unit_s)


def _write(device: Tun, shape: Shape, unit_s: float) -> Figure:
    """Into the kernel, whose routing drops it."""
    flows = [
        selfbench.exchange(device.fd, -1, shape.message, TUN_BURST, int(unit_s * 1e9 / REPEATS))[0]
        for _ in range(REPEATS)
    ]
    ns = min(flow.ns / flow.calls for flow in flows) / shape.packets
    return Figure(f"tun.write.{shape.key}", "TUN", f"write {shape.label}", ns, shape.packet_bytes)


def _read(device: Tun, shape: Shape, unit_s: float) -> Figure:
    """Packets that a packet socket has queued; only the reading is timed."""
    costs = []
    with closing(socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)) as source:
        source.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
        source.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
        source.bind((device.name, ETH_P_IP))
        for _ in range(REPEATS):
            sent, received = selfbench.exchange(
                *(source.fileno(), device.fd, shape.message, TUN_BURST),
                int(unit_s * 1e9 / REPEATS),
            )
            # Nothing may be lost, or fewer packets would seem to cost more.
            if received.bytes < sent.bytes:
                raise OSError(errno.EIO, "the TUN lost packets", device.name)
            costs.append(received.ns / sent.calls)
    ns = min(costs) / shape.packets
    return Figure(f"tun.read.{shape.key}", "TUN", f"read {shape.label}", ns, shape.packet_bytes)


def _udp(unit_s: float) -> Iterator[Result]:
    for size in (LARGE_BYTES, SMALL_BYTES):
        frame_bytes = size + FRAME_OVERHEAD_BYTES
        frames = min(TRAIN_FRAMES_MAX, DATAGRAM_MAX // frame_bytes)
        yield from _loopback(f"train.{size}", f"{frames} × {size} B in one", size, frames, unit_s)
        yield from _loopback(f"single.{size}", f"single {size} B", size, 1, unit_s)
    with contextlib.suppress(HostError):  # no TUN: said already
        yield from _cut_by_kernel(unit_s)


def _loopback(key: str, label: str, size: int, frames: int, unit_s: float) -> Iterator[Result]:
    """Sending over loopback includes what the kernel does to deliver it."""
    frame_bytes = size + FRAME_OVERHEAD_BYTES
    message = bytes(frame_bytes * frames)
    burst = max(1, min(TUN_BURST, UDP_BURST_BYTES // len(message)))
    with _connected_pair() as (source, target):
        if frames > 1:
            try:
                source.setsockopt(SOL_UDP, UDP_SEGMENT, frame_bytes)
                target.setsockopt(SOL_UDP, UDP_GRO, 1)
            except OSError as error:
                why = f"no UDP_SEGMENT or UDP_GRO: {os.strerror(error.errno or 0)}"
                yield Omission(f"UDP, {label}", why, KERNEL_MEND)
                return
        runs = [
            selfbench.exchange(
                *(source.fileno(), target.fileno(), message, burst), int(unit_s * 1e9 / REPEATS)
            )
            for _ in range(REPEATS)
        ]
    send_ns = min(sent.ns * frame_bytes / sent.bytes for sent, _ in runs)
    receive_ns = min(got.ns * frame_bytes / got.bytes for _, got in runs)
    yield Figure(f"udp.send.{key}", "UDP", f"send {label}", send_ns, size)
    yield Figure(f"udp.receive.{key}", "UDP", f"receive {label}", receive_ns, size)


def _cut_by_kernel(unit_s: float) -> Iterator[Result]:
    """Trains that the kernel cuts, as it does before a NIC that cannot: into a TUN of ours that
    takes single datagrams only. No receiver is part of the cost."""
    with (
        Tun(CUT_TUN_NAME, CUT_TUN_MTU, flags=IFF_VNET_HDR, blocking=False) as device,
        closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as source,
    ):
        fcntl.ioctl(device.fd, TUNSETOFFLOAD, TUN_F_CSUM)
        device.add_address(CUT_ADDRESS, 24)
        device.up()
        source.connect((CUT_PEER, 9))
        for size in (LARGE_BYTES, SMALL_BYTES):
            frame_bytes = size + FRAME_OVERHEAD_BYTES
            frames = min(TRAIN_FRAMES_MAX, DATAGRAM_MAX // frame_bytes)
            try:
                source.setsockopt(SOL_UDP, UDP_SEGMENT, frame_bytes)
            except OSError:  # the loopback has said so
                return
            message = bytes(frame_bytes * frames)
            flows = [
                selfbench.exchange(
                    *(source.fileno(), device.fd, message, CUT_QUEUE // frames),
                    int(unit_s * 1e9 / REPEATS),
                )[0]
                for _ in range(REPEATS)
            ]
            ns = min(flow.ns * frame_bytes / flow.bytes for flow in flows)
            label = f"send {frames} × {size} B, kernel cuts"
            yield Figure(f"udp.send.cut.{size}", "UDP", label, ns, size)


@contextlib.contextmanager
def _connected_pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    with (
        closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as source,
        closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as target,
    ):
        target.bind(("127.0.0.1", 0))
        target.setblocking(False)
        source.connect(target.getsockname())
        with contextlib.suppress(PermissionError):
            target.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BUFFER_BYTES)
        yield source, target
