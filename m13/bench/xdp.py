"""What a hub's AF_XDP socket takes to send in copy mode, over a veth pair. For a namespace of one's
own. Only the kernel's part is timed: filling the ring is a memory write."""

import errno
import os
import socket
import time
from collections.abc import Iterator

from m13.bench.figure import (
    FRAME_OVERHEAD_BYTES,
    LARGE_BYTES,
    SMALL_BYTES,
    Figure,
    Omission,
    Result,
)
from m13.host import link
from native.umem import Umem
from native.xdp import Socket

NAME, PEER = "m13bench2", "m13bench3"
FRAMES, FRAME_BYTES = 256, 4096
OUTER_BYTES = 42  # Ethernet, IPv4 and UDP around a frame
# A station that is not the peer, so that its kernel drops the packet at once.
ETHERNET = bytes.fromhex("020000000001020000000002") + b"\x88\xb5"
PATIENCE_S = 1.0
UNITS = 2


def figures(unit_s: float) -> Iterator[Result]:
    try:
        link.make_veth(link.description(NAME), link.description(PEER))
        for name in (NAME, PEER):
            link.set_up(socket.if_nametoindex(name))
    except OSError as error:
        yield Omission("AF_XDP", f"no veth pair: {error.strerror}", "modprobe veth")
        return
    try:
        with (
            Umem(FRAMES * FRAME_BYTES) as umem,
            Socket(umem, NAME, frame_bytes=FRAME_BYTES, slots=FRAMES, zero_copy=False) as xdp,
        ):
            for size in (LARGE_BYTES, SMALL_BYTES):
                yield _send(xdp, size, unit_s)
    except OSError as error:
        why = os.strerror(error.errno) if error.errno else str(error)
        yield Omission("AF_XDP", why, "sudo m13 doctor tells what AF_XDP lacks")


def _send(xdp: Socket, size: int, unit_s: float) -> Figure:
    total_bytes = size + FRAME_OVERHEAD_BYTES + OUTER_BYTES
    packet = ETHERNET + bytes(total_bytes - len(ETHERNET))
    batch = [(frame * FRAME_BYTES, packet) for frame in range(FRAMES)]
    times: list[int] = []
    until = time.monotonic() + unit_s
    while not times or time.monotonic() < until:
        if xdp.transmit(batch) != FRAMES:
            raise OSError(errno.EIO, "the ring of an AF_XDP socket has no room")
        begun = time.perf_counter_ns()
        while xdp.transmit_pending:
            xdp.kick()
        times.append(time.perf_counter_ns() - begun)
        _reclaim(xdp)
    return Figure(
        f"xdp.send.{size}", "AF_XDP", f"send {size} B, copied, veth", min(times) / FRAMES, size
    )


def _reclaim(xdp: Socket) -> None:
    """Every frame back before the next batch: the kernel frees some a moment later."""
    back, until = 0, time.monotonic() + PATIENCE_S
    while back < FRAMES:
        back += len(xdp.reclaim())
        if time.monotonic() > until:
            raise OSError(errno.ETIMEDOUT, "sent frames of an AF_XDP socket do not come back")
