"""docs/ATTACKS.md against docs/PROTOCOL.md §8 and the tests that are there: nothing on the must-not
list is without a test, and no test is named that is gone."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ENTRY = re.compile(r"^\| (?P<entry>[^|]+) \| (?P<tests>[^|]+) \|$", re.MULTILINE)
HEADS = ("entry", "claim")
TEST = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)(?:\[([\w ,%]+)\])?`")


def must_not() -> list[str]:
    protocol = (ROOT / "docs/PROTOCOL.md").read_text()
    section = protocol.partition("## 8. Must-not list")[2].partition("\n## ")[0]
    entries = " ".join(section.partition("\n")[2].split()).split(" · ")
    return [entry.rstrip(".") for entry in entries]


def rows(text: str) -> dict[str, str]:
    found = {row["entry"]: row["tests"] for row in ENTRY.finditer(text)}
    return {entry: tests for entry, tests in found.items() if entry not in HEADS}


PAGE = (ROOT / "docs/ATTACKS.md").read_text()


def test_every_entry_of_the_must_not_list_has_a_row() -> None:
    section = PAGE.partition("## Must-not list")[2].partition("\n## ")[0]
    assert list(rows(section)) == must_not()


@pytest.mark.parametrize(("entry", "tests"), rows(PAGE).items(), ids=list(rows(PAGE)))
def test_every_row_names_tests_that_are_there(entry: str, tests: str) -> None:
    named = TEST.findall(tests)
    assert named, f"{entry}: no test"
    for path, name, case in named:
        source = (ROOT / path).read_text()
        functions = {
            node.name for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef)
        }
        assert name in functions, f"{path} has no {name}"
        assert not case or case in source, f"{path}::{name} has no case {case}"


def test_entries_are_split_as_they_are_written() -> None:
    assert must_not()[0] == "cleartext tunnel data to TUN, either side"
    assert must_not()[-1].startswith("changed sysctls, qdiscs, routes")
