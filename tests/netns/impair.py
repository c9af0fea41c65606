"""A relay that loses, delays, reorders, doubles and damages datagrams between nodes and a hub.

    node  up0 203.0.113.2   ─┐ 203.0.113.1
                             router (the relay, UDP 443) 192.0.2.254 ─── 192.0.2.1 wan0 hub
    node2 up0 203.0.113.130 ─┘ 203.0.113.129

It runs in the router of Bed(nodes=2), as a NAT would: the hub sees 192.0.2.254 and a port for each
node. Chance is seeded, one generator a direction, and what becomes of the n-th datagram of a
direction depends on nothing but seed, n and the impairment set at that moment. In a test:

    with Relay(bed.router) as relay:
        node = start_node(bed, keys, "--hub", relay.address("node"))
        relay.impair("both", loss=0.3, delay_ms=20)     # any Impairment field; the rest is zero
        relay.impair("up", loss=1)                      # up: node to hub, down: hub to node
        relay.impair("both")                            # a clean way again
        relay.rebind()                                  # new ports towards the hub, as a NAT may
        lost = relay.counts()["up"]["lost"]             # what was really done: see COUNTS

As a program: `python -m tests.netns.impair LISTEN PORT HUB PORT SEED`, addresses IPv4 or IPv6; one
JSON object a line on standard input ({"impair": {"up": {...}}}, {"rebind": true} or {}), each
answered by a line with the counts so far; the end of its input ends it.
"""

import contextlib
import dataclasses
import functools
import heapq
import itertools
import json
import random
import select
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from bench.bed import HUB_ADDRESS
from bench.namespace import Namespace

ROOT = Path(__file__).resolve().parents[2]
PORT = 443
LISTENING = {"node": "203.0.113.1", "node2": "203.0.113.129"}
DIRECTIONS = ("up", "down")
COUNTS = (
    "received",  # from this direction's sender
    "forwarded",  # copies sent on, those still delayed not yet
    "lost",
    "oversize",  # lost as larger than bytes_max
    "duplicated",
    "reordered",
    "damaged",
)
BATCH = 64
BUFFER_BYTES = 8 << 20
SO_SNDBUFFORCE, SO_RCVBUFFORCE = 32, 33  # asm-generic/socket.h


@dataclasses.dataclass(frozen=True)
class Impairment:
    """Of one direction. Chances are 0 to 1, times ms."""

    loss: float = 0.0
    burst: float = 1.0  # how many are lost in a row on average; 1: each on its own
    delay_ms: float = 0.0
    jitter_ms: float = 0.0  # up to so much more, which alone changes no order
    reorder: float = 0.0  # chance to be held back so that later ones pass
    reorder_ms: float = 5.0  # held back for so long
    duplicate: float = 0.0
    corrupt: float = 0.0  # chance of one flipped bit
    bytes_max: int = 65535  # larger datagrams vanish: a way with a small MTU that does not say so


class Way:
    """One direction: what is to be done with its next datagram."""

    def __init__(self, seed: str) -> None:
        self._chance = random.Random(seed)
        self.impairment = Impairment()
        self.counts = dict.fromkeys(COUNTS, 0)
        self._losing = False
        self._last_due = 0.0

    def _loses(self, toss: float) -> bool:
        """Two states (Gilbert): a run of losses ends with chance 1/burst, and begins so often that
        the share of losses is `loss`."""
        loss, burst = self.impairment.loss, max(self.impairment.burst, 1.0)
        if loss >= 1.0:
            return True
        if burst == 1.0:
            return toss < loss
        begins = loss / (burst * (1 - loss))
        self._losing = toss >= 1 / burst if self._losing else toss < begins
        return self._losing

    def pass_on(self, data: bytes, now: float) -> list[tuple[float, bytes]]:
        """Copies to send and when. Every datagram takes the same number of tosses."""
        how, counts = self.impairment, self.counts
        lose, hold, double, damage, jitter, place = (self._chance.random() for _ in range(6))
        counts["received"] += 1
        if len(data) > how.bytes_max:
            counts["oversize"] += 1
            return []
        if self._loses(lose):
            counts["lost"] += 1
            return []
        if damage < how.corrupt and data:
            counts["damaged"] += 1
            bit = int(place * len(data) * 8)
            data = data[: bit // 8] + bytes([data[bit // 8] ^ 1 << bit % 8]) + data[bit // 8 + 1 :]
        due = max(now + (how.delay_ms + jitter * how.jitter_ms) / 1000, self._last_due)
        if hold < how.reorder:
            counts["reordered"] += 1
            due += how.reorder_ms / 1000
        else:
            self._last_due = due
        copies = 1
        if double < how.duplicate:
            counts["duplicated"] += 1
            copies = 2
        return [(due, data)] * copies


def _open(address: tuple[str, int]) -> socket.socket:
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_DGRAM)
    sock.setblocking(False)
    for force in (SO_RCVBUFFORCE, SO_SNDBUFFORCE):
        sock.setsockopt(socket.SOL_SOCKET, force, BUFFER_BYTES)
    return sock


