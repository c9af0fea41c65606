"""docs/PIPELINE.md against the tree: every file, name and test it speaks of is there, and every row
has all three of its columns."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/PIPELINE.md").read_text()
GROUPS = (
    "Hub bring-up",
    "Hub threads and loop",
    "Hub handshake",
    "Node bring-up",
    "Node loop",
    "Node handshake and teardown",
    "What crosses the wire",
    "Wire rules",
)
WIRE_STEPS = 8
HEAD = ("step", "here", "shown by")
CODE = re.compile(r"`([^`]+)`")
PLACE = re.compile(r"([\w/.-]+\.(?:c|h|py))::([\w.]+)(?:\[([\w ,%]+)\])?")
FILE = re.compile(r"(?:[\w-]+/)+[\w.-]+\.\w+")
END_TO_END = "tests/netns/test_"


def section(title: str) -> str:
    return PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def rows(title: str) -> list[tuple[str, ...]]:
    lines = [line for line in section(title).splitlines() if line.startswith("| ")]
    return [tuple(cell.strip() for cell in line.strip("|").split("|")) for line in lines]


def places(text: str) -> list[tuple[str, str, str]]:
    """File, name and case of everything written as `file::name`."""
    found = []
    for code in CODE.findall(text):
        if "::" in code and "/" in code:
            place = PLACE.fullmatch(code)
            assert place, f"{code} is not file::name"
            found.append((place[1], place[2], place[3] or ""))
    return found


@cache
def source(path: str) -> str:
    return (ROOT / path).read_text()


@cache
def names_of_python(path: str) -> frozenset[str]:
    """Functions and classes of a module, and methods behind their class."""
    names = set()
    for node in ast.parse(source(path)).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        if isinstance(node, ast.ClassDef):
            inside = [part for part in node.body if isinstance(part, ast.FunctionDef)]
            names.update(f"{node.name}.{part.name}" for part in inside)
    return frozenset(names)


def has_c(path: str, name: str) -> bool:
    """A function whose body is in that file, or a macro."""
    begin = rf"^[a-z_][\w *]*\b{name}\([^;{{}}]*\)\s*\{{"
    macro = rf"^#define {name}\b"
    return bool(re.search(f"{begin}|{macro}", source(path), re.MULTILINE))


def is_there(path: str, name: str) -> bool:
    if not (ROOT / path).is_file():
        return False
    return name in names_of_python(path) if path.endswith(".py") else has_c(path, name)


@pytest.mark.parametrize("title", GROUPS)
def test_every_row_has_code_and_a_test(title: str) -> None:
    head, *steps = rows(title)
    assert head == HEAD
    assert steps
    for row in steps:
        assert len(row) == len(HEAD), row
        step, here, shown_by = row
        assert step
        assert places(here), f"{step}: no code"
        tests = [path for path, _, _ in places(shown_by)]
        assert tests, f"{step}: no test"
        assert all(path.startswith("tests/") for path in tests), step
        end_to_end = any(path.startswith(END_TO_END) for path in tests)
        assert end_to_end != shown_by.startswith("alone: "), f"{step}: alone or not?"


def test_every_name_is_there() -> None:
    named = places(PAGE)
    assert len(named) > 100
    assert [f"{path}::{name}" for path, name, _ in named if not is_there(path, name)] == []
    for path, name, case in named:
        assert not case or case in source(path), f"{path}::{name} has no case {case}"


def test_every_file_is_there() -> None:
    files = {code for code in CODE.findall(PAGE) if FILE.fullmatch(code)}
    assert files
    assert sorted(path for path in files if not (ROOT / path).is_file()) == []


def test_all_steps_on_the_wire_are_there() -> None:
    numbers = [row[0].partition(".")[0] for row in rows("What crosses the wire")[1:]]
    assert numbers == [str(number) for number in range(1, WIRE_STEPS + 1)]


def test_every_group_with_a_table_is_checked() -> None:
    titles = re.findall(r"^## (.+)$", PAGE, re.MULTILINE)
    assert tuple(title for title in titles if rows(title)) == GROUPS


def test_what_is_not_there_is_not_found() -> None:
    assert not is_there("native/path/seal.c", "m13_open")
    assert not is_there("native/path/path.h", "m13_seal")  # declared there, not more
    assert not is_there("m13/service.py", "Service.nothing")
    assert not is_there("m13/nothing.py", "Service")
