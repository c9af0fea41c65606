"""What tests know of make debug, and a plugin of pytest under it.

Of the programs that tests start, only ours get the runtime of the sanitizers, which is preloaded.
Others, such as `ip`, would end by what it finds in them.
"""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

IS_SANITIZED = "M13_SANITIZE" in os.environ  # deploy/debug.sh
# For what measures time, or needs a lot of it.
normal_build_only = pytest.mark.skipif(
    IS_SANITIZED, reason="sanitizers make a build several times slower"
)
OURS = Path(sys.executable).parent
VARIABLE = "LD_PRELOAD"


def pytest_configure() -> None:
    preloaded = os.environ.pop(VARIABLE)
    start = subprocess.Popen.__init__

    def start_with_runtime(
        self: subprocess.Popen, argv: Sequence[Any] | Path, *rest: Any, **options: Any
    ) -> None:
        if is_ours(argv):
            options["env"] = {**(options.get("env") or os.environ), VARIABLE: preloaded}
        start(self, argv, *rest, **options)

    subprocess.Popen.__init__ = start_with_runtime


def is_ours(argv: Sequence[Any] | Path) -> bool:
    words = [argv] if isinstance(argv, str | Path) else argv
    return any(Path(str(word)).parent == OURS for word in words)
