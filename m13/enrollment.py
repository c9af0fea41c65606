"""The signed request by which a key asks to be admitted: an identity document with the proof that
who wrote it holds the key."""

import base64
import re
import secrets
import time
from dataclasses import dataclass, field

from m13 import identity, pqc
from m13.canonical import canonical, parse_canonical

CONTEXT = b"M13-ENROLL-1"
FORMAT = "M13-IDENTITY-DOCUMENT-1"
ROLES = ("node", "hub")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,30}")
DOCUMENT_BYTES_MAX = 16384
FIELDS = {"created_at", "format", "name", "nonce", "public_key", "role"}


@dataclass(frozen=True)
class IdentityDocument:
    name: str
    role: str
    public_key: bytes = field(repr=False)
    fingerprint: str
    created_at: int  # seconds since 1970, by the signer's clock


def write(me: identity.Identity, provider: pqc.Provider, name: str, role: str) -> bytes:
    """A document that asks for `name`; ValueError for a name or role that no registry takes."""
    if not NAME.fullmatch(name) or role not in ROLES:
        raise ValueError("a name is 1 to 31 letters, digits, '.', '_' or '-'")
    document = {
        "created_at": int(time.time()),
        "format": FORMAT,
        "name": name,
        "nonce": secrets.token_hex(16),
        "public_key": _base64(me.public_key),
        "role": role,
    }
    signing_key, _ = provider.sign_load(me.seed)
    signature = provider.sign(signing_key, canonical(document), CONTEXT)
    return canonical({"document": document, "signature": _base64(signature)})


def read(data: bytes, provider: pqc.Provider) -> IdentityDocument:
    """ValueError unless `data` is canonical, whole, and signed by the key it names."""
    if len(data) > DOCUMENT_BYTES_MAX:
        raise ValueError("too long for an identity document")
    outer = parse_canonical(data)
    if not isinstance(outer, dict) or outer.keys() != {"document", "signature"}:
        raise ValueError("not a document with a signature")
    document, signature = outer["document"], outer["signature"]
    if not isinstance(document, dict) or document.keys() != FIELDS:
        raise ValueError("not an identity document")
    created_at = document["created_at"]
    if document["format"] != FORMAT or document["role"] not in ROLES:
        raise ValueError("not an identity document of this format")
    if not isinstance(created_at, int) or isinstance(created_at, bool):
        raise ValueError("created_at is not a time")
    if not isinstance(document["name"], str) or not NAME.fullmatch(document["name"]):
        raise ValueError("the name is not one a registry takes")
    public_key = _decode(document["public_key"])
    if not provider.verify(public_key, canonical(document), CONTEXT, _decode(signature)):
        raise ValueError("the signature does not verify: no proof of possession")
    return IdentityDocument(
        document["name"],
        document["role"],
        public_key,
        identity.fingerprint(public_key),
        created_at,
    )


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _decode(text: object) -> bytes:
    if not isinstance(text, str) or not text.isascii():
        raise ValueError("not base64")
    data = base64.b64decode(text, validate=True)
    if _base64(data) != text:
        raise ValueError("not the one base64 form of its bytes")
    return data
