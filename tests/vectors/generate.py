"""python -m tests.vectors.generate: a handshake of each profile from fixed inputs, byte by byte.

Written from docs/PROTOCOL.md, sections 1 and 4, with hashlib, hmac and `cryptography`: nothing of
m13 or native is imported, so that both can be wrong only apart from each other.
"""

import hashlib
import hmac
import json
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA87PrivateKey
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM1024PrivateKey

HERE = Path(__file__).parent
GOLDEN = HERE / "handshake.json"
PROFILES = {"v1": 1, "v1-full": 1, "v2": 2}
HUB_SEED, NODE_SEED = bytes(range(32)), bytes(range(32, 64))
NONCE = bytes(range(64, 96))


def sha512(*parts: bytes) -> bytes:
    return hashlib.sha512(b"".join(parts)).digest()


def hkdf(salt: bytes, secret: bytes, info: bytes) -> bytes:
    """RFC 5869 with SHA-512; 32 bytes are half of its first block."""
    extracted = hmac.digest(salt, secret, "sha512")
    return hmac.digest(extracted, info + b"\x01", "sha512")[:32]


def hub_transcript(profile: str, hello: bytes, ciphertext: bytes, hub_key: bytes) -> bytes:
    return {
        "v1": sha512(NONCE, ciphertext, hub_key),
        "v1-full": sha512(hello, ciphertext),
        "v2": sha512(hello, b"\x02", ciphertext, hub_key),
    }[profile]


def keys(profile: str, both: bytes, secret: bytes) -> tuple[bytes, bytes]:
    """Hub to node, node to hub; `both` is SHA-512 of the two hellos."""
    if PROFILES[profile] == 1:
        key = hkdf(NONCE, secret, b"M13-PQC-SESSION-KEY-v1")
        return key, key
    info = b"M13-PQC-SESSION-KEY-v2 "
    return hkdf(both, secret, info + b"hub->node"), hkdf(both, secret, info + b"node->hub")


def signature(seed: bytes, transcript: bytes, profile: str, before: bytes) -> bytes:
    """The one there was, if it verifies: signing again would give other bytes."""
    key, context = MLDSA87PrivateKey.from_seed_bytes(seed), b"M13-HS-v%d" % PROFILES[profile]
    try:
        key.public_key().verify(before, transcript, context)
    except (InvalidSignature, ValueError):
        return key.sign(transcript, context)
    return before


def golden(profile: str, before: dict[str, str]) -> dict[str, str]:
    known = json.loads((HERE / "ml_kem_1024.json").read_text())["knownAnswers"][0]
    ciphertext, secret = bytes.fromhex(known["ct"]), bytes.fromhex(known["ss"])
    kem_seed = bytes.fromhex(known["d"] + known["z"])
    encapsulation_key = MLKEM1024PrivateKey.from_seed_bytes(kem_seed).public_key()
    hub_key, node_key = (
        MLDSA87PrivateKey.from_seed_bytes(seed).public_key().public_bytes_raw()
        for seed in (HUB_SEED, NODE_SEED)
    )
    hello = bytes([1, PROFILES[profile]]) + NONCE
    hello += encapsulation_key.public_bytes_raw() + node_key
    of_hub = hub_transcript(profile, hello, ciphertext, hub_key)
    hub_signature = signature(
        HUB_SEED, of_hub, profile, bytes.fromhex(before.get("server_hello", ""))[4161:]
    )
    reply = b"\x02" + ciphertext + hub_key + hub_signature
    both = sha512(hello, reply)
    of_node = of_hub if profile == "v1" else both
    node_signature = signature(
        NODE_SEED, of_node, profile, bytes.fromhex(before.get("finished", ""))[1:]
    )
    hub_to_node, node_to_hub = keys(profile, both, secret)
    made = {
        "client_hello": hello,
        "server_hello": reply,
        "finished": b"\x03" + node_signature,
        "hub_transcript": of_hub,
        "node_transcript": of_node,
        "hub_to_node_key": hub_to_node,
        "node_to_hub_key": node_to_hub,
    }
    return {name: value.hex() for name, value in made.items()}


def document(before: dict[str, dict[str, str]]) -> dict[str, dict[str, str]]:
    inputs = {
        "hub_seed": HUB_SEED.hex(),
        "node_seed": NODE_SEED.hex(),
        "nonce": NONCE.hex(),
    }
    made = {profile: golden(profile, before.get(profile, {})) for profile in PROFILES}
    return {"inputs": inputs} | made


def main() -> None:
    before = json.loads(GOLDEN.read_text()) if GOLDEN.exists() else {}
    GOLDEN.write_text(json.dumps(document(before), indent=1) + "\n")


if __name__ == "__main__":
    main()
