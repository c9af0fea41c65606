"""Changes of a list of nodes as its text, so that a person's comments and order stay.

Only lines of one [[node]] are touched, and the result is read back: it must be what was there and
the one change. A list written in another form that TOML allows is left to its writer.
"""

import re
import tomllib
from typing import Any

from m13.errors import ConfigurationError, UsageError

HEADER = re.compile(r"\s*\[\[\s*node\s*\]\]")
KEY_LINE = re.compile(r"""(\s*key\s*=\s*)("[^"]*"|'[^']*')""")


def add(text: str, name: str, key: str, address: str | None) -> str:
    entry = {"name": name, "key": key} | ({"address": address} if address else {})
    for other in _entries(text):
        for field, value in entry.items():
            if other.get(field) == value:
                raise UsageError(f"'{other.get('name')}' has the {field} {value} already")
    lines = "".join(f'{field} = "{value}"\n' for field, value in entry.items())
    space = "" if not text else "\n" if text.endswith("\n") else "\n\n"
    return _checked(f"{text}{space}[[node]]\n{lines}", [*_entries(text), entry])


def remove(text: str, name: str) -> str:
    """Comments right above the node go with it."""
    entries = _entries(text)
    index = _index(entries, name)
    lines = text.splitlines(keepends=True)
    first, last = _block(lines, entries, index)
    while first and lines[first - 1].lstrip().startswith("#"):
        first -= 1
    if last < len(lines) and not lines[last].strip():
        last += 1
    return _checked("".join(lines[:first] + lines[last:]), entries[:index] + entries[index + 1 :])


def rekey(text: str, name: str, key: str) -> str:
    entries = _entries(text)
    index = _index(entries, name)
    for other in entries:
        if other.get("key") == key:
            raise UsageError(f"'{other.get('name')}' has the key {key} already")
    lines = text.splitlines(keepends=True)
    first, last = _block(lines, entries, index)
    for number in range(first, last):
        lines[number] = KEY_LINE.sub(rf'\g<1>"{key}"', lines[number], count=1)
    wanted = [*entries[:index], {**entries[index], "key": key}, *entries[index + 1 :]]
    return _checked("".join(lines), wanted)


def _entries(text: str) -> list[dict[str, Any]]:
    entries = tomllib.loads(text).get("node", [])
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise _other_form()
    return entries


def _index(entries: list[dict[str, Any]], name: str) -> int:
    for index, entry in enumerate(entries):
        if entry.get("name") == name:
            return index
    known = ", ".join(str(entry.get("name")) for entry in entries) or "none"
    raise UsageError(f"no node '{name}' in the list; there are: {known}")


def _block(lines: list[str], entries: list[dict[str, Any]], index: int) -> tuple[int, int]:
    """The lines of a node, from its header to its last entry."""
    headers = [number for number, line in enumerate(lines) if HEADER.match(line)]
    if len(headers) != len(entries):
        raise _other_form()
    first = headers[index]
    last = headers[index + 1] if index + 1 < len(headers) else len(lines)
    while not lines[last - 1].strip() or lines[last - 1].lstrip().startswith("#"):
        last -= 1
    return first, last


def _checked(text: str, wanted: list[dict[str, Any]]) -> str:
    try:
        is_so = tomllib.loads(text).get("node", []) == wanted
    except ValueError:
        is_so = False
    if not is_so:
        raise _other_form()
    return text


def _other_form() -> ConfigurationError:
    return ConfigurationError(
        "the list is not written as [[node]] tables of one line an entry: edit it by hand, then"
        " m13 reload"
    )
