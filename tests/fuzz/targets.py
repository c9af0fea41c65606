"""The table of fuzz targets, and how one is built and run."""

import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
BUILD = ROOT / "build" / "fuzz"

# target: the longest input worth trying
TARGETS = {
    "parse": 8192,
    "frag": 16384,
    "handshake": 16384,
    "control": 2048,
    "channel": 1024,
    "offload": 4096,
    "canary": 64,
}
# What needs a kernel, and what is assembled rather than compiled: not to be fuzzed.
LEFT_OUT = {
    *("aead_ipsecmb", "steer", "xdp", "umem", "uring", "thread", "capability", "seccomp"),
    *("selfbench", "selfbench_traffic"),
    *("hub", "hub_outward", "hub_share", "hub_tun", "hub_worker"),
    *("reactor", "reactor_address", "reactor_inward", "reactor_loop", "reactor_outward"),
}
COMPILE = [
    *("clang", "-std=gnu11", "-D_GNU_SOURCE", "-DM13_DEBUG", "-g", "-O1", "-Wall", "-Wextra"),
    *("-Werror", "-fno-strict-aliasing", "-fno-omit-frame-pointer", "-fno-sanitize-recover=all"),
    *(f"-iquote{ROOT / folder}" for folder in ("native/core", "native/path", "bpf")),
]
SANITIZERS = "address,undefined"


def run_quietly(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stderr}")


def sources() -> list[Path]:
    core = [*ROOT.glob("native/core/*.c"), *ROOT.glob("native/path/*.c")]
    return [HERE / "bed.c", *sorted(path for path in core if path.stem not in LEFT_OUT)]


def headers_age() -> float:
    headers = [*ROOT.glob("native/*/*.h"), *HERE.glob("*.h"), Path(__file__)]
    return max(path.stat().st_mtime for path in headers)


def is_fresh(product: Path, *origins: Path) -> bool:
    newest = max(headers_age(), *(path.stat().st_mtime for path in origins))
    return product.exists() and product.stat().st_mtime > newest


def compile_object(source: Path) -> Path:
    target = BUILD / f"{source.stem}.o"
    if not is_fresh(target, source):
        sanitize = f"-fsanitize={SANITIZERS},fuzzer-no-link"
        run_quietly([*COMPILE, sanitize, "-c", str(source), "-o", str(target)])
    return target


def link_target(name: str, objects: list[Path]) -> None:
    program, source = BUILD / name, HERE / f"{name}.c"
    if is_fresh(program, source, *objects):
        return
    sanitize = f"-fsanitize={SANITIZERS},fuzzer"
    run_quietly(
        [*COMPILE, sanitize, str(source), *map(str, objects), "-lcrypto", "-o", str(program)]
    )


def build(names: list[str]) -> None:
    BUILD.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        objects = list(pool.map(compile_object, sources()))
        list(pool.map(lambda name: link_target(name, objects), names))


def run(name: str, seconds: int) -> subprocess.CompletedProcess[str]:
    """Tries every seed, then mutates for that long. What it learns stays in build/, not here."""
    learned, crashes = BUILD / "learned" / name, BUILD / "crashes"
    learned.mkdir(parents=True, exist_ok=True)
    crashes.mkdir(exist_ok=True)
    command = [
        *(str(BUILD / name), f"-max_total_time={seconds}", f"-max_len={TARGETS[name]}"),
        *("-print_final_stats=1", "-timeout=10", f"-artifact_prefix={crashes / name}-"),
        *(str(learned), str(HERE / "corpus" / name)),
    ]
    return subprocess.run(command, capture_output=True, text=True, errors="replace")
