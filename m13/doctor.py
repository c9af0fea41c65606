"""`m13 doctor`: is this machine fit to run a hub or a node? It looks, and changes nothing."""

import json
import sys
from collections import Counter
from collections.abc import Iterable

from rich.box import ROUNDED
from rich.console import Console
from rich.table import Table
from rich.text import Text

from m13 import doctor_machine, doctor_network, doctor_software
from m13.doctor_finding import FAIL, OK, WARN, Finding, examine

STYLES = {OK: "green", WARN: "yellow", FAIL: "bold red"}


def run_doctor(interface: str | None = None, as_json: bool = False) -> int:
    """Print every finding; the exit status is 1 when something failed."""
    if interface is not None:
        doctor_network.check_interface(interface)
    findings = examine_machine(interface)
    if as_json:
        print(json.dumps(_as_json(findings), indent=2))
    elif sys.stdout.isatty():
        Console().print(_table(findings))
    else:
        print("\n".join(_lines(findings)))
    if not as_json:
        print(_summary(findings))
    return int(any(finding.status == FAIL for finding in findings))


def examine_machine(interface: str | None = None) -> list[Finding]:
    checks = [
        *doctor_machine.CHECKS,
        *doctor_software.checks(),
        *doctor_network.checks(interface),
    ]
    return [examine(check) for check in checks]


def _as_json(findings: list[Finding]) -> dict[str, object]:
    counts = Counter(finding.status for finding in findings)
    return {
        "counts": {status: counts[status] for status in STYLES},
        "checks": [finding._asdict() for finding in findings],
    }


def _summary(findings: list[Finding]) -> str:
    counts = Counter(finding.status for finding in findings)
    return f"{counts[OK]} ok, {counts[WARN]} warnings, {counts[FAIL]} failures"


def _lines(findings: list[Finding]) -> Iterable[str]:
    """Aligned text for pipes and logs; below what is wrong, why it matters and what to do."""
    width = max(len(finding.name) for finding in findings)
    for finding in findings:
        yield f"{finding.status:<4}  {finding.name:<{width}}  {finding.found}"
        if finding.status != OK:
            yield f"{'':<{width + 8}}why:  {finding.why}"
            yield f"{'':<{width + 8}}mend: {finding.mend}"


def _table(findings: list[Finding]) -> Table:
    table = Table("", "check", "found", title="M13 doctor", title_justify="left", box=ROUNDED)
    for finding in findings:
        found = Text(finding.found)
        if finding.status != OK:
            found.append(f"\n{finding.why}", "dim").append(f"\n{finding.mend}", "bold")
        table.add_row(Text(finding.status, STYLES[finding.status]), finding.name, found)
    return table
