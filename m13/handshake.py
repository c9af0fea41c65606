"""The handshake as a sans-IO state machine (docs/PROTOCOL.md, section 4): messages in, answers out.

State is kept per (peer, generation), bounded in number and in time. A message that does not verify
changes nothing: the genuine one may still follow it.
"""

import hashlib
import hmac
import ipaddress
import secrets
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from m13 import pqc
from m13.handshake_profile import PROFILES as PROFILES
from m13.handshake_profile import Profile, derive
from m13.identity import parse_fingerprint
from native import channel

CLIENT_HELLO, SERVER_HELLO, FINISHED = 1, 2, 3  # message types
NONCE_BYTES = 32
CLIENT_HELLO_BYTES = 2 + NONCE_BYTES + pqc.ENCAPSULATION_KEY_BYTES + pqc.PUBLIC_KEY_BYTES
SERVER_HELLO_BYTES = 1 + pqc.CIPHERTEXT_BYTES + pqc.PUBLIC_KEY_BYTES + pqc.SIGNATURE_BYTES
FINISHED_BYTES = 1 + pqc.SIGNATURE_BYTES
SIGNED_PART_BYTES = SERVER_HELLO_BYTES - pqc.SIGNATURE_BYTES

STATES_MAX = 256
# A replayed or spoofed ClientHello must not displace the one whose Finished is on its way.
CANDIDATES_MAX = 4
STATE_SECONDS = 60.0


@dataclass(frozen=True)
class Hello:
    """A ClientHello or ServerHello to send."""

    message: bytes


@dataclass
class Established:
    """Verified. The keys are the receiver's to wipe."""

    version: int
    send_key: bytearray = field(repr=False)
    receive_key: bytearray = field(repr=False)
    fingerprint: bytes
    finished: bytes = b""  # node: to send
    name: str = ""  # hub: from the roster, as are these
    address: bytes = bytes(4)
    prefix_bits: int = 0
    address6: bytes = bytes(16)
    prefixes: tuple[tuple[bytes, int], ...] = ()


@dataclass(frozen=True)
class Refused:
    reason: int
    fingerprint: bytes = bytes(32)


Answer = Hello | Established | Refused


@dataclass(frozen=True)
class Member:
    """A node on the hub's roster."""

    name: str
    fingerprint: bytes
    address: bytes
    prefix_bits: int
    address6: bytes = bytes(16)  # zero: the one that follows from `address`
    prefixes: tuple[tuple[bytes, int], ...] = ()  # networks behind it: address, bits

    @classmethod
    def parse(
        cls,
        name: str,
        key: str,
        address: str,
        prefix: int,
        address6: str = "::",
        prefixes: Iterable[str] = (),
    ) -> "Member":
        networks = [ipaddress.ip_network(text) for text in prefixes]
        return cls(
            name,
            parse_fingerprint(key),
            ipaddress.IPv4Address(address).packed,
            prefix,
            ipaddress.IPv6Address(address6).packed,
            tuple((network.network_address.packed, network.prefixlen) for network in networks),
        )


@dataclass
class Pending:
    """One handshake. Both roles drop what they no longer need as it goes on."""

    client_hello: bytes
    expires: float
    profile: Profile
    finished: bytes = b""  # what verified, or what was answered: set means established
    server_hello: bytes = b""
    node_transcript: bytes = b""  # what Finished signs
    keys: tuple[bytearray, bytearray] | None = field(default=None, repr=False)  # hub, to Finished
    member: Member | None = None
    decapsulation_key: Any = field(default=None, repr=False)  # node, until ServerHello

    def forget(self) -> None:
        if self.keys:
            pqc.wipe(*self.keys)
        self.keys = self.decapsulation_key = None


Key = TypeVar("Key", bound=tuple)


class States(dict[Key, Pending]):
    """Handshakes under way, oldest first. A key begins with peer and generation."""

    def __init__(self) -> None:
        super().__init__()
        self._by_attempt: dict[tuple, dict[Key, None]] = {}

    def add(self, key: Key, pending: Pending) -> None:
        self.discard(key)
        while len(self) >= STATES_MAX:
            self.discard(next(iter(self)))
        self[key] = pending
        self._by_attempt.setdefault(key[:2], {})[key] = None

    def discard(self, key: Key) -> None:
        pending = self.pop(key, None)
        if not pending:
            return
        pending.forget()
        siblings = self._by_attempt[key[:2]]
        del siblings[key]
        if not siblings:
            del self._by_attempt[key[:2]]

    def of_attempt(self, peer: int, generation: int) -> list[Key]:
        """The keys that begin so, oldest first."""
        return list(self._by_attempt.get((peer, generation), ()))

    def expire(self, now: float) -> float | None:
        """Drops what is too old; seconds until the next one is, None when there is none."""
        while self:
            key, oldest = next(iter(self.items()))
            if oldest.expires > now:
                return oldest.expires - now
            self.discard(key)
        return None


