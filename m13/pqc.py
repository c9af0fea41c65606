"""ML-KEM-1024, ML-DSA-87 and HKDF-SHA-512 behind one small interface with two providers."""

import importlib
import secrets
from typing import Any, ClassVar, Protocol

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm

from m13.errors import HostError, UsageError
from native import secret

SEED_BYTES = 32
ENCAPSULATION_KEY_BYTES = 1568
CIPHERTEXT_BYTES = 1568
PUBLIC_KEY_BYTES = 2592
SIGNATURE_BYTES = 4627


class Provider(Protocol):
    """Decapsulation and signing keys are opaque: hand them back to the provider that made them.

    OpenSSL clears a key when its last reference goes, so callers drop it at once. Shared secrets
    and seeds come as `bytes` that nobody else has: callers wipe() them.
    """

    name: ClassVar[str]

    def kem_generate(self) -> tuple[Any, bytes]:
        """A fresh (decapsulation key, encapsulation key)."""

    def kem_encapsulate(self, encapsulation_key: bytes) -> tuple[bytes, bytes]:
        """(shared secret, ciphertext); ValueError when the key fails the FIPS 203 input check."""

    def kem_decapsulate(self, decapsulation_key: Any, ciphertext: bytes) -> bytes:
        """The shared secret; ValueError on a wrong length. A forgery gives another one."""

    def sign_generate(self) -> bytes:
        """A fresh seed."""

    def sign_load(self, seed: bytes | bytearray) -> tuple[Any, bytes]:
        """(signing key, public key) of a seed."""

    def sign(self, signing_key: Any, message: bytes, context: bytes) -> bytes:
        """A hedged pure ML-DSA signature."""

    def verify(self, public_key: bytes, message: bytes, context: bytes, signature: bytes) -> bool:
        """False for a wrong signature and for one, or a key, of the wrong length or form."""


class CryptographyProvider:
    """OpenSSL, through the `cryptography` package."""

    name: ClassVar[str] = "cryptography"

    def __init__(self) -> None:
        primitives = "cryptography.hazmat.primitives.asymmetric"
        self._kem = importlib.import_module(f"{primitives}.mlkem")
        self._dsa = importlib.import_module(f"{primitives}.mldsa")
        # The package may be built against an OpenSSL that lacks them: fail here, not in service.
        self._kem.MLKEM1024PrivateKey.generate()
        self._dsa.MLDSA87PrivateKey.from_seed_bytes(bytes(SEED_BYTES))

    def kem_generate(self) -> tuple[Any, bytes]:
        key = self._kem.MLKEM1024PrivateKey.generate()
        return key, key.public_key().public_bytes_raw()

    def kem_encapsulate(self, encapsulation_key: bytes) -> tuple[bytes, bytes]:
        key = self._kem.MLKEM1024PublicKey.from_public_bytes(encapsulation_key)
        shared, ciphertext = key.encapsulate()
        return shared, ciphertext

    def kem_decapsulate(self, decapsulation_key: Any, ciphertext: bytes) -> bytes:
        return decapsulation_key.decapsulate(ciphertext)

    def sign_generate(self) -> bytes:
        return self._dsa.MLDSA87PrivateKey.generate().private_bytes_raw()

    def sign_load(self, seed: bytes | bytearray) -> tuple[Any, bytes]:
        key = self._dsa.MLDSA87PrivateKey.from_seed_bytes(seed)
        return key, key.public_key().public_bytes_raw()

    def sign(self, signing_key: Any, message: bytes, context: bytes) -> bytes:
        return signing_key.sign(message, context)

    def verify(self, public_key: bytes, message: bytes, context: bytes, signature: bytes) -> bool:
        try:
            key = self._dsa.MLDSA87PublicKey.from_public_bytes(public_key)
            key.verify(signature, message, context)
        except (InvalidSignature, ValueError):
            return False
        return True


class PqcryptoProvider:
    """The Rust implementations of the `pqcrypto` package; about ten times slower at signing."""

    name: ClassVar[str] = "pqcrypto"

    def __init__(self) -> None:
        package = importlib.import_module("pqcrypto")
        self._invalid = package.InvalidSignatureError
        self._kem = package.ml_kem_1024
        self._dsa = package.ml_dsa_87
        self._expand = importlib.import_module("m13.mldsa_expand").expand

    def kem_generate(self) -> tuple[Any, bytes]:
        encapsulation_key, decapsulation_key = self._kem.keygen()
        return decapsulation_key, encapsulation_key

    def kem_encapsulate(self, encapsulation_key: bytes) -> tuple[bytes, bytes]:
        ciphertext, shared = self._kem.encaps(encapsulation_key)
        return shared, ciphertext

    def kem_decapsulate(self, decapsulation_key: Any, ciphertext: bytes) -> bytes:
        return self._kem.decaps(decapsulation_key, ciphertext)

    def sign_generate(self) -> bytes:
        return secrets.token_bytes(SEED_BYTES)

    def sign_load(self, seed: bytes | bytearray) -> tuple[Any, bytes]:
        public_key, secret_key = self._expand(seed)
        return secret_key, public_key

    def sign(self, signing_key: Any, message: bytes, context: bytes) -> bytes:
        return self._dsa.sign(signing_key, message, context)

    def verify(self, public_key: bytes, message: bytes, context: bytes, signature: bytes) -> bool:
        try:
            self._dsa.verify(public_key, message, signature, context)
        except (self._invalid, ValueError):
            return False
        return True


PROVIDERS: dict[str, type[CryptographyProvider] | type[PqcryptoProvider]] = {
    provider.name: provider for provider in (CryptographyProvider, PqcryptoProvider)
}


def choose(name: str = "auto") -> Provider:
    """The named provider, or with "auto" the first one that works here."""
    if name not in ("auto", *PROVIDERS):
        raise UsageError(f"unknown PQC provider '{name}': use auto, {' or '.join(PROVIDERS)}")
    failures = []
    for candidate in PROVIDERS if name == "auto" else (name,):
        try:
            return PROVIDERS[candidate]()
        except (ImportError, AttributeError, UnsupportedAlgorithm) as error:
            failures.append(f"{candidate} ({error})")
    raise HostError(
        f"no post-quantum provider works here: {', '.join(failures)};"
        " run 'pip install -U cryptography pqcrypto'"
    )


def hkdf(salt: bytes, shared_secret: bytes, info: bytes, length: int = 32) -> bytearray:
    """HKDF-SHA-512 into a buffer that the caller can wipe."""
    return secret.derive(salt, shared_secret, info, length)


def wipe(*holders: bytes | bytearray) -> None:
    """Overwrites a secret in place; of `bytes` the caller must have the only reference."""
    secret.wipe(*holders)
