"""A pytest plugin: what the tests call is counted apart from what the programs they start call."""

import importlib
import os
from pathlib import Path

VARIABLE = "M13_AUDIT_COUNTS"  # where the programs count, as LLVM_PROFILE_FILE says it


def pattern(folder: Path) -> str:
    """A file for each binary (%m), mapped while it is written (%c)."""
    return f"{folder}/%m%c.profraw"


def pytest_configure() -> None:
    # a binary reads the variable when it is loaded: here, before the programs have theirs
    native = importlib.import_module("native")
    assert native.__file__
    for binary in sorted(Path(native.__file__).parent.glob("*.so")):
        importlib.import_module(f"native.{binary.name.partition('.')[0]}")
    os.environ["LLVM_PROFILE_FILE"] = os.environ[VARIABLE]
