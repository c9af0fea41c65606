"""The long-term ML-DSA-87 identity on disk, and the fingerprints by which keys are named."""

import base64
import binascii
import contextlib
import hashlib
import os
import secrets
import stat
from dataclasses import dataclass, field
from pathlib import Path

from m13 import pqc
from m13.errors import ConfigurationError

DEFAULT_PATH = Path("/etc/m13/identity")
IDENTITY_HEADER = "M13-IDENTITY-1"
PUBLIC_HEADER = "M13-PUBLIC-1"
FINGERPRINT_PREFIX = "SHA256:"
FILE_BYTES_MAX = 8192


@dataclass(frozen=True)
class Identity:
    """`seed` is the only copy that this process keeps of it; with pqc.wipe() it has none."""

    seed: bytearray = field(repr=False)
    public_key: bytes = field(repr=False)
    fingerprint: str


def fingerprint(public_key: bytes) -> str:
    return format_fingerprint(hashlib.sha256(public_key).digest())


def format_fingerprint(digest: bytes) -> str:
    return FINGERPRINT_PREFIX + base64.b64encode(digest).decode().rstrip("=")


def parse_fingerprint(text: str) -> bytes:
    """The 32 bytes of "SHA256:..."; ValueError unless it is written exactly as we write it."""
    body = text.removeprefix(FINGERPRINT_PREFIX)
    try:
        digest = base64.b64decode(body + "=" * (-len(body) % 4), validate=True)
    except binascii.Error:
        digest = b""
    if len(digest) != 32 or format_fingerprint(digest) != text:
        raise ValueError(f"'{text}' is not a fingerprint: SHA256: and 43 base64 characters")
    return digest


def public_path(path: Path) -> Path:
    return path.with_name(path.name + ".pub")


def create(path: Path, provider: pqc.Provider) -> Identity:
    """A new identity at PATH (0600) and its public key at PATH.pub; nothing is ever overwritten."""
    seed = provider.sign_generate()
    _, public_key = provider.sign_load(seed)
    identity = Identity(bytearray(seed), public_key, fingerprint(public_key))
    encoded = base64.b64encode(seed)
    secret_text = bytearray().join(
        (IDENTITY_HEADER.encode(), b"\n", encoded, b"\n", identity.fingerprint.encode(), b"\n")
    )
    pqc.wipe(seed, encoded)
    encoded_key = base64.b64encode(public_key)
    public_text = b"%s %s %s\n" % (
        PUBLIC_HEADER.encode(),
        encoded_key,
        identity.fingerprint.encode(),
    )
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        for file in (path, public_path(path)):
            if os.path.lexists(file):
                raise FileExistsError
        _write_new(path, secret_text, 0o600)
        _write_new(public_path(path), public_text, 0o644)
    except FileExistsError as error:
        raise ConfigurationError(
            f"{path} or {public_path(path)} exists and is never overwritten: choose another path"
            " or move it away"
        ) from error
    except OSError as error:
        raise ConfigurationError(f"cannot write {path}: {error.strerror}") from error
    finally:
        pqc.wipe(secret_text)
    return identity


def load(path: Path, provider: pqc.Provider) -> Identity:
    data, mode = _read(path)
    lines = data.split(b"\n")
    try:
        if mode & 0o077:
            raise ConfigurationError(f"{path} is open to others: run 'chmod 600 {path}'")
        if len(lines) != 4 or lines[0] != IDENTITY_HEADER.encode() or lines[3]:
            raise ConfigurationError(f"{path} is not an identity of 'm13 keygen'")
        decoded = _decode(lines[1], pqc.SEED_BYTES, path)
        stored = lines[2].decode()
    finally:
        pqc.wipe(data, *lines)
    seed = bytearray(decoded)
    pqc.wipe(decoded)
    _, public_key = provider.sign_load(seed)
    if fingerprint(public_key) != stored:
        raise ConfigurationError(f"{path} is damaged: its key does not match its fingerprint")
    return Identity(seed, public_key, stored)


def load_fingerprint(path: Path, provider: pqc.Provider) -> str:
    """The fingerprint of an identity or of a public key file, checked against the key."""
    return fingerprint(load_public_key(path, provider))


def load_public_key(path: Path, provider: pqc.Provider) -> bytes:
    """Of an identity or of a public key file, checked against its fingerprint."""
    data, _ = _read(path)
    if not data.startswith(PUBLIC_HEADER.encode() + b" "):
        pqc.wipe(data)
        me = load(path, provider)
        pqc.wipe(me.seed)
        return me.public_key
    fields = data.split()
    if len(fields) != 3:
        raise ConfigurationError(f"{path} is not a public key of 'm13 keygen'")
    public_key = _decode(fields[1], pqc.PUBLIC_KEY_BYTES, path)
    if fingerprint(public_key) != fields[2].decode():
        raise ConfigurationError(f"{path} is damaged: its key does not match its fingerprint")
    return public_key


def _decode(text: bytearray, size: int, path: Path) -> bytes:
    try:
        value = base64.b64decode(text, validate=True)
    except ValueError:
        value = b""
    if len(value) != size:
        raise ConfigurationError(f"{path} is damaged: its key is not {size} bytes of base64")
    return value


def _open_at_once(path: str, flags: int) -> int:
    # O_NONBLOCK: a FIFO must not hang the start; O_CLOEXEC is Python's default.
    return os.open(path, flags | os.O_NONBLOCK)


def _read(path: Path) -> tuple[bytearray, int]:
    """Content, for the caller to wipe, and mode of one and the same open file."""
    data = bytearray(FILE_BYTES_MAX + 1)
    count = 0
    try:
        # unbuffered: a buffer would keep what it held
        with open(path, "rb", buffering=0, opener=_open_at_once) as file:
            status = os.fstat(file.fileno())
            if stat.S_ISREG(status.st_mode):
                count = file.readinto(data) or 0
    except FileNotFoundError as error:
        raise ConfigurationError(f"no identity at {path}: run 'm13 keygen {path}'") from error
    except OSError as error:
        raise ConfigurationError(f"cannot read {path}: {error.strerror}") from error
    content = data[:count]
    pqc.wipe(data)
    if not content or len(content) > FILE_BYTES_MAX or not content.isascii():
        raise ConfigurationError(f"{path} is not a key file of 'm13 keygen'")
    return content, stat.S_IMODE(status.st_mode)


def _write_new(path: Path, text: bytes | bytearray, mode: int) -> None:
    """All or nothing: a whole file appears under its name, or FileExistsError."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with open(descriptor, "wb", buffering=0) as file:
            file.write(text)
            os.fsync(descriptor)
        os.link(temporary, path)  # unlike rename, refuses to replace
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