class HubHandshake:
    """Answers ClientHello and Finished for the nodes on the roster."""

    def __init__(
        self,
        provider: pqc.Provider,
        seed: bytes | bytearray,
        profiles: Iterable[Profile],
        roster: Iterable[Member],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.provider = provider
        self._signing_key, self._public_key = provider.sign_load(seed)
        self._profiles = {profile.version: profile for profile in profiles}
        self._roster = {member.fingerprint: member for member in roster}
        self._clock = clock
        # By peer, generation and digest of the ClientHello.
        self._states: States[tuple[int, int, bytes]] = States()

    def feed(self, kind: int, peer: int, generation: int, payload: bytes) -> Answer | None:
        """None: nothing to say (a late duplicate, FORGET)."""
        self.expire()
        if kind == channel.ASK_CLIENT_HELLO:
            return self._client_hello(peer, generation, payload)
        if kind == channel.ASK_FINISHED:
            return self._finished(peer, generation, payload)
        if kind == channel.ASK_FORGET:
            for key in self._states.of_attempt(peer, generation):
                self._states.discard(key)
            return None
        return Refused(channel.MALFORMED)

    def admit(self, member: Member) -> None:
        self._roster[member.fingerprint] = member

    def expel(self, fingerprint: bytes) -> None:
        """Forgets a node and the handshakes it has under way: its Finished comes too late."""
        self._roster.pop(fingerprint, None)
        for key, pending in list(self._states.items()):
            if pending.member and pending.member.fingerprint == fingerprint:
                self._states.discard(key)

    def expire(self) -> float | None:
        return self._states.expire(self._clock())

    def _client_hello(self, peer: int, generation: int, message: bytes) -> Answer | None:
        if len(message) != CLIENT_HELLO_BYTES or message[0] != CLIENT_HELLO:
            return Refused(channel.MALFORMED)
        profile = self._profiles.get(message[1])
        if not profile:
            return Refused(channel.VERSION_REFUSED)
        # Admission comes before any lattice work: a stranger costs one hash.
        fingerprint = hashlib.sha256(message[-pqc.PUBLIC_KEY_BYTES :]).digest()
        member = self._roster.get(fingerprint)
        if not member:
            return Refused(channel.NOT_ADMITTED, fingerprint)
        key = (peer, generation, hashlib.sha512(message).digest())
        known = self._states.get(key)
        if known:
            return None if known.finished else Hello(known.server_hello)
        pending = Pending(message, self._clock() + STATE_SECONDS, profile, member=member)
        try:
            self._answer(pending)
        except ValueError:  # the encapsulation key fails FIPS 203's input check
            return Refused(channel.MALFORMED, fingerprint)
        candidates = self._states.of_attempt(peer, generation)
        if len(candidates) >= CANDIDATES_MAX:
            self._states.discard(candidates[0])
        self._states.add(key, pending)
        return Hello(pending.server_hello)

    def _answer(self, pending: Pending) -> None:
        """Encapsulates, signs and derives; the shared secret lives in this call only."""
        profile, client_hello = pending.profile, pending.client_hello
        transcripts = profile.transcripts(client_hello)
        shared, ciphertext = self.provider.kem_encapsulate(client_hello[34:1602])
        signed_part = bytes([SERVER_HELLO]) + ciphertext + self._public_key
        transcript = transcripts.of_hub(signed_part)
        signature = self.provider.sign(self._signing_key, transcript, profile.context)
        pending.server_hello = signed_part + signature
        pending.node_transcript = transcripts.of_node(signature)
        pending.keys = derive(profile, client_hello[2:34], pending.node_transcript, shared)
        pqc.wipe(shared)

    def _finished(self, peer: int, generation: int, message: bytes) -> Answer | None:
        if len(message) != FINISHED_BYTES or message[0] != FINISHED:
            return Refused(channel.MALFORMED)
        states = [self._states[key] for key in self._states.of_attempt(peer, generation)]
        if not states:
            return Refused(channel.NO_STATE)
        if any(pending.finished == message for pending in states):
            return None  # a late duplicate
        for pending in reversed(states):
            if not pending.finished and self._verifies(pending, message):
                return self._establish(pending, message)
        return Refused(channel.BAD_SIGNATURE)

    def _verifies(self, pending: Pending, finished: bytes) -> bool:
        public_key = pending.client_hello[-pqc.PUBLIC_KEY_BYTES :]
        signed = pending.node_transcript
        return self.provider.verify(public_key, signed, pending.profile.context, finished[1:])

    def _establish(self, pending: Pending, message: bytes) -> Established:
        member, keys = pending.member, pending.keys
        assert member is not None
        assert keys is not None
        pending.keys = None  # handed over
        pending.finished = message
        hub_to_node, node_to_hub = keys
        return Established(
            pending.profile.version,
            hub_to_node,
            node_to_hub,
            member.fingerprint,
            name=member.name,
            address=member.address,
            prefix_bits=member.prefix_bits,
            address6=member.address6,
            prefixes=member.prefixes,
        )


class NodeHandshake:
    """Starts handshakes in one profile and finishes them with a pinned hub."""

    def __init__(
        self,
        provider: pqc.Provider,
        seed: bytes | bytearray,
        profile: Profile,
        pins: Iterable[bytes],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.provider = provider
        self._signing_key, self._public_key = provider.sign_load(seed)
        self._profile = profile
        self.pin(pins)
        self._clock = clock
        self._states: States[tuple[int, int]] = States()

    def pin(self, pins: Iterable[bytes]) -> None:
        """The only hubs that are accepted from now on, by fingerprint."""
        self._pins = tuple(pins)

    def feed(self, kind: int, peer: int, generation: int, payload: bytes) -> Answer | None:
        """None: nothing to say (a late duplicate, FORGET)."""
        self.expire()
        if kind == channel.ASK_START:
            return self._start((peer, generation), payload)
        if kind == channel.ASK_SERVER_HELLO:
            return self._server_hello((peer, generation), payload)
        if kind == channel.ASK_FORGET:
            self._states.discard((peer, generation))
            return None
        return Refused(channel.MALFORMED)

    def expire(self) -> float | None:
        return self._states.expire(self._clock())

    def _start(self, key: tuple[int, int], payload: bytes) -> Answer:
        if len(payload) != 1:
            return Refused(channel.MALFORMED)
        if payload[0] != self._profile.version:
            return Refused(channel.VERSION_REFUSED)
        known = self._states.get(key)
        if known and not known.finished:
            return Hello(known.client_hello)
        decapsulation_key, encapsulation_key = self.provider.kem_generate()
        client_hello = (
            bytes([CLIENT_HELLO, self._profile.version])
            + secrets.token_bytes(NONCE_BYTES)
            + encapsulation_key
            + self._public_key
        )
        pending = Pending(client_hello, self._clock() + STATE_SECONDS, self._profile)
        pending.decapsulation_key = decapsulation_key
        self._states.add(key, pending)
        return Hello(client_hello)

    def _server_hello(self, key: tuple[int, int], message: bytes) -> Answer | None:
        if len(message) != SERVER_HELLO_BYTES or message[0] != SERVER_HELLO:
            return Refused(channel.MALFORMED)
        pending = self._states.get(key)
        if not pending:
            return Refused(channel.NO_STATE)
        if pending.finished:
            return None  # a late duplicate
        public_key = message[1 + pqc.CIPHERTEXT_BYTES : SIGNED_PART_BYTES]
        fingerprint = hashlib.sha256(public_key).digest()
        if not any(hmac.compare_digest(fingerprint, pin) for pin in self._pins):
            reason = channel.HUB_KEY_MISMATCH if self._pins else channel.HUB_KEY_UNKNOWN
            return Refused(reason, fingerprint)
        transcripts = self._profile.transcripts(pending.client_hello)
        transcript = transcripts.of_hub(message[:SIGNED_PART_BYTES])
        signature = message[SIGNED_PART_BYTES:]
        if not self.provider.verify(public_key, transcript, self._profile.context, signature):
            return Refused(channel.BAD_SIGNATURE, fingerprint)
        pending.node_transcript = transcripts.of_node(signature)
        return self._finish(pending, message, fingerprint)

    def _finish(self, pending: Pending, message: bytes, fingerprint: bytes) -> Established:
        """Decapsulates, derives and signs; the shared secret lives in this call only."""
        shared = self.provider.kem_decapsulate(
            pending.decapsulation_key, message[1 : 1 + pqc.CIPHERTEXT_BYTES]
        )
        nonce, transcript = pending.client_hello[2:34], pending.node_transcript
        hub_to_node, node_to_hub = derive(self._profile, nonce, transcript, shared)
        pqc.wipe(shared)
        signature = self.provider.sign(self._signing_key, transcript, self._profile.context)
        pending.forget()
        pending.finished = bytes([FINISHED]) + signature
        version = self._profile.version
        return Established(version, node_to_hub, hub_to_node, fingerprint, pending.finished)
