"""Python that nothing uses: imports, names, arguments (ruff), whole definitions (vulture)."""

import json
import re
from collections.abc import Iterator

from vulture import Vulture

from tests.audit.finding import ROOT, Finding, relative, run, tool

RULES = "ARG,B018,B007,PLW0127,PLW0128,RUF059,RUF100,ERA001"
CONFIDENCE_PERCENT = 60  # vulture's whole range: what it merely suspects included
PRODUCT = ("m13", "hub", "node")
TREE = (*PRODUCT, "bench", "tests")
# Called by whoever decorated them: click, the journal, pytest, hypothesis.
DECORATORS = [
    *("@*.command", "@*.group", "@click.*", "@undoes", "@pytest.*"),
    *("@rule", "@invariant", "@initialize"),
]
# Names that somebody else's code reads, and who that is.
READ_ELSEWHERE = {
    "trace": "the with statement hands it to __exit__",
    "exception": "the with statement hands it to __exit__",
    "approvers": "a field of a record that is stored whole",
    "audit_sequence": "a field of a record that is stored whole",
    "drift_state": "a field of a record that is stored whole",
    "head_hash": "a field of a record that is stored whole",
    "quorum_proof_ref": "a field of a record that is stored whole",
    "restarts": "tests of a dying worker wait for it",
    "isolation_level": "sqlite3",
    "branch_labels": "alembic",
    "depends_on": "alembic",
    "down_revision": "alembic",
    "downgrade": "alembic",
    "default_map": "click",
    "do_GET": "http.server",
    "log_message": "http.server",
    "fields_desc": "scapy",
    "handlers": "logging",
    "justify": "rich",
    "overflow": "rich",
    "ratio": "rich",
    "nla_map": "pyroute2",
    "pytest_*": "pytest",
    "exitstatus": "pytest",
    "_split_scope": "xdist",
    "pytestmark": "pytest",
    "send_counter": "a setter of native.session",
    "teardown": "hypothesis",
    "tempdir": "tempfile",
}
SETTING = re.compile(r"\bsettings\.(\w+)")


def rules() -> Iterator[Finding]:
    said = run(
        [tool("ruff"), "check", "--extend-select", RULES, "--output-format=json", "."],
        statuses=(0, 1),
    )
    for found in json.loads(said.stdout):
        line = found["location"]["row"]
        place = f"{relative(found['filename'])}:{line}"
        yield Finding(place, f"{found['code']} {found['message']}")


def definitions() -> Iterator[Finding]:
    """What the product defines and only tests or benches use, then what nothing uses."""
    seen = set()
    for paths in (PRODUCT, TREE):
        for finding in _vulture(paths):
            if finding not in seen:
                seen.add(finding)
                yield finding


def _vulture(paths: tuple[str, ...]) -> Iterator[Finding]:
    bindings = (ROOT / "native").glob("*.pyx")
    settings = {name for path in bindings for name in SETTING.findall(path.read_text())}
    vulture = Vulture(ignore_names=[*READ_ELSEWHERE, *settings], ignore_decorators=DECORATORS)
    vulture.scavenge([str(ROOT / path) for path in paths])
    for item in vulture.get_unused_code(min_confidence=CONFIDENCE_PERCENT):
        place = f"{relative(str(item.filename))}:{item.first_lineno}"
        yield Finding(place, f"unused {item.typ} '{item.name}'")
