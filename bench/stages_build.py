"""What bench.stages runs that is not the product: its C programs, and the build in the clear.

Compiler and flags are those of setup.py, asked without building, so that what is measured is
compiled as it ships. The build in the clear is a copy of the tree in build/clear, where the file
that chooses the AEAD backend is replaced by stages_clear.c; no switch of setup.py leads there.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bench.check.driver import ASK_SETUP
from m13.errors import HostError

HERE = Path(__file__).parent
ROOT = HERE.parent
BUILD = ROOT / "build" / "stages"
CLEAR = ROOT / "build" / "clear"
CHOICE = ROOT / "native/core/aead.c"  # which the copy has another one of
CLEAR_MACRO = "M13_BENCH_CLEAR"  # nothing of it compiles without
CLEAR_CONSENT = "M13_BENCH_CLEAR_TRAFFIC"  # nor runs without this in the environment
CLEAR_NAME = "none: CLEAR"
TREE = ("bpf", "hub", "m13", "native", "node", "setup.py", "pyproject.toml", "README.md")
TIMEOUT_S = 300

PROGRAMS = {
    "stages_aead": ["stages_aead.c", "stages_library.c", "check/ends.c"],
    "raw_loop": ["raw_loop.c"],
}


def program(name: str) -> Path:
    """Path of one of PROGRAMS, compiled when any of its sources changed. HostError: it did not
    compile."""
    target = BUILD / name
    own = [HERE / source for source in PROGRAMS[name]]
    headers = [*HERE.glob("*.h"), *HERE.glob("check/*.h")]
    origins = [*own, *headers, Path(__file__), ROOT / "setup.py"]
    origins += [*ROOT.glob("native/*/*.[ch]"), *ROOT.glob("bpf/*.h")]
    if target.exists() and target.stat().st_mtime > max(o.stat().st_mtime for o in origins):
        return target
    BUILD.mkdir(parents=True, exist_ok=True)
    sources, compile_flags, link_flags = _ask_setup()
    flags = ["gcc", *compile_flags, "-fPIC", "-iquotebench"]
    jobs = {source: BUILD / f"core_{Path(source).stem}.o" for source in sources}
    jobs |= {str(source): BUILD / f"{source.stem}.o" for source in own}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(lambda job: run([*flags, "-c", job[0], "-o", str(job[1])]), jobs.items()))
    run(["gcc", *map(str, jobs.values()), *link_flags, "-o", str(target)])
    return target


def clear_tree() -> Path:
    """A copy of the tree whose native modules do not encrypt, built when anything changed."""
    CLEAR.mkdir(parents=True, exist_ok=True)
    for name in TREE:
        _copy(ROOT / name, CLEAR / name)
    _copy(HERE / "stages_clear.c", CLEAR / CHOICE.relative_to(ROOT))
    environment = {**os.environ, "CFLAGS": f"-D{CLEAR_MACRO}"}
    setup = [sys.executable, "setup.py", "-q", "build_clib", "build_ext", "--inplace"]
    run(setup, folder=CLEAR, environment=environment)
    return CLEAR


def run(
    command: Sequence[str], folder: Path = ROOT, environment: dict[str, str] | None = None
) -> str:
    """What the command said; HostError with the end of what it complained of."""
    try:
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise HostError(f"{Path(command[0]).name}: {error}") from error
    if done.returncode:
        said = done.stderr.strip()[:2000]
        raise HostError(f"{Path(command[0]).name}: {said or done.returncode}")
    return done.stdout


def _copy(source: Path, target: Path) -> None:
    """Only what differs is written: what stays keeps its time, and is not compiled again."""
    if source.is_dir():
        _copy_folder(source, target)
    elif not target.exists() or target.read_bytes() != source.read_bytes():
        shutil.copyfile(source, target)


def _copy_folder(source: Path, target: Path) -> None:
    target.mkdir(exist_ok=True)
    for entry in source.iterdir():
        if not _is_made(entry) and entry != CHOICE:
            _copy(entry, target / entry.name)
    for entry in target.iterdir():  # what was renamed would be compiled under both names
        if entry.is_file() and not _is_made(entry) and not (source / entry.name).exists():
            entry.unlink()


def _is_made(path: Path) -> bool:
    return path.suffix in (".so", ".pyc") or path.name == "__pycache__"


def _ask_setup() -> tuple[list[str], list[str], list[str]]:
    """Sources of the core, compiler flags, linker flags."""
    environment = {name: value for name, value in os.environ.items() if name != "M13_SANITIZE"}
    told: tuple[list[str], list[str], list[str]] = json.loads(
        run([sys.executable, "-c", ASK_SETUP], environment=environment)
    )
    return told
