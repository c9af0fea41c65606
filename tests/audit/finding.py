"""What a part of the audit answers, and how it asks the tools."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from bench.check.driver import ASK_SETUP

ROOT = Path(__file__).parents[2]
BUILD = ROOT / "build" / "audit"
TOOL_TIMEOUT_S = 300

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True, order=True)
class Finding:
    """Something that nothing needs. `place` is a file of the tree, perhaps with :line."""

    place: str
    words: str


class AuditError(Exception):
    """A tool is missing or did not work: nothing was proved."""


@dataclass(frozen=True)
class Build:
    """What setup.py compiles, and how."""

    sources: list[str]  # relative to the tree
    compile_flags: list[str]
    link_flags: list[str]


def ask_setup() -> Build:
    """Without building anything; the release's flags, whatever the environment says."""
    switches = ("M13_SANITIZE", "M13_PROFILE")
    environment = {name: value for name, value in os.environ.items() if name not in switches}
    said = run([sys.executable, "-c", ASK_SETUP], environment=environment)
    return Build(*json.loads(said.stdout))


def run(
    command: Sequence[str],
    *,
    folder: Path = ROOT,
    environment: Mapping[str, str] | None = None,
    timeout_s: float = TOOL_TIMEOUT_S,
    statuses: Iterable[int] = (0,),
) -> subprocess.CompletedProcess[str]:
    """AuditError when it cannot be run, or ends with a status that says it did not work."""
    try:
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, timeout=timeout_s
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise AuditError(f"{Path(command[0]).name}: {error}") from error
    if done.returncode not in set(statuses):
        said = (done.stdout + done.stderr).strip()[-2000:]  # what went wrong stands last
        raise AuditError(f"{Path(command[0]).name} ended with {done.returncode}: {said}")
    return done


def in_parallel(work: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(work, items))


def tool(name: str) -> str:
    """A program of the virtual environment."""
    return str(Path(sys.executable).with_name(name))


def relative(path: str) -> str:
    return path.removeprefix(f"{ROOT}/")
