"""The handshake worker process: `python -m m13.handshake_worker MEMORY_FD REQUEST_FD ANSWER_FD`.

Reads from standard input its identity's seed, raw, and its configuration, a JSON line; gives up
every privilege, says "ready" and then serves the channel. Standard input stays open: further lines
change the roster or the pins, its end means that the parent is gone. m13/handshake_process.py is
the parent's half.
"""

import contextlib
import hashlib
import json
import logging
import os
import resource
import select
import sys
from typing import Any

from m13 import handshake, pqc, privileges
from m13.errors import ConfigurationError, HostError, M13Error
from m13.identity import parse_fingerprint
from native import channel

log = logging.getLogger("m13.handshake")

NOBODY = 65534
STANDARD_INPUT, STANDARD_OUTPUT = 0, 1
STANDARD_DESCRIPTORS = 3
ANSWER_RING_FULL_MS = 2

READ_BYTES = 1 << 16

Machine = handshake.HubHandshake | handshake.NodeHandshake


class Orders:
    """Standard input, line by line; the one reader of it, so that nothing waits in a buffer that
    poll() does not see."""

    def __init__(self) -> None:
        self._unread = b""
        self._poller = select.poll()
        self._poller.register(STANDARD_INPUT, select.POLLIN)

    def seed(self) -> bytearray:
        """What comes before all lines, for the caller to wipe; zeros when the parent went away."""
        seed = bytearray(pqc.SEED_BYTES)
        with memoryview(seed) as view:
            done = 0
            while done < len(seed) and (count := os.readv(STANDARD_INPUT, [view[done:]])):
                done += count
        return seed

    def configuration(self) -> bytes:
        """The first line; all there is when the parent went away."""
        parts = [self._unread]
        while b"\n" not in parts[-1] and (data := os.read(STANDARD_INPUT, READ_BYTES)):
            parts.append(data)
        line, _, self._unread = b"".join(parts).partition(b"\n")
        return line

    def follow(self, machine: Machine, timeout_ms: float = 0) -> bool:
        """Obeys every whole line that came; False when the parent is gone."""
        while self._poller.poll(timeout_ms):
            data = os.read(STANDARD_INPUT, READ_BYTES)
            if not data:
                return False
            self._unread += data
            timeout_ms = 0
        *lines, self._unread = self._unread.split(b"\n")
        for line in lines:
            obey(machine, json.loads(line))
        return True


def obey(machine: Machine, change: dict[str, Any]) -> None:
    """Expels before it admits: an address may pass from one node to another in one change."""
    if isinstance(machine, handshake.NodeHandshake):
        machine.pin(parse_fingerprint(pin) for pin in change["pins"])
        return
    for key in change["expel"]:
        machine.expel(parse_fingerprint(key))
    for entry in change["admit"]:
        machine.admit(handshake.Member.parse(**entry))


def drop_privileges() -> None:
    """Order matters: each step takes away what the ones before it needed."""
    privileges.guard_memory()
    privileges.become(NOBODY)
    # No new descriptor and no new process: all it needs is open and running.
    resource.setrlimit(resource.RLIMIT_NOFILE, (STANDARD_DESCRIPTORS, STANDARD_DESCRIPTORS))
    resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
    privileges.die_with_parent()
    privileges.compute_only()


def build(configuration: dict[str, Any], seed: bytearray) -> Machine:
    """The state machine of a configuration; see handshake_process. Wipes the seed."""
    try:
        provider = pqc.choose(configuration["provider"])
        version_1 = handshake.PROFILES[configuration["v1_profile"]]
        profiles = {1: version_1, 2: handshake.PROFILES["v2"]}
        if configuration["role"] == "hub":
            accepted = [profiles[version] for version in configuration["accept"]]
            roster = [handshake.Member.parse(**entry) for entry in configuration["roster"]]
            return handshake.HubHandshake(provider, seed, accepted, roster)
        pins = [parse_fingerprint(pin) for pin in configuration["pins"]]
        profile = profiles[configuration["version"]]
        return handshake.NodeHandshake(provider, seed, profile, pins)
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigurationError(
            f"the handshake worker's configuration is wrong ({type(error).__name__})"
        ) from None
    finally:
        pqc.wipe(seed)


