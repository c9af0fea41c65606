"""Handshakes a second: the hub's worker process beside the bare provider, and by real packets."""

import cProfile
import os
import pstats
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

from bench.bed import Bed
from bench.scale_peers import Crowd
from m13 import handshake, pqc
from m13.handshake_process import HandshakeWorker, hub_configuration
from m13.handshake_worker import encode
from m13.identity import Identity, fingerprint, parse_fingerprint
from native import channel

PROFILE = handshake.PROFILES["v2"]
BATCH = channel.SLOTS  # handshakes that wait in the channel: the worker is never without one
PAUSE_S = 0.0002
PROFILE_ROWS = 12


@dataclass
class Rates:
    """Microseconds a handshake, the hub's part of it."""

    worker_clock_us: float  # through the channel, which is never empty
    worker_processor_us: float
    operations_us: dict[str, float]  # the same of the provider, and nothing else; processor time
    profile: list[tuple[str, float]]  # function, microseconds a handshake in itself

    @property
    def provider_us(self) -> float:
        return sum(self.operations_us.values())

    @property
    def ratio(self) -> float:
        """Handshakes a second of processor time, the worker's to the provider's."""
        return self.provider_us / self.worker_processor_us


class Nodes:
    """The other side of the worker: a batch of nodes and the roster that admits them."""

    def __init__(self, provider: pqc.Provider) -> None:
        seed = provider.sign_generate()
        key = provider.sign_load(seed)[1]
        self.hub = Identity(seed, key, fingerprint(key))
        pin = parse_fingerprint(self.hub.fingerprint)
        self.roster: list[dict[str, object]] = []
        self._machines = []
        self._round = 0
        for number in range(BATCH):
            seed = provider.sign_generate()
            key_text = fingerprint(provider.sign_load(seed)[1])
            address = f"10.13.0.{number + 2}"
            entry = {"name": f"n{number}", "key": key_text, "address": address, "prefix": 24}
            self.roster.append(entry)
            self._machines.append(handshake.NodeHandshake(provider, seed, PROFILE, [pin]))

    def hellos(self) -> list[bytes]:
        """A ClientHello of each, for a new attempt."""
        self._round += 1
        start = channel.ASK_START, 0, self._round, bytes([PROFILE.version])
        answers = [machine.feed(*start) for machine in self._machines]
        return [answer.message for answer in answers if isinstance(answer, handshake.Hello)]

    def finished(self, server_hellos: list[bytes]) -> list[bytes]:
        """Each one's Finished."""
        messages = []
        for machine, hello in zip(self._machines, server_hellos, strict=True):
            answer = machine.feed(channel.ASK_SERVER_HELLO, 0, self._round, hello)
            assert isinstance(answer, handshake.Established)
            messages.append(answer.finished)
        return messages


def measure(rounds: int) -> Rates:
    """Worker and provider take turns. Means, not medians: signing takes as many attempts as chance
    wants, and both do the same number of them."""
    provider = pqc.choose()
    nodes = Nodes(provider)
    bare = Bare(provider)
    clock, processor = [], []
    link = channel.Channel.create()
    configuration = hub_configuration(nodes.hub, nodes.roster, (2,), "v1", provider.name)
    with link, HandshakeWorker(link, configuration) as worker:
        assert worker.pid
        for turn in range(rounds):
            hello = _Step(link, worker.pid, channel.ASK_CLIENT_HELLO, turn, nodes.hellos())
            finished = nodes.finished(hello.answers)
            finish = _Step(link, worker.pid, channel.ASK_FINISHED, turn, finished)
            clock.append((hello.clock_s + finish.clock_s) / BATCH * 1e6)
            processor.append((hello.processor_ns + finish.processor_ns) / BATCH / 1e3)
            bare.run()
    means = statistics.fmean(clock), statistics.fmean(processor)
    return Rates(*means, bare.means(), _profile(nodes, provider))


