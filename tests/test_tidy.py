"""The measurable rules of docs/HACKING.md: sizes, names, mirrors, no globals, nothing forgotten."""

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FUNCTION_LINES, FILE_LINES, COLUMNS = 70, 400, 100
SUFFIXES = {".c", ".h", ".py", ".pyx", ".pxd", ".pyi", ".sh", ".toml"}
FOLDERS = ("bench", "bpf", "deploy", "hub", "m13", "native", "node", "tests")
# Headers whose concept Python does not touch.
UNBOUND = {
    *("clock", "directory", "doorbell", "drop", "inner", "offload_header", "peer", "sched"),
    *("thread", "uring"),
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
    assert {stem for stem, size in sizes.items() if size > 130} <= {"channel", "hub", "xdp"}


def test_every_c_file_is_built():
    known = {*ROOT.glob("native/core/*.c"), *ROOT.glob("native/path/*.c")}
    stray = [path for path in C_FILES if path.suffix == ".c" and path not in known]
    assert [name(path) for path in stray if name(path).split("/")[0] not in OTHER_C] == []


def test_every_core_test_names_a_concept_of_the_core():
    concepts = {path.stem for path in (ROOT / "native/core").glob("*.h")}
    tests = {path.stem.removeprefix("test_") for path in (ROOT / "tests/core").glob("test_*.py")}
    assert tests - concepts == set()


def included(path):
    return set(re.findall(r'#include "([^"]+)"', path.read_text()))


def test_nouns_know_no_verbs_and_c_knows_no_python():
    path_headers = {path.name for path in (ROOT / "native/path").glob("*.h")}
    for path in (ROOT / "native/core").glob("*.[ch]"):
        assert not included(path) & path_headers, name(path)
    for path in (ROOT / "native").glob("*/*.[ch]"):
        assert "Python.h" not in path.read_text(), name(path)


def test_the_xdp_program_knows_its_own_headers_only_and_shares_one():
    own = {path.name for path in (ROOT / "bpf").glob("*.h")}
    for path in (ROOT / "bpf").glob("*.[ch]"):
        assert included(path) <= own, name(path)
    both = [path for path in C_FILES if "steer.h" in path.read_text()]
    assert {path.parent.name for path in both} >= {"bpf", "core"}


def test_packages_import_only_what_they_may():
    forbidden = {
        "native": "m13|hub|node|bench|tests",
        "m13": "hub|node|bench|tests",
        "hub": "node|bench|tests",
        "node": "hub|bench|tests",
        "bench": "tests",
    }
    for package, others in forbidden.items():
        pattern = re.compile(rf"^\s*(?:from|c?import) (?:{others})\b", re.MULTILINE)
        sources = (path for path in FILES if name(path).startswith(f"{package}/"))
        offenders = [path for path in sources if pattern.search(path.read_text())]
        assert offenders == [], package


@pytest.fixture(scope="module")
def symbols(tmp_path_factory):
    """What each C file of the core defines: (section, name, is global)."""
    folder = tmp_path_factory.mktemp("objects")
    quotes = [f"-iquote{ROOT / folder}" for folder in ("native/core", "native/path", "bpf")]
    found = {}
    for source in [*ROOT.glob("native/core/*.c"), *ROOT.glob("native/path/*.c")]:
        target = folder / f"{source.stem}.o"
        command = ["gcc", "-std=gnu11", "-D_GNU_SOURCE", "-O0", "-fPIC", *quotes]
        compiled = subprocess.run(
            [*command, "-c", str(source), "-o", str(target)], capture_output=True, text=True
        )
        if compiled.returncode and source.stem == "aead_ipsecmb":
            continue  # a machine without that library builds without it
        assert compiled.returncode == 0, compiled.stderr
        listing = subprocess.check_output(["objdump", "-t", str(target)], text=True)
        rows = re.findall(r"^\S+ (.).{6} (\S+)\t\S+ (?:\.hidden )?(.+)$", listing, re.MULTILINE)
        found[source.name] = [(section, word, scope == "g") for scope, section, word in rows]
    return found


def test_the_core_has_no_mutable_globals(symbols):
    # constants with pointers lie in .data.rel.ro: written by the loader, read-only afterwards
    mutable = {".data", ".bss", "*COM*", ".data.rel", ".tbss", ".tdata"}
    assert sum(map(len, symbols.values())) > 500
    for file, rows in symbols.items():
        found = [word for section, word, _ in rows if section in mutable]
        assert [word for word in found if not word.startswith(".")] == [], file


def test_external_functions_have_the_prefix_and_static_ones_do_without(symbols):
    for file, rows in symbols.items():
        source = next(path for path in C_FILES if path.name == file).read_text()
        for section, word, is_global in rows:
            if section.startswith(".text") and not word.startswith("."):
                defined_here = re.search(rf"\b{word}\([^;]*?\)\n\{{", source)
                if is_global or defined_here:  # headers have inline ones, with the prefix
                    assert word.startswith("m13_") == is_global, f"{file}: {word}"


def test_headers_are_guarded_by_their_name():
    for path in C_FILES:
        # the header both sides of the XDP map have shares its name with the core's own
        guard = rf"\w*{path.stem.upper()}(?:_SHARED)?_H"
        if path.suffix == ".h":
            assert re.search(rf"#ifndef ({guard})\n#define \1\n", path.read_text()), name(path)


def test_every_file_says_first_what_it_is():
    opening = {".c": "/*", ".h": "/*", ".py": '"""', ".pyx": '"""', ".pxd": "#", ".sh": "#!"}
    silent = [
        name(path)
        for path in FILES
        if (text := path.read_text()).strip()
        and not text.startswith(opening.get(path.suffix, ""))
        and not (path.suffix == ".pxd" and path.parent.name == "native")  # beside its .pyx
    ]
    assert silent == []


def prototypes(path):
    """(line, whether a comment stands above it or above the group it is in) of what is declared."""
    is_explained = False
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if not line.strip():
            is_explained = False
        elif line.rstrip().endswith("*/") or line.startswith("/*"):
            is_explained = True
        elif re.match(r"(?!static|return|extern)\w[\w ]*[ *]m13_\w+\(", line):
            yield number, is_explained


def test_every_function_of_a_header_is_explained():
    found = [
        (f"{name(path)}:{number}", is_explained)
        for path in [*ROOT.glob("native/core/*.h"), *ROOT.glob("native/path/*.h")]
        for number, is_explained in prototypes(path)
    ]
    assert len(found) > 100
    assert [place for place, is_explained in found if not is_explained] == []


def test_the_size_of_every_structure_on_the_wire_is_asserted():
    wire = (ROOT / "native/core/wire.h").read_text()
    packed = re.findall(r"struct (\w+) \{[^}]*\} __attribute__\(\(packed\)\)", wire)
    asserted = re.findall(r"_Static_assert\(sizeof\(struct (\w+)\)", wire)
    assert len(packed) > 5
    assert set(packed) - set(asserted) == set()


def test_every_reason_counter_gauge_and_stage_is_counted_somewhere():
    sources = " ".join(path.read_text() for path in ROOT.glob("native/*/*.[ch]"))
    tables = {"DROPS": "DROP", "COUNTERS": "STAT", "GAUGES": "GAUGE", "STAGES": "STAGE"}
    for table, prefix in tables.items():
        rows = re.search(rf"#define M13_{table}\(_\)(.*?)\n\n", sources, re.DOTALL)[1]
        names = re.findall(r'\b_\((\w+), "', rows)
        assert len(names) > 5
        assert [row for row in names if not re.search(rf"M13_{prefix}_{row}\b", sources)] == []


def test_names_are_whole_words():
    cut = {"arr", "cb", "cfg", "cnt", "conn", "evt", "fn", "idx", "num", "pkt", "sz"}
    foreign = {"libbpf_num_possible_cpus", "IFLA_NUM_RX_QUEUES"}
    # comments, strings, and in C the names of what is included, are not names of ours
    text = re.compile(r'/\*.*?\*/|""".*?"""|"[^"\n]*"|#[^\n]*', re.DOTALL)
    for path in FILES:
        if name(path).startswith(("bpf/", "native/", "m13/", "hub/", "node/")):
            words = re.findall(r"\b[A-Za-z_]\w*", text.sub("", path.read_text()))
            found = [word for word in words if cut & set(word.lower().split("_"))]
            assert set(found) <= foreign, name(path)


def test_times_say_their_unit():
    """Constants of Python and integers of C that are named for a time and for nothing after it."""
    timed = r"(?:timeout|interval|delay|period|patience|pause|age|deadline|duration)"
    python = re.compile(rf"^(?:[A-Z_]*_)?{timed.upper()}\s*(?::[^=]*)?=", re.MULTILINE)
    in_c = re.compile(rf"\bu?int\d+_t (?:\w*_)?{timed}\b")
    product = [path for path in PYTHON_FILES if not name(path).startswith("tests/")]
    assert [name(path) for path in product if python.search(path.read_text())] == []
    assert [name(path) for path in C_FILES if in_c.search(path.read_text())] == []


def test_no_package_registry_is_named():
    hosts = re.compile(r"pypi\.|proxy\.golang|crates\.io|npmjs\.|(?:extra-)?index-url|deb\.debian")
    found = [*FILES, *ROOT.glob("docs/*.md"), *ROOT.glob("*.md"), ROOT / "Makefile"]
    own = Path(__file__)
    assert [name(path) for path in found if path != own and hosts.search(path.read_text())] == []


def imports(path):
    """Dotted names that a file imports: `from a import b` is a.b, of which b may be a module."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = name(path.parent).replace("/", ".") if node.level else ""
            package = ".".join(filter(None, (above, node.module)))
            yield package
            yield from (f"{package}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value  # for importlib, and for python -m in a child


def test_every_module_is_imported_or_started():
    imported = {word for path in PYTHON_FILES for word in imports(path)}
    # what a person starts by name
    guides = [ROOT / "pyproject.toml", ROOT / "Makefile", *ROOT.rglob("tests/*/README.md")]
    guides += [ROOT / "docs/HACKING.md", *PYTHON_FILES]
    started = set(re.findall(r"python -m ([\w.]+)", " ".join(map(Path.read_text, guides))))
    started |= set(re.findall(r'= "([\w.]+):\w+"', (ROOT / "pyproject.toml").read_text()))
    modules = {name(path).removesuffix(".py").replace("/", "."): path.stem for path in PYTHON_FILES}
    found_otherwise = ("__init__", "__main__", "conftest", "setup")
    dead = [
        module
        for module, stem in modules.items()
        if module not in imported | started
        and not stem.startswith("test_")
        and stem not in found_otherwise
        and ".migrations." not in module  # alembic loads them by their path
    ]
    assert dead == []