def rehearse(provider: pqc.Provider) -> None:
    """Runs everything once: what loads lazily must load while the files can still be read."""
    seed = provider.sign_generate()
    fingerprint = hashlib.sha256(provider.sign_load(seed)[1]).digest()
    profile = handshake.PROFILES["v2"]
    member = handshake.Member("rehearsal", fingerprint, bytes(4), 0)
    hub = handshake.HubHandshake(provider, seed, [profile], [member])
    node = handshake.NodeHandshake(provider, seed, profile, [fingerprint])
    _, message = encode(node.feed(channel.ASK_START, 0, 0, bytes([profile.version])))
    _, message = encode(hub.feed(channel.ASK_CLIENT_HELLO, 0, 0, bytes(message)))
    _, message = encode(node.feed(channel.ASK_SERVER_HELLO, 0, 0, bytes(message)))
    finished = channel.unpack_established(message).finished
    kind, _ = encode(hub.feed(channel.ASK_FINISHED, 0, 0, finished))
    if kind != channel.SAY_ESTABLISHED:
        raise HostError(f"the PQC provider {provider.name} fails its own handshake")


def encode(answer: handshake.Answer | None) -> tuple[int, bytes | bytearray]:
    """Kind and payload of an answer. Session keys are then in the payload alone."""
    assert answer is not None
    if isinstance(answer, handshake.Hello):
        client = answer.message[0] == handshake.CLIENT_HELLO
        return (channel.SAY_CLIENT_HELLO if client else channel.SAY_SERVER_HELLO), answer.message
    if isinstance(answer, handshake.Refused):
        return channel.SAY_REFUSED, channel.pack_refused(answer.reason, answer.fingerprint)
    payload = channel.pack_established(
        answer.version,
        answer.prefix_bits,
        answer.address,
        answer.fingerprint,
        answer.send_key,
        answer.receive_key,
        answer.name,
        answer.finished,
        answer.address6,
        answer.prefixes,
    )
    pqc.wipe(answer.send_key, answer.receive_key)
    return channel.SAY_ESTABLISHED, payload


def respond(machine: Machine, message: channel.Message) -> handshake.Answer | None:
    """Nothing a peer sends may end the worker."""
    try:
        return machine.feed(*message)
    except Exception as error:
        log.error("handshake step %d failed: %s", message.kind, type(error).__name__)
        return handshake.Refused(channel.INTERNAL)


def answer_request(
    machine: Machine, link: channel.Channel, orders: Orders, message: channel.Message
) -> bool:
    """False when the parent went away while the answer ring was full."""
    answer = respond(machine, message)
    if answer is None:
        return True
    kind, payload = encode(answer)
    while not link.send(channel.ANSWERS, kind, message.peer, message.generation, payload):
        if not orders.follow(machine, ANSWER_RING_FULL_MS):
            return False
    if isinstance(payload, bytearray):
        pqc.wipe(payload)
    return True


def serve(machine: Machine, link: channel.Channel, orders: Orders) -> None:
    """Until the parent is gone. Takes requests first: a predecessor may have left some."""
    poller = select.poll()
    poller.register(link.request_fd, select.POLLIN)
    poller.register(STANDARD_INPUT, select.POLLIN)
    while True:
        message = link.receive(channel.REQUESTS)
        # when a request was taken, not before: an order may have come ahead of it meanwhile, and
        # who was expelled before it came must not be answered
        if not orders.follow(machine):
            return
        if message:
            if not answer_request(machine, link, orders, message):
                return
            continue
        seconds = machine.expire()
        timeout_ms = None if seconds is None else seconds * 1000 + 1
        for descriptor, _ in poller.poll(timeout_ms):
            if descriptor == STANDARD_INPUT:
                continue  # for follow()
            with contextlib.suppress(BlockingIOError):
                os.eventfd_read(descriptor)


def _say(line: str) -> None:
    os.write(STANDARD_OUTPUT, line.encode(errors="replace") + b"\n")


def main(arguments: list[str]) -> int:
    try:
        orders = Orders()
        seed = orders.seed()
        machine = build(json.loads(orders.configuration()), seed)
        rehearse(machine.provider)
        link = channel.Channel.attach(*map(int, arguments))
        drop_privileges()
    except (M13Error, OSError, ValueError, TypeError) as error:
        told = isinstance(error, (M13Error, OSError))
        _say(f"failed: {error if told else type(error).__name__}")
        return 1
    _say("ready")
    serve(machine, link, orders)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
