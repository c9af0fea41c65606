"""Dependencies declared and not used, or used and not declared; libraries linked idly."""

import json
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.audit.finding import ROOT, Finding, ask_setup, run, tool
from tests.audit.python import PRODUCT


def packages() -> Iterator[Finding]:
    """deptry on pyproject.toml; its settings are in there."""
    with tempfile.NamedTemporaryFile(prefix="m13-audit-", suffix=".json") as report:
        command = [tool("deptry"), *PRODUCT, "--no-ansi", "--json-output", report.name]
        run(command, statuses=(0, 1))
        for found in json.loads(Path(report.name).read_text()):
            line = found["location"]["line"]
            place = found["location"]["file"] + (f":{line}" if line else "")
            yield Finding(place, f"{found['error']['code']} {found['error']['message']}")


def libraries() -> Iterator[Finding]:
    """Of the binaries that are built: a library that one has and does not need, and a library the
    build names that no binary needs."""
    binaries = sorted(ROOT.glob("native/*.so"))
    needed: set[str] = set()
    for binary in binaries:
        listing = run(["readelf", "-d", str(binary)]).stdout
        needed |= set(re.findall(r"\(NEEDED\).*\[(lib[^.]+)", listing))
        # it names every direct dependency of which no symbol is used
        idle = run(["ldd", "-u", str(binary)], statuses=(0, 1)).stdout
        for library in re.findall(r"^\s+(/\S+)", idle, re.MULTILINE):
            yield Finding(str(binary.relative_to(ROOT)), f"{Path(library).name} is not needed")
    if not binaries:
        yield Finding("native", "nothing is built: run 'make' first")
    for flag in ask_setup().link_flags:
        name = flag.removeprefix("-l")
        if flag.startswith("-l") and f"lib{name}" not in needed:
            yield Finding("setup.py", f"no binary needs lib{name}")
