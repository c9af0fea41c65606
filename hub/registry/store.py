"""The artifact store: what was deployed, each file with a manifest that an operator signed.

`openat2` keeps every look inside the store's directory and off symlinks, and what is hashed is what
was opened, so nothing can be exchanged in between.
"""

import ctypes
import errno
import os
import secrets
import stat
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hub.registry.envelope import CANONICALIZATION_VERSION, HASH_ALGORITHM
from m13 import identity, pqc
from m13.canonical import canonical, digest, parse_canonical
from m13.errors import HostError

DEFAULT_STORE = Path("/var/lib/m13/artifacts")
MANIFEST_CONTEXT = b"M13-MANIFEST-1"
MANIFEST_SUFFIX = ".manifest"
ARTIFACT_BYTES_MAX = 16 << 20
SYS_OPENAT2 = 437  # the same on every architecture
# linux/openat2.h
RESOLVE_NO_XDEV, RESOLVE_NO_MAGICLINKS, RESOLVE_NO_SYMLINKS, RESOLVE_BENEATH = 1, 2, 4, 8
RESOLVE = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Carrier:
    """A deployed file whose manifest verified, as it was read."""

    data: bytes
    artifact_type: str
    artifact_hash: str  # as the manifest says
    canonicalization_version: str
    reference: str  # SHA-256 of the signed manifest


class NotProven(Exception):
    """There is no carrier there that an operator vouches for."""


def is_canonical_path(path: str) -> bool:
    parts = path.split("/")
    return bool(path) and "\0" not in path and not any(part in ("", ".", "..") for part in parts)


def carrier_path(artifact_type: str, data: bytes) -> str:
    return f"{artifact_type}/{digest(data)}"


class ArtifactStore:
    """With `with`: holds the directory open, so that its name may not come to mean another."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._root = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise HostError(f"cannot use the store {directory}: {error.strerror}") from error

    def __enter__(self) -> "ArtifactStore":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self._root >= 0:
            os.close(self._root)
            self._root = -1

    def carrier(self, path: str, operators: Mapping[str, bytes], provider: pqc.Provider) -> Carrier:
        """NotProven with the reason; operators are public keys by fingerprint."""
        if not is_canonical_path(path):
            raise NotProven(f"{path} is not a canonical path")
        data = self._read(path)
        signed = self._read(path + MANIFEST_SUFFIX)
        try:
            outer = parse_canonical(signed)
            manifest = outer["manifest"]
            signature = bytes.fromhex(outer["signature"])
            if signature.hex() != outer["signature"]:
                raise ValueError("not the one way to write it")
            public_key = operators.get(outer["signer"])
            fields = [manifest[name] for name in MANIFEST_FIELDS]
        except (ValueError, TypeError, KeyError) as error:
            raise NotProven(f"the manifest of {path} cannot be read") from error
        if outer.keys() != {"manifest", "signature", "signer"} or not all(
            isinstance(value, str) for value in fields
        ):
            raise NotProven(f"the manifest of {path} is not one")
        if public_key is None:
            raise NotProven(f"the manifest of {path} is not signed by an operator")
        if not provider.verify(public_key, canonical(manifest), MANIFEST_CONTEXT, signature):
            raise NotProven(f"the signature of {path}'s manifest does not verify")
        if manifest["artifact_path"] != path or manifest["hash_algorithm"] != HASH_ALGORITHM:
            raise NotProven(f"the manifest of {path} is of something else")
        return Carrier(
            data,
            manifest["artifact_type"],
            manifest["artifact_hash"],
            manifest["canonicalization_version"],
            digest(signed),
        )

    def deploy(
        self, data: bytes, artifact_type: str, signer: identity.Identity, provider: pqc.Provider
    ) -> str:
        """Puts an artifact and its signed manifest in place; its path."""
        path = carrier_path(artifact_type, data)
        manifest = {
            "artifact_hash": digest(data),
            "artifact_path": path,
            "artifact_type": artifact_type,
            "canonicalization_version": CANONICALIZATION_VERSION,
            "hash_algorithm": HASH_ALGORITHM,
        }
        signing_key, _ = provider.sign_load(signer.seed)
        signature = provider.sign(signing_key, canonical(manifest), MANIFEST_CONTEXT)
        signed = {
            "manifest": manifest,
            "signature": signature.hex(),
            "signer": signer.fingerprint,
        }
        try:
            (self.directory / artifact_type).mkdir(mode=0o700, exist_ok=True)
            _put(self.directory / path, data)
            _put(self.directory / (path + MANIFEST_SUFFIX), canonical(signed))
        except OSError as error:
            raise HostError(f"cannot write {self.directory / path}: {error.strerror}") from error
        return path

    def _read(self, path: str) -> bytes:
        try:
            descriptor = _open_beneath(self._root, path)
        except OSError as error:
            known = {errno.ELOOP: "a symlink", errno.EXDEV: "a way out of the store"}
            why = known.get(error.errno or 0, error.strerror)
            raise NotProven(f"{path} cannot be opened beneath the store: {why}") from error
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)  # a folder or a device; open() below would keep it
            raise NotProven(f"{path} is not a file")
        with open(descriptor, "rb") as file:
            data = file.read(ARTIFACT_BYTES_MAX + 1)
        if len(data) > ARTIFACT_BYTES_MAX:
            raise NotProven(f"{path} is larger than {ARTIFACT_BYTES_MAX >> 20} MiB")
        return data


MANIFEST_FIELDS = (
    "artifact_hash",
    "artifact_path",
    "artifact_type",
    "canonicalization_version",
    "hash_algorithm",
)


def _open_beneath(root: int, path: str) -> int:
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    how = struct.pack("=QQQ", flags, 0, RESOLVE)
    descriptor = _libc.syscall(SYS_OPENAT2, root, os.fsencode(path), how, len(how))
    if descriptor < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return int(descriptor)


def _put(path: Path, data: bytes) -> None:
    """A whole file under its name, or none; one that is there is exchanged in one step."""
    if path.is_file() and not path.is_symlink() and path.read_bytes() == data:
        return
    temporary = path.with_name(f".{secrets.token_hex(8)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with open(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
