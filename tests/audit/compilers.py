"""What gcc, clang and clang's analyzer say of native/: unused, stored and never read, discarded."""

import re
import shutil
from collections.abc import Iterable, Iterator

from tests.audit.finding import AuditError, Finding, ask_setup, in_parallel, relative, run

UNUSED = [
    *("-Wunused", "-Wunused-parameter", "-Wunused-const-variable", "-Wunused-macros"),
    *("-Wunused-but-set-variable", "-Wunused-but-set-parameter", "-Wunused-result"),
]
WARNINGS = {
    "gcc": [*UNUSED, "-Wunused-local-typedefs", "-Wredundant-decls"],
    "clang": [*UNUSED, "-Wunreachable-code-aggressive", "-Wunused-local-typedef"],
}
ANALYZERS = [
    *("--analyze", "-Xclang", "-analyzer-output=text", "-Xclang", "-analyzer-checker"),
    "-Xclang",
    "deadcode.DeadStores,core,unix.API,unix.Malloc",
]
SAID = re.compile(r"^(?P<place>[^\s:]+:\d+):\d+: (?:warning|error): (?P<words>.+)$", re.MULTILINE)


def warnings() -> Iterator[Finding]:
    """Both compilers with the release's flags and every warning of things unused."""
    build = ask_setup()
    # not to stop at the first: what is found is counted here
    flags = [flag for flag in build.compile_flags if flag != "-Werror"]
    jobs = [
        [compiler, *flags, *extra, "-c", source, "-o", "/dev/null"]
        for compiler, extra in WARNINGS.items()
        for source in build.sources
    ]
    yield from _said_of(jobs)


def analysis() -> Iterator[Finding]:
    """Every path through every function: dead stores, null, leaks."""
    build = ask_setup()
    # the analyzer follows assertions, and with them it knows what cannot be
    flags = [flag for flag in build.compile_flags if not flag.startswith(("-O", "-D_FORTIFY"))]
    yield from _said_of(
        ["clang", *ANALYZERS, *flags, "-DM13_DEBUG", source] for source in build.sources
    )


def _said_of(jobs: Iterable[list[str]]) -> Iterator[Finding]:
    for compiler in WARNINGS:
        if not shutil.which(compiler):
            raise AuditError(f"{compiler} is not installed: run 'make' once as root")
    found = set()
    for done in in_parallel(lambda job: run(job, statuses=(0, 1)), jobs):
        said = list(SAID.finditer(done.stderr))
        if done.returncode and not said:
            raise AuditError(done.stderr.strip()[:2000])
        found |= {Finding(relative(match["place"]), match["words"]) for match in said}
    yield from sorted(found)
