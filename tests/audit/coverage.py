"""Every function of native/ is reached from a program that runs: hub, node, or m13 bench.

An instrumented copy of the tree in build/audit runs tests/netns. Counters lie in files that each
program maps when it loads the core (LLVM, Source-based Code Coverage, continuous mode), so they
count whoever ends by _exit, by a signal, or in a sandbox that can open no file any more; a report
that a process writes at its end would miss all of these. What the tests' own process calls is
counted elsewhere and thrown away.
"""

import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

from tests.audit import counting
from tests.audit.finding import BUILD, ROOT, AuditError, Finding, run
from tests.audit.syntax import functions

COPY = BUILD / "tree"
COUNTS = BUILD / "counts"
FOLDERS = ("bench", "bpf", "deploy", "docs", "hub", "m13", "native", "node", "tests")
FILES = ("setup.py", "pyproject.toml", "Makefile", "README.md")
MADE = shutil.ignore_patterns("*.so", "__pycache__", "corpus")
# Packets cut and joined in every shape reach nothing that a stream of them does not.
TABLES = {f"test_offload_{what}.py" for what in ("kernel", "packets", "tcp", "udp", "underlay")}
BENCH = "tests/test_bench_command.py"  # m13 bench is a program too
BUILD_TIMEOUT_S = 2400
TESTS_TIMEOUT_S = 7200  # a quarter of an hour where nobody else is, several times that in company
SOME_FAILED = 1  # pytest's status; higher ones are its own trouble
COUNTER = re.compile(r"^  (?:(\S+):)?(\w+):\n    Hash: .*\n    Counters: \d+\n"
                     r"    Function count: (\d+)", re.MULTILINE)  # fmt: skip


def unreached() -> Iterator[Finding]:
    """A test that fails is found too: its programs did not run as they should."""
    for name in ("clang", "llvm-profdata"):
        if not shutil.which(name):
            raise AuditError(f"{name} is not installed: run 'make' once as root")
    if os.geteuid() != 0:
        raise AuditError("namespaces need root: run it as root")
    _copy_tree()
    _build()
    shutil.rmtree(COUNTS, ignore_errors=True)
    yield from _run_programs(end_to_end())
    in_file, anywhere = _counts()
    for symbol in functions():
        count = in_file[Path(symbol.file).name, symbol.name] or anywhere[symbol.name]
        if not count:
            yield Finding(symbol.place, f"{symbol.name} is reached from no program that runs")


def end_to_end() -> list[str]:
    """The tests that start programs, as a user would."""
    files = sorted(path for path in ROOT.glob("tests/netns/test_*.py") if path.name not in TABLES)
    return [*(str(path.relative_to(ROOT)) for path in files), BENCH]


def _copy_tree() -> None:
    """Times are kept, so that a second run compiles only what changed; what is gone goes."""
    built_by = COPY / "setup.py"
    if built_by.exists() and built_by.read_bytes() != (ROOT / "setup.py").read_bytes():
        shutil.rmtree(COPY)  # other flags: nothing of it can stay
    COPY.mkdir(parents=True, exist_ok=True)
    for name in FOLDERS:
        for path in (COPY / name).rglob("*.*"):
            if path.suffix != ".so" and path.is_file() and not _origin(path).exists():
                path.unlink()
        shutil.copytree(ROOT / name, COPY / name, ignore=MADE, dirs_exist_ok=True)
    for name in FILES:
        shutil.copy2(ROOT / name, COPY / name)


def _origin(copied: Path) -> Path:
    return ROOT / copied.relative_to(COPY)


def _build() -> None:
    environment = {**os.environ, "M13_PROFILE": "1", "CC": "clang", "LDSHARED": "clang -shared"}
    setup = [sys.executable, "setup.py", "-q", "build_clib", "build_ext", "--inplace"]
    run(setup, folder=COPY, environment=environment, timeout_s=BUILD_TIMEOUT_S)


def _run_programs(tests: list[str]) -> Iterator[Finding]:
    """pytest's own progress goes to stderr: this takes long."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(COPY),
        "LLVM_PROFILE_FILE": counting.pattern(COUNTS / "tests"),
        counting.VARIABLE: counting.pattern(COUNTS / "programs"),
    }
    report = BUILD / "tests.xml"
    pytest = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    pytest += ["-p", "tests.audit.counting", f"--junitxml={report}", "-ojunit_family=xunit1"]
    try:
        done = subprocess.run(
            [*pytest, *tests], cwd=COPY, env=environment, stdout=sys.stderr, timeout=TESTS_TIMEOUT_S
        )
    except subprocess.TimeoutExpired as error:
        raise AuditError(f"pytest: {error}") from error
    if done.returncode > SOME_FAILED:
        raise AuditError(f"pytest ended with {done.returncode}")
    for case in ElementTree.parse(report).iter("testcase"):
        for kind in ("failure", "error"):
            for what in case.findall(kind):
                place = f"{case.get('file')}:{int(case.get('line', 0)) + 1}"
                why = what.get("message", kind).partition("\n")[0]
                yield Finding(place, f"{case.get('name')}: {why}")


def _counts() -> tuple[Counter[tuple[str, str]], Counter[str]]:
    """How often each function ran: static ones by file and name, and all by name if external or
    defined in a header, which clang counts in each file that includes it."""
    files = sorted(map(str, (COUNTS / "programs").glob("*.profraw")))
    if not files:
        raise AuditError("no program left a count")
    merged = COUNTS / "merged.profdata"
    run(["llvm-profdata", "merge", *files, "-o", str(merged)])
    said = run(["llvm-profdata", "show", "--all-functions", str(merged)]).stdout
    in_file: Counter[tuple[str, str]] = Counter()
    anywhere: Counter[str] = Counter()
    sources = {symbol.name for symbol in functions() if symbol.file.endswith(".h")}
    for file, name, count in COUNTER.findall(said):
        if file:
            in_file[Path(file).name, name] += int(count)
        if not file or name in sources:
            anywhere[name] += int(count)
    return in_file, anywhere