class Forwarder:
    """The program's loop."""

    def __init__(self, listen: tuple[str, int], hub: tuple[str, int], seed: str) -> None:
        self._hub = hub
        self._listener = _open(listen)
        self._listener.bind(listen)
        self._towards_hub: dict[Any, socket.socket] = {}  # by the node's address
        self._node_of: dict[socket.socket, Any] = {}
        self._ways = {word: Way(f"{seed} {word}") for word in DIRECTIONS}
        self._waiting: list[tuple[float, int, Callable[[bytes], Any], str, bytes]] = []
        self._numbers = itertools.count()
        self._commands = open(sys.stdin.fileno(), "rb", buffering=0)  # noqa: SIM115

    def run(self) -> None:
        while True:
            wait_s = max(0.0, self._waiting[0][0] - time.monotonic()) if self._waiting else None
            watched: list[Any] = [self._commands, self._listener, *self._node_of]
            readable, _, _ = select.select(watched, [], [], wait_s)
            if self._commands in readable:
                readable.remove(self._commands)
                if not self._obey():
                    return
            for sock in readable:
                self._take(sock)
            self._give()

    def _take(self, source: socket.socket) -> None:
        for _ in range(BATCH):
            try:
                data, sender = source.recvfrom(65536)
            except OSError:  # nothing left, or an ICMP error of a hub that is down
                return
            if source is self._listener:
                self._queue("up", data, self._hub_socket(sender).send)
            else:
                node = self._node_of[source]
                self._queue("down", data, functools.partial(self._answer, node))

    def _answer(self, node: Any, data: bytes) -> None:
        self._listener.sendto(data, node)

    def _queue(self, word: str, data: bytes, send: Callable[[bytes], Any]) -> None:
        for due, copy in self._ways[word].pass_on(data, time.monotonic()):
            heapq.heappush(self._waiting, (due, next(self._numbers), send, word, copy))

    def _give(self) -> None:
        while self._waiting and self._waiting[0][0] <= time.monotonic():
            _, _, send, word, data = heapq.heappop(self._waiting)
            with contextlib.suppress(OSError):
                send(data)
                self._ways[word].counts["forwarded"] += 1

    def _hub_socket(self, node: Any) -> socket.socket:
        if node not in self._towards_hub:
            sock = _open(self._hub)
            sock.connect(self._hub)
            self._towards_hub[node] = sock
            self._node_of[sock] = node
        return self._towards_hub[node]

    def _obey(self) -> bool:
        line = self._commands.readline()
        if not line:
            return False
        command = json.loads(line)
        for word, fields in command.get("impair", {}).items():
            self._ways[word].impairment = Impairment(**fields)
        if command.get("rebind"):
            for sock in self._node_of:
                sock.close()
            self._node_of.clear()
            self._towards_hub.clear()
        print(json.dumps({word: way.counts for word, way in self._ways.items()}), flush=True)
        return True


class Relay:
    """The program in a namespace, for a test; with `with`."""

    def __init__(
        self,
        namespace: Namespace,
        *,
        listen: tuple[str, int] = ("0.0.0.0", PORT),
        hub: tuple[str, int] = (HUB_ADDRESS, PORT),
        seed: int | str = 13,
    ) -> None:
        words = [*map(str, listen), *map(str, hub), str(seed)]
        self._process = namespace.spawn(
            [sys.executable, "-m", "tests.netns.impair", *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
        )
        self.counts()  # it listens

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @staticmethod
    def address(node: str) -> str:
        """For this node's --hub."""
        return f"{LISTENING[node]}:{PORT}"

    def impair(self, direction: str, **fields: float) -> dict[str, dict[str, int]]:
        """From now on, for "up", "down" or "both"; the counts until now."""
        words = DIRECTIONS if direction == "both" else (direction,)
        how = dataclasses.asdict(Impairment(**fields))  # type: ignore[arg-type]
        return self._ask({"impair": dict.fromkeys(words, how)})

    def rebind(self) -> None:
        """What the hub still answers to the old ports is lost."""
        self._ask({"rebind": True})

    def counts(self) -> dict[str, dict[str, int]]:
        return self._ask({})

    def close(self) -> None:
        if self._process.stdin and not self._process.stdin.closed:
            self._process.communicate()

    def _ask(self, command: dict[str, Any]) -> dict[str, dict[str, int]]:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(command).encode() + b"\n")
        self._process.stdin.flush()
        answer: dict[str, dict[str, int]] = json.loads(self._process.stdout.readline())
        return answer


def main() -> None:
    listen, listen_port, hub, hub_port, seed = sys.argv[1:]
    Forwarder((listen, int(listen_port)), (hub, int(hub_port)), seed).run()


if __name__ == "__main__":
    main()
