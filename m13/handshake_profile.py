"""What each handshake profile signs and derives: the table of docs/PROTOCOL.md, section 4."""

import hashlib
from dataclasses import dataclass

from m13 import pqc


@dataclass(frozen=True)
class Profile:
    """One row of the table in section 4."""

    name: str
    version: int
    context: bytes
    transcripts: type["Transcripts"]
    two_keys: bool


class Transcripts:
    """The hashes that are signed in one handshake, taken in its order. Messages are hashed once,
    however many transcripts they are in: beside signing this is what a handshake costs most."""

    def __init__(self, client_hello: bytes) -> None:
        self._client_hello = client_hello
        self._hash = hashlib.sha512(client_hello)

    def of_hub(self, signed_part: bytes) -> bytes:
        """From ServerHello[0..4161]; SHA-512(ClientHello, it)."""
        self._hash.update(signed_part)
        return self._hash.digest()

    def of_node(self, signature: bytes) -> bytes:
        """From the rest of ServerHello, after `of_hub`; SHA-512(ClientHello, ServerHello)."""
        self._hash.update(signature)
        return self._hash.digest()


class SeedTranscripts(Transcripts):
    """SHA-512(nonce, ciphertext, hub key), twice: neither the version nor the node's keys are
    covered."""

    def of_hub(self, signed_part: bytes) -> bytes:
        self._both = _sha512(self._client_hello[2:34], signed_part[1:])
        return self._both

    def of_node(self, signature: bytes) -> bytes:  # noqa: ARG002
        return self._both


class CiphertextTranscripts(Transcripts):
    """The hub's is SHA-512(ClientHello, ciphertext)."""

    def of_hub(self, signed_part: bytes) -> bytes:
        super().of_hub(signed_part)
        return _sha512(self._client_hello, signed_part[1:1569])


def _sha512(*parts: bytes) -> bytes:
    return hashlib.sha512(b"".join(parts)).digest()


PROFILES = {
    profile.name: profile
    for profile in (
        Profile("v1", 1, b"M13-HS-v1", SeedTranscripts, False),
        Profile("v1-full", 1, b"M13-HS-v1", CiphertextTranscripts, False),
        Profile("v2", 2, b"M13-HS-v2", Transcripts, True),
    )
}


def derive(
    profile: Profile, nonce: bytes, node_transcript: bytes, shared: bytes
) -> tuple[bytearray, bytearray]:
    """The keys hub to node and node to hub."""
    info = b"M13-PQC-SESSION-KEY-v%d" % profile.version
    if not profile.two_keys:
        key = pqc.hkdf(nonce, shared, info)
        return key, bytearray(key)
    # the salt of v2 is the hash of both hellos, as what its node signs
    hub_to_node = pqc.hkdf(node_transcript, shared, info + b" hub->node")
    node_to_hub = pqc.hkdf(node_transcript, shared, info + b" node->hub")
    return hub_to_node, node_to_hub
