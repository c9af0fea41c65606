"""Traffic between two namespaces, checked at the far end: ping, TCP, UDP and HTTP.

Sockets are made inside a namespace by this process and used by its threads from then on.
"""

import hashlib
import http.server
import os
import select
import socket
import struct
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass

from bench.namespace import Namespace

WAIT_S = 10
UDP_BURST = 32


@dataclass(frozen=True)
class Transfer:
    """What was sent and what arrived."""

    sent: str  # SHA-256
    received: str
    byte_count: int
    seconds: float
    seen_from: str = ""  # HTTP: the client's address as the server saw it

    @property
    def is_intact(self) -> bool:
        return self.sent == self.received

    @property
    def bits_per_second(self) -> float:
        return self.byte_count * 8 / self.seconds


def ping(
    source: Namespace, address: str, count: int = 1, payload_bytes: int = 56, wait_s: float = 2
) -> list[float]:
    """Round trips in milliseconds of the echoes that came back intact."""
    with source.inside():
        sock = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
    identifier = os.getpid() & 0xFFFF
    times = []
    with closing(sock):
        for sequence in range(count):
            request = echo_request(identifier, sequence, os.urandom(payload_bytes))
            begin = time.perf_counter()
            sock.sendto(request, (address, 0))
            while (left := begin + wait_s - time.perf_counter()) > 0:
                if not select.select([sock], [], [], left)[0]:
                    break
                packet, sender = sock.recvfrom(65536)
                answer = packet[(packet[0] & 15) * 4 :]
                # type and checksum differ between request and reply, the rest must not
                if sender[0] == address and answer[0] == 0 and answer[4:] == request[4:]:
                    times.append((time.perf_counter() - begin) * 1000)
                    break
    return times


def echo_request(identifier: int, sequence: int, payload: bytes) -> bytes:
    body = struct.pack("!HH", identifier, sequence) + payload
    total = sum(struct.unpack(f"!{(len(body) + 1) // 2}H", body + b"\0" * (len(body) % 2)))
    total += 0x0800
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return struct.pack("!BBH", 8, 0, ~total & 0xFFFF) + body


def family_of(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def anywhere(address: str) -> tuple[str, int]:
    """To bind to, for the address's family."""
    return ("::" if ":" in address else "0.0.0.0", 0)


def tcp(source: Namespace, target: Namespace, address: str, byte_count: int) -> Transfer:
    with target.inside():
        listener = socket.create_server(anywhere(address), family=family_of(address))
    with source.inside():
        sender = socket.socket(family_of(address), socket.SOCK_STREAM)
    received = hashlib.sha256()

    def take() -> None:
        listener.settimeout(WAIT_S)
        connection = listener.accept()[0]
        connection.settimeout(WAIT_S)
        buffer = bytearray(1 << 20)
        with connection:
            while count := connection.recv_into(buffer):
                received.update(memoryview(buffer)[:count])

    with closing(listener), closing(sender):
        taker = _in_thread(take)
        sender.settimeout(WAIT_S)
        sender.connect((address, listener.getsockname()[1]))
        begin = time.perf_counter()
        sent = hashlib.sha256()
        block = os.urandom(1 << 20)
        for start in range(0, byte_count, len(block)):
            # each block begins elsewhere in the noise, so that a shifted stream shows
            turn = start // len(block) % 997
            piece = (block[turn:] + block[:turn])[: byte_count - start]
            sent.update(piece)
            sender.sendall(piece)
        sender.shutdown(socket.SHUT_WR)
        taker()
    seconds = time.perf_counter() - begin
    return Transfer(sent.hexdigest(), received.hexdigest(), byte_count, seconds)


def udp(
    source: Namespace, target: Namespace, address: str, count: int, payload_bytes: int = 1200
) -> Transfer:
    """Numbered datagrams in bursts that any socket buffer holds; digests in order of number."""
    with target.inside():
        receiver = socket.socket(family_of(address), socket.SOCK_DGRAM)
        receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        receiver.bind(anywhere(address))
    with source.inside():
        sender = socket.socket(family_of(address), socket.SOCK_DGRAM)
    got: dict[int, bytes] = {}

    def take() -> None:
        receiver.settimeout(2)
        while len(got) < count:
            try:
                datagram = receiver.recv(65536)
            except TimeoutError:
                return
            got[struct.unpack_from("!Q", datagram)[0]] = datagram

    with closing(receiver), closing(sender):
        sender.connect((address, receiver.getsockname()[1]))
        taker = _in_thread(take)
        sent, noise = hashlib.sha256(), os.urandom(payload_bytes)
        begin = time.perf_counter()
        for number in range(count):
            datagram = struct.pack("!Q", number) + noise[8:]
            sent.update(datagram)
            sender.send(datagram)
            until = time.monotonic() + 0.2
            while number - len(got) > UDP_BURST * 4 and time.monotonic() < until:
                time.sleep(0.0002)
        taker()
    seconds = time.perf_counter() - begin
    received = hashlib.sha256(b"".join(got[number] for number in sorted(got)))
    return Transfer(sent.hexdigest(), received.hexdigest(), count * payload_bytes, seconds)


def http_download(client: Namespace, server: Namespace, address: str, byte_count: int) -> Transfer:
    """A GET as a browser makes it."""
    with serve_http(server, byte_count) as (port, sent):
        begin = time.perf_counter()
        received, seen_from = fetch_http(client, address, port)
        seconds = time.perf_counter() - begin
    return Transfer(sent, received, byte_count, seconds, seen_from)


@contextmanager
def serve_http(server: Namespace, byte_count: int) -> Iterator[tuple[int, str]]:
    """A web server with one page of noise: its port, and the SHA-256 of the page."""
    content = os.urandom(byte_count)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.send_header("X-Seen-From", self.client_address[0])
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    with server.inside():
        daemon = http.server.ThreadingHTTPServer(("0.0.0.0", 0), Handler)
    stop = _in_thread(daemon.serve_forever)
    try:
        yield daemon.server_port, hashlib.sha256(content).hexdigest()
    finally:
        daemon.shutdown()
        stop()
        daemon.server_close()


def fetch_http(client: Namespace, address: str, port: int) -> tuple[str, str]:
    """SHA-256 of what arrived, and whom the server saw."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with (
        client.inside(),
        opener.open(f"http://{address}:{port}/", timeout=WAIT_S) as answer,
    ):
        return hashlib.sha256(answer.read()).hexdigest(), answer.headers["X-Seen-From"]


def _in_thread(work: Callable[[], None]) -> Callable[[], None]:
    """Begin now; the result waits for the end and raises what went wrong."""
    failures: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:  # handed to the thread that waits
            failures.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()

    def finish() -> None:
        thread.join()
        if failures:
            raise failures[0]

    return finish
