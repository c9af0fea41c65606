"""What a check of the doctor is, and what it may answer."""

import os
from collections.abc import Callable
from typing import NamedTuple

OK, WARN, FAIL = "ok", "warn", "fail"


class Verdict(NamedTuple):
    status: str
    found: str
    mend: str = ""


class Check(NamedTuple):
    name: str
    why: str
    look: Callable[[], Verdict]


class Finding(NamedTuple):
    name: str
    status: str
    found: str
    why: str
    mend: str


def ok(found: str) -> Verdict:
    return Verdict(OK, found)


def warn(found: str, mend: str) -> Verdict:
    return Verdict(WARN, found, mend)


def fail(found: str, mend: str) -> Verdict:
    return Verdict(FAIL, found, mend)


def unseen(what: str) -> Verdict:
    """For what only root may look at."""
    return Verdict(WARN, f"cannot see {what} without root", "sudo m13 doctor")


def examine(check: Check) -> Finding:
    """Whatever happens in one check, the others go on."""
    try:
        verdict = check.look()
    except PermissionError:
        verdict = unseen("this")
    except Exception as error:
        verdict = warn(f"cannot tell: {error or type(error).__name__}", "sudo m13 doctor")
    return Finding(check.name, verdict.status, verdict.found, check.why, verdict.mend)


def is_root() -> bool:
    return os.geteuid() == 0


def has_capability(bit: int) -> bool:
    with open("/proc/self/status", encoding="ascii") as status:
        for line in status:
            if line.startswith("CapEff:"):
                return bool(int(line.split()[1], 16) >> bit & 1)
    return False
