"""Declarations of native/ that nothing refers to, and results that nobody looks at."""

import re
from collections import Counter
from collections.abc import Iterator
from functools import cache

from tests.audit.finding import ROOT, Finding
from tests.audit.syntax import program

# Structures somebody else reads.
READ_ELSEWHERE = {
    "sched_attributes": "sched_setattr(2) reads it",
}
WORD = re.compile(r"\b[A-Za-z_]\w+\b")
DEFINE = re.compile(r"^#define (\w+)", re.MULTILINE)


@cache
def words(*patterns: str) -> Counter[str]:
    """How often each word stands in these files."""
    return Counter(
        word
        for pattern in patterns
        for path in ROOT.glob(pattern)
        for word in WORD.findall(path.read_text())
    )


def private_functions() -> Iterator[Finding]:
    """External functions that only their own file calls."""
    outside = words("native/*.pyx")
    for symbol, is_external in program().functions.items():
        elsewhere = program().called_from[symbol.name] - {symbol.file}
        if is_external and not elsewhere and symbol.name not in outside:
            yield Finding(symbol.place, f"{symbol.name} is called in this file only: static")


def unread_fields() -> Iterator[Finding]:
    """Fields that are written at most. Python reads some, by the names of the mirrors."""
    outside = words("native/*.pyx", "native/*/*.pxd", "bpf/*.c")
    for symbol in program().fields - program().read:
        on_the_wire = symbol.owner.startswith("m13_wire_")
        if symbol.name not in outside and not on_the_wire and symbol.owner not in READ_ELSEWHERE:
            yield Finding(symbol.place, f"{symbol.owner}.{symbol.name} is never read")


def unused_constants() -> Iterator[Finding]:
    """Enumerators and macros that are named once: where they are defined."""
    everywhere = words("native/*.pyx", "native/*/*.[ch]", "bpf/*.[ch]")
    for symbol in program().constants - program().constants_used:
        # those an X-macro makes are used by their table
        if everywhere[symbol.name] == 1:
            yield Finding(symbol.place, f"{symbol.name} is never used")
    for path in sorted([*ROOT.glob("native/*/*.h"), *ROOT.glob("bpf/*.h")]):
        text = path.read_text()
        for match in DEFINE.finditer(text):
            if everywhere[match[1]] == 1:
                line = text.count("\n", 0, match.start()) + 1
                yield Finding(f"{path.relative_to(ROOT)}:{line}", f"{match[1]} is never used")


def discarded_results() -> Iterator[Finding]:
    """Calls of our own functions as statements. A result that does not matter says (void)."""
    for symbol in program().discarded:
        yield Finding(symbol.place, f"the result of {symbol.name} is discarded")
