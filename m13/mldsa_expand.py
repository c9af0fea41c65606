"""ML-DSA-87 key pair from its 32-byte seed (FIPS 204, algorithm 6), for a provider that lacks it.

Identities are stored as seeds. The pqcrypto package takes only the expanded secret key, so this
module expands it. It runs once, when an identity is loaded, and is not constant time; nothing that
a peer sends reaches it.
"""

import hashlib
from typing import Any

import numpy

MODULUS = 8380417
DEGREE = 256
ROWS = 8  # k
COLUMNS = 7  # l
ETA = 2
DROPPED_BITS = 13
ROOT = 1753

# Python callers see numpy arrays of int64: products of two residues need 46 bits.
Polynomial = Any


def _bit_reversed(value: int) -> int:
    return int(f"{value:08b}"[::-1], 2)


ZETAS = [pow(ROOT, _bit_reversed(index), MODULUS) for index in range(DEGREE)]


def _transform(polynomial: Polynomial) -> Polynomial:
    """Number theoretic transform, algorithm 41."""
    values = polynomial % MODULUS
    block, index = DEGREE // 2, 0
    while block >= 1:
        for start in range(0, DEGREE, 2 * block):
            index += 1
            low = values[start : start + block].copy()
            high = values[start + block : start + 2 * block] * ZETAS[index] % MODULUS
            values[start : start + block] = (low + high) % MODULUS
            values[start + block : start + 2 * block] = (low - high) % MODULUS
        block //= 2
    return values


def _transform_back(polynomial: Polynomial) -> Polynomial:
    """Inverse transform, algorithm 42."""
    values = polynomial % MODULUS
    block, index = 1, DEGREE
    while block < DEGREE:
        for start in range(0, DEGREE, 2 * block):
            index -= 1
            low = values[start : start + block].copy()
            high = values[start + block : start + 2 * block].copy()
            values[start : start + block] = (low + high) % MODULUS
            values[start + block : start + 2 * block] = (high - low) * ZETAS[index] % MODULUS
        block *= 2
    return values * pow(DEGREE, -1, MODULUS) % MODULUS


def _uniform(seed: bytes) -> Polynomial:
    """Rejection sampling of a uniform polynomial, algorithm 30."""
    # 1536 bytes give 512 candidates, of which one in a thousand is rejected.
    raw = numpy.frombuffer(hashlib.shake_128(seed).digest(1536), numpy.uint8).astype(numpy.int64)
    triples = raw.reshape(-1, 3)
    candidates = triples[:, 0] | triples[:, 1] << 8 | (triples[:, 2] & 0x7F) << 16
    return candidates[candidates < MODULUS][:DEGREE]


def _bounded(seed: bytes) -> Polynomial:
    """Rejection sampling of a polynomial with coefficients -2..2, algorithm 31."""
    # 512 bytes give 1024 candidates, of which one in sixteen is rejected.
    raw = numpy.frombuffer(hashlib.shake_256(seed).digest(512), numpy.uint8).astype(numpy.int64)
    nibbles = numpy.stack([raw & 15, raw >> 4], axis=1).reshape(-1)
    return ETA - nibbles[nibbles < 15][:DEGREE] % 5


def _pack(polynomial: Polynomial, bits: int) -> bytes:
    planes = (polynomial[:, None] >> numpy.arange(bits)) & 1
    return numpy.packbits(planes.astype(numpy.uint8).reshape(-1), bitorder="little").tobytes()


def expand(seed: bytes | bytearray) -> tuple[bytes, bytes]:
    """Public key (2592 bytes) and expanded secret key (4896 bytes)."""
    if len(seed) != 32:
        raise ValueError("an ML-DSA-87 seed is 32 bytes")
    return expand_hashed(hashlib.shake_256(seed + bytes([ROWS, COLUMNS])).digest(128))


def expand_hashed(expanded: bytes) -> tuple[bytes, bytes]:
    """All of algorithm 6 but its first line."""
    matrix_seed, secret_seed, signing_seed = expanded[:32], expanded[32:96], expanded[96:]
    secrets = [
        _bounded(secret_seed + index.to_bytes(2, "little")) for index in range(COLUMNS + ROWS)
    ]
    first, second = secrets[:COLUMNS], secrets[COLUMNS:]
    first_transformed = [_transform(polynomial) for polynomial in first]
    high_parts, low_parts = [], []
    for row in range(ROWS):
        total = sum(
            _uniform(matrix_seed + bytes([column, row])) * first_transformed[column] % MODULUS
            for column in range(COLUMNS)
        )
        value = (_transform_back(total) + second[row]) % MODULUS
        high = (value + (1 << DROPPED_BITS - 1) - 1) >> DROPPED_BITS
        high_parts.append(high)
        low_parts.append(value - (high << DROPPED_BITS))
    public_key = matrix_seed + b"".join(_pack(high, 10) for high in high_parts)
    secret_key = (
        matrix_seed
        + signing_seed
        + hashlib.shake_256(public_key).digest(64)
        + b"".join(_pack(ETA - polynomial, 3) for polynomial in secrets)
        + b"".join(_pack((1 << DROPPED_BITS - 1) - low, 13) for low in low_parts)
    )
    return public_key, secret_key