def by_packets(bed: Bed, crowd: Crowd) -> float:
    """Handshakes a second while all peers of the crowd connect anew at once. Their own half of
    the work is done on the same machine, in one process."""
    for peer in crowd.peers:
        peer.forget()
    return len(crowd.peers) / crowd.connect(bed)


class _Step:
    """A batch of requests put into the channel at once, until the last is answered."""

    def __init__(
        self, link: channel.Channel, pid: int, kind: int, turn: int, messages: list[bytes]
    ) -> None:
        found: dict[int, bytes] = {}
        self.processor_ns = -_processor_ns(pid)
        begin = time.perf_counter()
        for peer, message in enumerate(messages):
            if not link.send(channel.REQUESTS, kind, peer, turn, message):
                raise RuntimeError("the channel is full")
        while len(found) < len(messages):
            answer = link.receive(channel.ANSWERS)
            if not answer:
                time.sleep(PAUSE_S)
            elif answer.kind == channel.SAY_REFUSED:
                raise RuntimeError(f"refused: {channel.unpack_refused(answer.payload).reason}")
            else:
                found[answer.peer] = answer.payload
        self.clock_s = time.perf_counter() - begin
        self.processor_ns += _processor_ns(pid)
        self.answers = [found[peer] for peer in range(len(messages))]


def _processor_ns(pid: int) -> int:
    with open(f"/proc/{pid}/schedstat", encoding="ascii") as file:
        return int(file.read().split()[0])


class Bare:
    """What one handshake asks of the provider, and its processor time so far."""

    def __init__(self, provider: pqc.Provider) -> None:
        context, transcript = PROFILE.context, os.urandom(64)
        signing_key, public_key = provider.sign_load(provider.sign_generate())
        signature = provider.sign(signing_key, transcript, context)
        encapsulation_key = provider.kem_generate()[1]

        def derive() -> None:
            pqc.hkdf(transcript, transcript[:32], b"M13 bench hub->node")
            pqc.hkdf(transcript, transcript[:32], b"M13 bench node->hub")

        self._operations: dict[str, Callable[[], object]] = {
            "encapsulate": lambda: provider.kem_encapsulate(encapsulation_key),
            "sign": lambda: provider.sign(signing_key, os.urandom(64), context),
            "derive two keys": derive,
            "verify": lambda: provider.verify(public_key, transcript, context, signature),
        }
        self._spent_s = dict.fromkeys(self._operations, 0.0)
        self._rounds = 0

    def run(self) -> None:
        self._rounds += 1
        for name, operation in self._operations.items():
            begin = time.thread_time()
            for _ in range(BATCH):
                operation()
            self._spent_s[name] += time.thread_time() - begin

    def means(self) -> dict[str, float]:
        return {name: s / BATCH / self._rounds * 1e6 for name, s in self._spent_s.items()}


def _profile(nodes: Nodes, provider: pqc.Provider) -> list[tuple[str, float]]:
    """The worker's own functions, run here under cProfile: dearest first."""
    roster = [handshake.Member.parse(**entry) for entry in nodes.roster]  # type: ignore[arg-type]
    machine = handshake.HubHandshake(provider, nodes.hub.seed, [PROFILE], roster)
    profile = cProfile.Profile()

    def feed(kind: int, messages: list[bytes]) -> list[bytes]:
        with profile:
            answers = [
                encode(machine.feed(kind, peer, 0, message))
                for peer, message in enumerate(messages)
            ]
        return [bytes(payload) for _, payload in answers]

    feed(channel.ASK_FINISHED, nodes.finished(feed(channel.ASK_CLIENT_HELLO, nodes.hellos())))
    rows = pstats.Stats(profile).stats  # type: ignore[attr-defined]
    costs = sorted(((row[2], place[2]) for place, row in rows.items()), reverse=True)
    return [(name, seconds / BATCH * 1e6) for seconds, name in costs[:PROFILE_ROWS]]
