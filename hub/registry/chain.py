"""The audit's arithmetic, without a database: hash chain, Merkle tree, inclusion proofs.

Leaves and nodes are hashed as in RFC 6962, so that neither can pass for the other.
"""

from collections.abc import Sequence
from hashlib import sha256
from typing import Any

from m13.canonical import canonical, digest

FIRST_PREVIOUS = "0" * 64
ENTRY_FIELDS = (
    "sequence",
    "run_id",
    "phase",
    "event",
    "reject_codes",
    "logical_request_key",
    "subject",
    "payload_classification",
    "delivery_lane",
    "payload",
    "recorded_at_ms",
    "previous_hash",
)


def entry_hash(entry: dict[str, Any]) -> str:
    """Of all fields but itself; the previous entry's hash is one of them."""
    return digest(canonical({name: entry[name] for name in ENTRY_FIELDS}))


def leaf_hash(hashed_entry: str) -> bytes:
    return sha256(b"\0" + bytes.fromhex(hashed_entry)).digest()


def _node(left: bytes, right: bytes) -> bytes:
    return sha256(b"\1" + left + right).digest()


class MerkleTree:
    """Grows leaf by leaf; keeps one hash a level, so a root costs the logarithm of its size."""

    def __init__(self) -> None:
        self.size = 0
        self._peaks: list[bytes | None] = []

    def append(self, leaf: bytes) -> None:
        level, carried = 0, leaf
        while level < len(self._peaks) and (left := self._peaks[level]) is not None:
            carried, self._peaks[level] = _node(left, carried), None
            level += 1
        if level == len(self._peaks):
            self._peaks.append(None)
        self._peaks[level] = carried
        self.size += 1

    def root(self) -> str:
        result = None
        for peak in self._peaks:
            if peak is not None:
                result = peak if result is None else _node(peak, result)
        return (result or sha256(b"").digest()).hex()


def inclusion_path(leaves: Sequence[bytes], index: int) -> list[tuple[str, str]]:
    """("left" or "right", hash) from the leaf up: what its neighbours on the way are."""
    path = []
    level = list(leaves)
    while len(level) > 1:
        neighbour = index ^ 1
        if neighbour < len(level):
            path.append(("left" if neighbour < index else "right", level[neighbour].hex()))
        pairs = range(0, len(level) - 1, 2)
        above = [_node(level[place], level[place + 1]) for place in pairs]
        if len(level) % 2:
            above.append(level[-1])
        level, index = above, index // 2
    return path


def root_of_path(leaf: bytes, path: Sequence[Sequence[str]]) -> str:
    """ValueError for a path that is none."""
    current = leaf
    for side, text in path:
        other = bytes.fromhex(text)
        if side not in ("left", "right") or len(other) != 32:
            raise ValueError("not an inclusion path")
        current = _node(other, current) if side == "left" else _node(current, other)
    return current.hex()
