"""The C driver: built with the release's flags, run under callgrind on the recordings."""

import gzip
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from bench.check import callgrind
from m13.errors import HostError

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
BUILD = ROOT / "build" / "check"
PROGRAM = BUILD / "stages"
RECORDINGS = {way: HERE / "traffic" / f"{way}.pcap.gz" for way in ("up", "down")}
TIMEOUT_S = 120
VALGRIND = [
    *("valgrind", "-q", "--tool=callgrind", "--instr-atstart=no", "--collect-atstart=no"),
    *("--combine-dumps=yes", "--compress-strings=no", "--compress-pos=no"),
]
# What setup.py builds with, without building: its two calls that do something are made idle.
ASK_SETUP = """
import json, runpy, Cython.Build, setuptools
setuptools.setup = lambda **options: None
Cython.Build.cythonize = lambda *extensions, **options: []
told = runpy.run_path("setup.py")
print(json.dumps([told["SOURCES"], told["COMPILE_FLAGS"],
                  told["LINK_FLAGS"] + told["library_flags"]()]))
"""
# AES-256-GCM itself is not ours to budget, and each library picks its kernel by the CPU.
FOREIGN_LIBRARIES = ("libIPSec_MB.so", "libcrypto.so")


@dataclass(frozen=True)
class Count:
    """What every stage costs, and what that depends on."""

    conditions: dict[str, str]
    instructions: dict[str, float]  # stage -> a packet


def count() -> Count:
    """HostError when something is missing or the driver found a stage that does not work."""
    if not shutil.which("valgrind"):
        raise HostError("valgrind is not installed: run 'make bench-check' as root, which does it")
    build()
    with tempfile.TemporaryDirectory(prefix="m13-check-") as directory:
        recordings = [_unpack(path, Path(directory)) for path in RECORDINGS.values()]
        profile = Path(directory) / "profile"
        words = [*VALGRIND, f"--callgrind-out-file={profile}", PROGRAM, *recordings]
        said = _run([str(word) for word in words], env={"PATH": os.defpath, "LC_ALL": "C"})
        costs = callgrind.parse(profile.read_text())
    conditions = {
        "machine": platform.machine(),
        **dict(words[1:] for words in said if words[0] == "condition"),
        "recording": _digest(),
    }
    packets = {words[1]: int(words[2]) for words in said if words[0] == "stage"}
    if packets.keys() != costs.keys():
        raise HostError(f"valgrind counted {', '.join(costs)} instead of {', '.join(packets)}")
    return Count(
        conditions, {name: round(ours(costs[name]) / packets[name], 3) for name in packets}
    )


def ours(costs: Mapping[str, int]) -> int:
    """Without the libraries that seal and open; what libc does is done for us."""
    return sum(
        cost for name, cost in costs.items() if not Path(name).name.startswith(FOREIGN_LIBRARIES)
    )


def build() -> None:
    """Compiles core, path and driver when any of it changed."""
    own = [*HERE.glob("*.[ch]"), Path(__file__), ROOT / "setup.py"]
    origins = [*own, *ROOT.glob("native/*/*.[ch]"), *ROOT.glob("bpf/*.h")]
    if PROGRAM.exists() and PROGRAM.stat().st_mtime > max(o.stat().st_mtime for o in origins):
        return
    BUILD.mkdir(parents=True, exist_ok=True)
    sources, compile_flags, link_flags = _ask_setup()
    # tuned for no machine in particular: the code must be the same wherever it is counted
    flags = [flag.replace("-mtune=native", "-mtune=generic") for flag in compile_flags]
    flags = ["gcc", *flags, "-fPIC"]  # as in an extension
    jobs = {source: BUILD / f"{Path(source).stem}.o" for source in sources}
    jobs |= {str(source): BUILD / f"check_{source.stem}.o" for source in HERE.glob("*.c")}

    def compile_one(job: tuple[str, Path]) -> None:
        _run([*flags, "-c", job[0], "-o", str(job[1])])

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(compile_one, jobs.items()))
    _run(["gcc", *sorted(map(str, jobs.values())), *link_flags, "-o", str(PROGRAM)])


def _ask_setup() -> tuple[list[str], list[str], list[str]]:
    environment = {name: value for name, value in os.environ.items() if name != "M13_SANITIZE"}
    (words,) = _run([sys.executable, "-c", ASK_SETUP], env=environment)
    told: tuple[list[str], list[str], list[str]] = json.loads(" ".join(words))
    return told


def _unpack(recording: Path, directory: Path) -> Path:
    target = directory / recording.stem
    target.write_bytes(gzip.decompress(recording.read_bytes()))
    return target


def _digest() -> str:
    """Of both recordings, so that budgets of another one are not taken for budgets of this."""
    content = b"".join(path.read_bytes() for path in RECORDINGS.values())
    return hashlib.sha256(content).hexdigest()[:16]


def _run(command: list[str], env: dict[str, str] | None = None) -> list[list[str]]:
    """Words of every line said; HostError with what was complained of."""
    try:
        done = subprocess.run(
            command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=TIMEOUT_S
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise HostError(f"{Path(command[0]).name}: {error}") from error
    if done.returncode:
        raise HostError(f"{Path(command[0]).name}: {done.stderr.strip() or done.returncode}")
    return [line.split(maxsplit=2) for line in done.stdout.splitlines()]
