"""Proves that everything here is alive: python -m tests.audit [PART ...], or make audit.

Each part asks a tool what nothing uses, and prints what it found. Exit status: 0 nothing, 1 there
are findings, 2 a part could not be done.
"""

import json
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass

import click

from tests.audit import compilers, coverage, dependencies, python, references, sections
from tests.audit.finding import AuditError, Finding

ALIVE, FINDINGS, UNPROVED = 0, 1, 2

PARTS: dict[str, tuple[str, Callable[[], Iterable[Finding]]]] = {
    "warnings": ("gcc and clang, all that is unused", compilers.warnings),
    "analysis": ("dead stores, leaks, by clang's analyzer", compilers.analysis),
    "sections": ("functions and data that no binding reaches", sections.unreached),
    "private": ("external functions of one file", references.private_functions),
    "fields": ("fields that are never read", references.unread_fields),
    "constants": ("macros and enumerators without a use", references.unused_constants),
    "results": ("results nobody looks at", references.discarded_results),
    "rules": ("unused names in Python, by ruff", python.rules),
    "definitions": ("unused definitions in Python, by vulture", python.definitions),
    "packages": ("Python dependencies, by deptry", dependencies.packages),
    "libraries": ("libraries that are linked idly", dependencies.libraries),
    "coverage": ("functions that no running program reaches", coverage.unreached),
}


@dataclass(frozen=True)
class Result:
    part: str
    findings: list[Finding]
    failure: str  # why nothing was proved, or empty
    seconds: float


@click.command(help=__doc__)
@click.argument("parts", nargs=-1, type=click.Choice(list(PARTS)))
@click.option("--without", multiple=True, type=click.Choice(list(PARTS)), help="Leave a part out.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document instead of the table.")
def main(parts: tuple[str, ...], without: tuple[str, ...], as_json: bool) -> None:
    chosen = [name for name in parts or PARTS if name not in without]
    results = [audit(name) for name in chosen]
    click.echo(json.dumps(list(map(asdict, results)), indent=1) if as_json else table(results))
    sys.exit(status(results))


def audit(name: str) -> Result:
    explanation, ask = PARTS[name]
    click.echo(f"==> {name}: {explanation}", err=True)
    begun = time.monotonic()
    findings: list[Finding] = []
    failure = ""
    try:
        findings = sorted(ask())
    except AuditError as error:
        failure = str(error)
    return Result(name, findings, failure, round(time.monotonic() - begun, 1))


def table(results: list[Result]) -> str:
    lines = []
    for result in results:
        if result.failure:
            lines.append(f"{result.part}: {result.failure}")
        lines += [f"{found.place}: {found.words}" for found in result.findings]
    lines.append(f"{'part':14}{'findings':>10}{'seconds':>10}")
    for result in results:
        count = "unproved" if result.failure else str(len(result.findings))
        lines.append(f"{result.part:14}{count:>10}{result.seconds:>10.1f}")
    return "\n".join(lines)


def status(results: list[Result]) -> int:
    if any(result.failure for result in results):
        return UNPROVED
    return FINDINGS if any(result.findings for result in results) else ALIVE


if __name__ == "__main__":
    main()
