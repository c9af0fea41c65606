"""bench.stages: no build encrypts less by accident, and the tables say what was measured."""

import ctypes
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from bench import stages_build
from bench.stages import conclude
from bench.stages_build import CLEAR_CONSENT, CLEAR_MACRO, CLEAR_NAME, ROOT
from bench.stages_measure import Cost, Timing, _cost, _keep_best, together
from bench.stages_report import Findings, aead_ratio
from native.aead import BACKENDS, Aead

CLEAR_SOURCE = ROOT / "bench/stages_clear.c"
WORDS_OF_CLEAR = (CLEAR_MACRO, CLEAR_CONSENT, CLEAR_NAME)
QUOTES = [f"-iquote{ROOT / folder}" for folder in ("native/core", "native/path", "bpf")]
# What a program needs to ask the clear AEAD for a backend, and nothing else.
ASK = """
import ctypes, sys
aead = (ctypes.c_void_p * 2)()
sys.exit(-ctypes.CDLL(sys.argv[1]).m13_aead_create(aead, sys.argv[2].encode()))
"""


def compile_clear(target: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    command = ["gcc", "-std=gnu11", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror", *QUOTES, *flags]
    words = [*command, "-shared", "-fPIC", str(CLEAR_SOURCE), "-o", str(target)]
    return subprocess.run(words, capture_output=True, text=True)


@pytest.fixture(scope="module")
def clear_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("clear") / "clear.so"
    done = compile_clear(target, f"-D{CLEAR_MACRO}")
    assert done.returncode == 0, done.stderr
    return target


def ask(library: Path, name: str, consent: str | None) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if k != CLEAR_CONSENT}
    if consent is not None:
        environment[CLEAR_CONSENT] = consent
    words = [sys.executable, "-c", ASK, str(library), name]
    return subprocess.run(words, env=environment, capture_output=True, text=True)


# --- a normal build ------------------------------------------------------------------------------


def test_a_normal_build_has_no_backend_but_those_that_encrypt() -> None:
    assert set(BACKENDS) <= {"ipsec-mb", "libcrypto"}
    for name in BACKENDS:
        plain = bytearray(62) + b"attack at dawn, attack at dawn!!"
        with Aead(name) as backend:
            sealed = bytearray(plain)
            backend.seal(b"\x07" * 32, [sealed])
            assert sealed[62:] != plain[62:]
            assert bytes(16) != sealed[18:34]
            sealed[70] ^= 1
            assert backend.open(b"\x07" * 32, [sealed]) == [False]


def test_a_normal_build_does_not_know_the_word_for_none() -> None:
    with pytest.raises(OSError, match="No such file"):
        Aead(CLEAR_NAME)
    modules = list((ROOT / "native").glob("*.so"))
    assert modules
    for path in modules:
        content = path.read_bytes()
        assert not [word for word in WORDS_OF_CLEAR if word.encode() in content], path.name


def test_no_switch_of_the_build_leads_to_the_clear_aead() -> None:
    told = [ROOT / "setup.py", ROOT / "Makefile", ROOT / "pyproject.toml"]
    told += [path for path in ROOT.glob("native/**/*") if path.suffix in (".c", ".h", ".pyx")]
    told += [path for f in ("hub", "m13", "node", "deploy") for path in (ROOT / f).rglob("*.*")]
    sources = [p for p in told if p.suffix not in (".pyc", ".o", ".so") and p.is_file()]
    assert len(sources) > 100
    for path in sources:
        text = path.read_text()
        words = [word for word in (*WORDS_OF_CLEAR, CLEAR_SOURCE.name) if word in text]
        assert not words, path.name


def test_a_normal_build_ignores_the_consent() -> None:
    words = "from native.aead import BACKENDS, Aead; print(*BACKENDS, Aead('auto').name)"
    environment = {**os.environ, CLEAR_CONSENT: "yes"}
    command = [sys.executable, "-c", words]
    said = subprocess.check_output(command, env=environment, cwd=ROOT, text=True)
    assert said.split() == [*BACKENDS, Aead("auto").name]


# --- the clear aead ------------------------------------------------------------------------------


def test_the_clear_aead_does_not_compile_without_its_macro(tmp_path: Path) -> None:
    done = compile_clear(tmp_path / "clear.so")
    assert done.returncode != 0
    assert "does not encrypt" in done.stderr
    assert not (tmp_path / "clear.so").exists()


@pytest.mark.parametrize("consent", [None, "", "no", "1", "YES", "yes "])
def test_the_clear_aead_refuses_without_consent_and_says_so(
    clear_library: Path, consent: str | None
) -> None:
    done = ask(clear_library, "auto", consent)
    assert done.returncode == 1  # EPERM
    assert "REFUSED" in done.stderr
    assert "DOES NOT ENCRYPT" in done.stderr


def test_the_clear_aead_warns_when_it_runs(clear_library: Path) -> None:
    done = ask(clear_library, "auto", "yes")
    assert done.returncode == 0
    assert "NOTHING IS ENCRYPTED" in done.stderr


@pytest.mark.parametrize("name", ["ipsec-mb", "libcrypto"])
def test_the_clear_aead_does_not_pass_for_a_backend_that_encrypts(
    clear_library: Path, name: str
) -> None:
    assert ask(clear_library, name, "yes").returncode == 2  # ENOENT


def test_the_clear_aead_takes_the_whole_table_of_backends(clear_library: Path) -> None:
    class Backend(ctypes.Structure):
        _fields_ = (("name", ctypes.c_char_p),)

    library = ctypes.CDLL(str(clear_library))
    table = (ctypes.POINTER(Backend) * 2).in_dll(library, "m13_aead_backends")
    assert table[0].contents.name.decode() == CLEAR_NAME
    assert not table[1]


def test_the_clear_tree_holds_the_sources_and_the_other_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    built = []
    monkeypatch.setattr(stages_build, "CLEAR", tmp_path / "clear")
    monkeypatch.setattr(stages_build, "run", lambda *_, **options: built.append(options))
    tree = stages_build.clear_tree()
    assert (tree / "native/core/aead.c").read_bytes() == CLEAR_SOURCE.read_bytes()
    assert built[0]["folder"] == tree
    assert f"-D{CLEAR_MACRO}" in built[0]["environment"]["CFLAGS"].split()
    for path in ROOT.glob("native/*/*.[ch]"):
        if path.name != "aead.c":
            assert (tree / path.relative_to(ROOT)).read_bytes() == path.read_bytes()
    stamp = (tree / "native/core/aead.c").stat().st_mtime_ns
    renamed = tree / "native/path/former.c"
    renamed.write_text("int former;")
    stages_build.clear_tree()
    assert not renamed.exists()
    assert (tree / "native/core/aead.c").stat().st_mtime_ns == stamp


# --- figures -------------------------------------------------------------------------------------


def test_the_backends_are_timed_against_the_library() -> None:
    program = stages_build.program("stages_aead")
    for backend in BACKENDS:
        head, *lines = stages_build.run([str(program), backend, "200"]).splitlines()
        assert re.fullmatch(r"cycles_per_ns \d+\.\d+", head)
        rows = [line.split() for line in lines]
        assert [row[0] for row in rows[::3]] == ["64", "128", "256", "512", "1024", "1400"]
        assert [row[1] for row in rows[:3]] == ["library", "aead", "stage"]
        least = [float(row[2]) for row in rows if row[1] == "library"]
        assert 1 < least[0] < least[-1]
        assert all(float(row[2]) <= float(row[3]) for row in rows)
        assert all(float(row[4]) <= float(row[5]) for row in rows)


@pytest.mark.parametrize("words", [["ipsec-mb"], ["libcrypto", "0"], ["nothing", "10"]])
def test_the_timer_refuses_what_it_cannot_time(words: list[str]) -> None:
    program = stages_build.program("stages_aead")
    done = subprocess.run([program, *words], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("stages_aead: ")


@pytest.mark.parametrize("words", [[], ["socket", "raw0", "up0", "192.0.2.1", "192.0.2.2", "x"]])
def test_the_raw_loop_says_how_it_is_used(words: list[str]) -> None:
    program = stages_build.program("raw_loop")
    done = subprocess.run([program, *words], capture_output=True, text=True)
    assert done.returncode == 2
    assert "usage: raw_loop" in done.stderr


def timings(library: float, aead: float) -> dict[str, dict[str, Timing]]:
    cells = {"library": library, "aead": aead, "stage": aead}
    return {depth: {way: Timing(ns, ns) for way in ("seal", "open")} for depth, ns in cells.items()}


@pytest.mark.parametrize(
    ("aead", "sealed", "missed"),
    [
        (1.14, 0.61, []),
        (1.16, 0.61, ["ipsec-mb seal 64 B: 1.16", "ipsec-mb open 64 B: 1.16"]),
        (1.00, 0.59, ["m13 udp, TCP up, Gbit/s: 0.59"]),
    ],
)
def test_a_missed_goal_is_told_and_fails_the_command(
    aead: float, sealed: float, missed: list[str], tmp_path: Path
) -> None:
    found = Findings({"load": "0.1"}, 2.0, {"ipsec-mb": {64: timings(100.0, 100 * aead)}})
    for value in (9e9, 1e10, 2e10):  # the median counts, not the best
        found.add("clear udp", {"tcp up": value}, {"tcp up": {}})
        found.add("m13 udp", {"tcp up": value * sealed}, {"tcp up": {}})
    assert aead_ratio(found.aead["ipsec-mb"][64], "aead", "open") == pytest.approx(aead)
    assert [line.split(" of ")[0] for line in found.shortfalls()] == missed
    path = tmp_path / "found.json"
    assert conclude(found, path) == (1 if missed else 0)
    assert json.loads(path.read_text())["shortfalls"] == found.shortfalls()
    found.failures.append("round 1: nothing came")
    assert conclude(found, None) == 2


def test_of_several_processes_the_best_counts_for_each_way() -> None:
    depths: dict[str, dict[str, Timing]] = {}
    for times in (["30", "33", "20", "21"], ["29", "35", "22", "23"]):
        _keep_best(depths, "stage", times)
    assert depths == {"stage": {"seal": Timing(29, 35), "open": Timing(20, 21)}}


def snapshot(open_: tuple[int, int], seal: tuple[int, int], ok: int, sealed: int) -> dict:
    stages = {"open": open_, "seal": seal}
    return {
        "stages": {n: {"cycles": c, "packets": p} for n, (c, p) in stages.items()},
        "counters": {"aead_ok": ok, "aead_sealed": sealed},
    }


def test_a_cost_is_what_was_added_between_two_looks() -> None:
    before = snapshot((1000, 10), (500, 10), 10, 10)
    after = snapshot((31_000, 160), (900, 11), 160, 11)
    cost = _cost(before, after, (1_000_000, 10, 20), (1_060_000, 12, 26))
    assert cost.packets == 151
    assert cost.cycles == {"open": 200.0}  # one packet is too few to speak of sealing
    assert cost.stage_cycles == 30_400
    assert cost.thread_ns == 60_000
    assert cost.system_share == pytest.approx(6 / 8)


def test_rounds_come_together_by_medians_and_sums() -> None:
    rounds = [Cost({"open": c}, c * 10, 10, 500, s) for c, s in ((9, 0.1), (1, 0.5), (2, 0.9))]
    assert together(rounds) == Cost({"open": 2}, 120, 30, 1500, 0.5)
