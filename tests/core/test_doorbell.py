"""Ring, doorbell, channel and directory between threads, under ThreadSanitizer: nothing lost, no
sleep missed, no data race."""

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CORE = ROOT / "native" / "core"
SOURCES = ("ring", "doorbell", "channel", "directory", "map", "prefix")


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    target = tmp_path_factory.mktemp("threads") / "threads"
    command = ["clang", "-std=gnu11", "-D_GNU_SOURCE", "-O1", "-g", "-Wall", "-Wextra", "-Werror"]
    command += ["-fsanitize=thread", f"-iquote{CORE}", str(Path(__file__).parent / "threads.c")]
    command += [str(CORE / f"{name}.c") for name in SOURCES]
    subprocess.run([*command, "-lpthread", "-o", str(target)], check=True)
    return target


def run(program, scenario):
    return subprocess.run([str(program), scenario], capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("scenario", ["ring", "ring in place", "doorbell", "channel", "directory"])
def test_threads_lose_nothing_and_race_on_nothing(program, scenario):
    done = run(program, scenario)
    assert done.returncode == 0, done.stderr[-4000:]
    assert "ThreadSanitizer" not in done.stderr


def test_thread_sanitizer_is_watching(program):
    done = run(program, "race")
    assert "data race" in done.stderr
    assert done.returncode != 0
