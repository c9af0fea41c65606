"""python -m bench.check.record: records what node and hub read from their TUNs, as root.

A tunnel is started on the bed, traffic is sent both ways, and a packet socket on each m13tun0 keeps
what the kernel hands to that TUN: up.pcap.gz what the node read, down.pcap.gz what the hub read.
The link type is 147, LINKTYPE_USER0: a struct virtio_net_hdr (10 bytes, include/uapi/linux/
virtio_net.h), then an IPv4 packet, perhaps a large one that is still to be cut. The budgets hold
for one recording: count anew with `python -m bench.check --update` after making another.
"""

import contextlib
import gzip
import os
import socket
import struct
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from bench.bed import INTERNET_ADDRESS, Bed
from bench.capture import PACKET_OUTGOING, RECORD_BYTES_MAX, PacketCapture
from bench.check.driver import RECORDINGS
from bench.namespace import Namespace
from bench.traffic import ping
from bench.tunnel import Keys, ProgramError, start_hub, start_node, tunnel_address
from m13.errors import M13Error

LINKTYPE_USER0 = 147
PCAP_MAGIC_NANOSECONDS = 0xA1B23C4D
HEADER_BYTES = 10  # struct virtio_net_hdr
TUN = "m13tun0"
PACKET_VNET_HDR = 15  # linux/if_packet.h
UDP_SEGMENT = 103  # linux/udp.h
SETTLE_S = 0.3
WAIT_S = 10

STREAM_BYTES = 300_000
BURST = 32
PAYLOAD = bytes(range(256)) * 256  # compresses well; no stage looks at it


class Capture(PacketCapture):
    """With `with`: the packets the kernel hands to a TUN, as a read of it gives them."""

    def __init__(self, namespace: Namespace) -> None:
        super().__init__(namespace, TUN, PACKET_VNET_HDR)
        self.records: list[tuple[int, bytes]] = []  # time_ns, header and packet

    def take(self, data: bytes, sender: Any) -> None:
        # the tunnel is IPv4; what IPv6 says on a new interface is not its traffic
        if sender[2] == PACKET_OUTGOING and data[HEADER_BYTES] >> 4 == 4:
            self.records.append((time.time_ns(), data))


def stream(source: Namespace, target: Namespace, address: str) -> None:
    """One TCP connection, from its first packet to its last."""
    with target.inside():
        listener = socket.create_server(("0.0.0.0", 0))
    with source.inside():
        sender = socket.socket(socket.AF_INET, socket.SOCK_STREAM)

    def send() -> None:
        with closing(sender):
            sender.settimeout(WAIT_S)
            sender.connect((address, listener.getsockname()[1]))
            for start in range(0, STREAM_BYTES, len(PAYLOAD)):
                sender.sendall(PAYLOAD[: STREAM_BYTES - start])

    thread = threading.Thread(target=send)
    with closing(listener):
        listener.settimeout(WAIT_S)
        thread.start()
        connection = listener.accept()[0]
        connection.settimeout(WAIT_S)
        with connection:
            taken = sum(map(len, iter(lambda: connection.recv(1 << 20), b"")))
        thread.join()
    if taken != STREAM_BYTES:
        raise ProgramError(f"{taken} of {STREAM_BYTES} bytes came through the tunnel")


def datagrams(
    ends: tuple[Namespace, Namespace, str],
    sizes: Sequence[int],
    flows: int = 1,
    segment_bytes: int = 0,
) -> None:
    """Datagrams of these sizes in turn over so many sockets; segmented by the kernel if asked."""
    source, target, address = ends
    with contextlib.ExitStack() as stack:
        with target.inside():
            sink = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            sink.bind(("0.0.0.0", 0))
        senders = []
        for _ in range(flows):
            with source.inside():
                sender = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            if segment_bytes:
                sender.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, segment_bytes)
            sender.connect((address, sink.getsockname()[1]))
            senders.append(sender)
        for number, size in enumerate(sizes):
            senders[number % flows].send(PAYLOAD[:size])
            if number % BURST == BURST - 1:
                time.sleep(0.005)  # the next queue holds a burst
        time.sleep(SETTLE_S)


def send_everything(bed: Bed) -> None:
    up = (bed.node, bed.internet, INTERNET_ADDRESS)
    down = (bed.internet, bed.node, tunnel_address("node"))
    for ends in (up, down):
        stream(*ends)
        datagrams(ends, [64] * 384)
        datagrams(ends, [1200] * 128)
        # as QUIC does it
        datagrams(ends, [16 * 1200] * 4, segment_bytes=1200)
        datagrams(ends, [40 + 37 * n % 230 for n in range(96)], flows=4)
        for payload_bytes in range(0, 200, 20):
            ping(ends[0], ends[2], payload_bytes=payload_bytes)


def record() -> Iterator[tuple[str, list[tuple[int, bytes]]]]:
    """(direction, records) of a tunnel that lives for this alone."""
    with tempfile.TemporaryDirectory(prefix="m13-record-") as directory, Bed() as bed:
        keys = Keys(Path(directory), ["hub", "node"])
        hub, node = start_hub(bed, keys), start_node(bed, keys)
        with Capture(bed.node) as up, Capture(bed.hub) as down:
            send_everything(bed)
            time.sleep(SETTLE_S)
        node.stop()
        hub.stop()
    yield "up", up.records
    yield "down", down.records


def write(path: Path, records: list[tuple[int, bytes]]) -> None:
    """A compressed pcap file, little endian, with nanoseconds."""
    content = struct.pack(
        "<IHHiIII", PCAP_MAGIC_NANOSECONDS, 2, 4, 0, 0, RECORD_BYTES_MAX, LINKTYPE_USER0
    )
    for time_ns, data in records:
        seconds, nanoseconds = divmod(time_ns, 10**9)
        content += struct.pack("<IIII", seconds, nanoseconds, len(data), len(data)) + data
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(gzip.compress(content, mtime=0))


def main() -> int:
    if os.geteuid() != 0:
        print("bench.check.record: a tunnel needs root: run it as root", file=sys.stderr)
        return 1
    try:
        for way, records in record():
            write(RECORDINGS[way], records)
            size = RECORDINGS[way].stat().st_size
            print(f"{way}: {len(records)} reads of the TUN, {size} bytes")
    except (M13Error, ProgramError, OSError) as error:
        print(f"bench.check.record: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
