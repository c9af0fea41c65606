"""The measurable rules of docs/HACKING.md: sizes, names, mirrors, no globals, nothing forgotten."""

import ast
import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[1]
FUNCTION_LINES, FILE_LINES, COLUMNS = 70, 400, 100
SUFFIXES = {".c", ".h", ".py", ".pyx", ".pxd", ".pyi", ".sh", ".toml"}
FOLDERS = ("bench", "bpf", "deploy", "hub", "m13", "native", "node", "tests")
# Headers whose concept Python does not touch.
UNBOUND = {
    *("clock", "doorbell", "drop", "peer", "sched", "thread", "uring"),
}
# C that is not part of the core: the XDP object, tools of the benches, fuzz targets, thread tests.
OTHER_C = ("bpf", "bench", "tests")


def ours():
    found = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*")]
    found += ROOT.glob("*.*")
    return sorted(path for path in found if path.suffix in SUFFIXES and path.is_file())


FILES = ours()
C_FILES = [path for path in FILES if path.suffix in {".c", ".h"}]
PYTHON_FILES = [path for path in FILES if path.suffix == ".py"]


def name(path):
    return str(path.relative_to(ROOT))


def c_functions(path):
    """(line, length) of every braced block that begins in the first column."""
    start = None
    lines = path.read_text().splitlines()
    for number, line in enumerate(lines, 1):
        if line == "{":
            start = number
        elif line == "}" and start:
            begin = start
            while begin > 1 and lines[begin - 2].strip() and lines[begin - 2][0] not in "}/#":
                begin -= 1  # the signature
            yield begin, number - begin + 1
            start = None


def python_functions(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.lineno, node.end_lineno - node.lineno + 1


def too_long(files, functions):
    return [
        f"{name(path)}:{line}: {length} lines"
        for path in files
        for line, length in functions(path)
        if length > FUNCTION_LINES
    ]


def test_no_function_is_longer_than_a_screen():
    assert too_long(C_FILES, c_functions) == []
    assert too_long(PYTHON_FILES, python_functions) == []


def test_functions_are_found_at_all():
    counted = sum(1 for path in C_FILES for _ in c_functions(path))
    assert counted > 200


def test_no_line_is_longer_than_a_hundred_columns():
    long_lines = [
        f"{name(path)}:{number}"
        for path in FILES
        for number, line in enumerate(path.read_text().splitlines(), 1)
        # a table of the telemetry page that clang-format leaves alone
        if len(line) > COLUMNS and not line.startswith("#define")
    ]
    assert long_lines == []


def test_no_file_is_longer_than_four_hundred_lines():
    sizes = {name(path): len(path.read_text().splitlines()) for path in FILES}
    assert {path: size for path, size in sizes.items() if size > FILE_LINES} == {}


def test_nothing_is_left_to_do():
    words = re.compile(r"\b(?:TO" r"DO|FIX" r"ME|XX" r"X|HA" r"CK)\b")
    assert [name(path) for path in FILES if words.search(path.read_text())] == []


def test_no_file_is_named_for_nothing():
    vague = {"utils", "util", "common", "misc", "helpers", "helper"}
    assert [name(path) for path in FILES if path.stem in vague] == []


def test_no_path_of_the_building_machine_is_written_down():
    # an absolute home or work directory is someone's machine, not the product's
    machine = re.compile(r"(?<![\w.$}])/(?:work|home|Users)/\w")
    assert [name(path) for path in FILES if machine.search(path.read_text())] == []


def test_every_bound_header_has_its_mirror():
    headers = {path.stem for path in (ROOT / "native/core").glob("*.h")}
    mirrors = {path.stem for path in (ROOT / "native/core").glob("*.pxd")} - {"__init__"}
    assert mirrors - headers == set()
    assert headers - mirrors == UNBOUND
    for stem in mirrors:
        assert f'"{stem}.h"' in (ROOT / f"native/core/{stem}.pxd").read_text(), stem


def test_every_binding_has_its_stub():
    bindings = {path.stem for path in (ROOT / "native").glob("*.pyx")}
    assert bindings == {path.stem for path in (ROOT / "native").glob("*.pyi")}


def test_bindings_stay_thin():
    # channel converts records, the others own, check and convert one structure
    sizes = {
        path.stem: len(path.read_text().splitlines()) for path in (ROOT / "native").glob("*.pyx")
    }
    assert {stem for stem, size in sizes.items() if size > 130} <= {"channel", "hub", "node"}


def test_every_c_file_is_built():
    known = {*ROOT.glob("native/core/*.c"), *ROOT.glob("native/path/*.c")}
    stray = [path for path in C_FILES if path.suffix == ".c" and path not in known]
    assert [name(path) for path in stray if name(path).split("/")[0] not in OTHER_C] == []


def test_every_core_test_names_a_concept_of_the_core():
    concepts = {path.stem for path in (ROOT / "native/core").glob("*.h")}
    tests = {path.stem.removeprefix("test_") for path in (ROOT / "tests/core").glob("test_*.py")}
    assert tests - concepts == set()


def test_nouns_know_no_verbs():
    path_headers = {path.name for path in (ROOT / "native/path").glob("*.h")}
    for path in (ROOT / "native/core").glob("*.[ch]"):
        included = set(re.findall(r'#include "([^"]+)"', path.read_text()))
        assert not included & path_headers, name(path)
        assert "Python.h" not in path.read_text(), name(path)


def test_packages_import_only_what_they_may():
    forbidden = {"m13": "hub|node", "hub": "node", "node": "hub"}
    for package, others in forbidden.items():
        pattern = re.compile(rf"^\s*(?:from|import) (?:{others})\b", re.MULTILINE)
        offenders = [
            path for path in (ROOT / package).rglob("*.py") if pattern.search(path.read_text())
        ]
        assert offenders == [], package


def test_the_core_has_no_mutable_globals(tmp_path):
    sources = [*ROOT.glob("native/core/*.c"), *ROOT.glob("native/path/*.c")]
    quotes = [f"-iquote{ROOT / folder}" for folder in ("native/core", "native/path", "bpf")]
    for source in sources:
        target = tmp_path / f"{source.stem}.o"
        command = ["gcc", "-std=gnu11", "-D_GNU_SOURCE", "-O0", "-fPIC", *quotes]
        compiled = subprocess.run(
            [*command, "-c", str(source), "-o", str(target)], capture_output=True, text=True
        )
        if compiled.returncode and source.stem == "aead_ipsecmb":
            continue  # a machine without that library builds without it
        assert compiled.returncode == 0, compiled.stderr
        listing = subprocess.check_output(["objdump", "-t", str(target)], text=True)
        # constants with pointers lie in .data.rel.ro: written by the loader, read-only afterwards
        globals_ = re.findall(
            r" (?:\.data|\.bss|\*COM\*|\.data\.rel|\.tbss|\.tdata)\t\S+ (.+)", listing
        )
        assert [symbol for symbol in globals_ if not symbol.startswith(".")] == [], source.name
