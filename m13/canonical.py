"""The one byte form of a JSON value that is hashed and signed."""

import hashlib
import json
from typing import Any


def canonical(value: Any) -> bytes:
    """Sorted keys, no blanks, ASCII, one way to write each string. ValueError for a float, for
    which there are several, and for what JSON cannot say."""
    _check(value)
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()


def parse_canonical(data: bytes) -> Any:
    """ValueError unless `data` is exactly the canonical form of what it says."""
    try:
        value = json.loads(data)
        same = canonical(value) == data
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if not same:
        raise ValueError("not in canonical form")
    return value


def digest(data: bytes) -> str:
    """SHA-256, 64 hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def _check(value: Any) -> None:
    if isinstance(value, dict):
        for key, entry in value.items():
            if not isinstance(key, str):
                raise ValueError("a key is not text")
            _check(entry)
    elif isinstance(value, list | tuple):
        for entry in value:
            _check(entry)
    elif not isinstance(value, str | int | None):
        raise ValueError(f"{type(value).__name__} has no canonical form")
