"""make bench-check: the profile is read right, the verdict is right, and counting is repeatable."""

import gzip
import json
import os
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from scapy.layers.inet import IP, TCP, UDP
from scapy.utils import RawPcapReader

from bench.check import budget, callgrind, driver
from bench.check.__main__ import judge, main
from m13.errors import HostError

PROFILE = Path(__file__).with_name("callgrind.out").read_text()
# What callgrind_annotate says of the same profile.
PROGRAM, LIBRARY = "/opt/check/stages", "/usr/lib/x86_64-linux-gnu/libIPSec_MB.so.1.3.0"
ANNOTATED = {
    "hub.classify": {PROGRAM: 17_987},
    "hub.seal": {PROGRAM: 1_710_675 - 1_621_216, LIBRARY: 1_621_216},
}
REPEATABLE = 0.001
RECORDED_BYTES_MAX = 200_000

needs_valgrind = pytest.mark.skipif(not shutil.which("valgrind"), reason="needs valgrind")


def rows(*costs: tuple[float, float]) -> list[budget.Row]:
    return [budget.Row(f"hub.{number}", *cost) for number, cost in enumerate(costs)]


def test_a_profile_is_read_as_callgrind_annotate_reads_it() -> None:
    assert callgrind.parse(PROFILE) == ANNOTATED


def test_a_profile_that_does_not_add_up_is_refused() -> None:
    with pytest.raises(HostError, match=r"hub\.classify.*add up"):
        callgrind.parse(PROFILE.replace("totals: 17987", "totals: 17986"))


def test_a_profile_of_other_events_is_refused() -> None:
    with pytest.raises(HostError, match="Ir Dr"):
        callgrind.parse(PROFILE.replace("events: Ir", "events: Ir Dr"))


def test_the_cipher_itself_is_not_budgeted() -> None:
    assert driver.ours(ANNOTATED["hub.seal"]) == 89_459
    assert driver.ours({"/lib/libcrypto.so.3": 5, "/lib/libc.so.6": 3, PROGRAM: 2}) == 5


@pytest.mark.parametrize(
    ("cost", "stored", "beyond", "gain"),
    [
        (100.0, 100.0, False, False),
        (101.9, 100.0, False, False),
        (102.1, 100.0, True, False),
        (98.1, 100.0, False, False),
        (97.9, 100.0, False, True),
        (4.0, 8.0, False, True),
        (5.0, None, False, False),
    ],
)
def test_two_percent_is_the_line(
    cost: float, stored: float | None, beyond: bool, gain: bool
) -> None:
    row = budget.Row("hub.open", cost, stored)
    assert (row.is_beyond, row.is_gain) == (beyond, gain)


@pytest.mark.parametrize(
    ("costs", "status", "words"),
    [
        (rows((100, 100), (101, 100)), 0, ""),
        (rows((100, 100), (103, 100)), 1, "hub.1 takes 3.0 % more"),
        (rows((90, 100), (103, 100)), 1, "hub.1 takes 3.0 % more"),
        (rows((90, 100), (100, 100)), 0, "keep the gain"),
    ],
)
def test_one_stage_beyond_its_budget_is_enough(
    costs: list[budget.Row], status: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert judge(costs, []) == status
    said = capsys.readouterr().err
    assert words in said
    assert bool(said) == bool(words)


CONDITIONS = {"machine": "x86_64", "compiler": "12.2.0", "libc": "2.36", "cpu": "avx2"}
STORED = driver.Count(CONDITIONS, {"hub.open": 179.78, "node.ring": 4.5})


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({}, []),
        ({"compiler": "12.3.1"}, []),
        ({"compiler": "13.1.0"}, ["compiler is 13.1.0 here, the budgets were counted with 12.2.0"]),
        ({"machine": "aarch64"}, ["machine is aarch64 here, the budgets were counted with x86_64"]),
        ({"libc": "2.41"}, ["libc is 2.41 here, the budgets were counted with 2.36"]),
        ({"aead": "libcrypto"}, ["aead is libcrypto here, the budgets were counted with None"]),
    ],
)
def test_budgets_of_another_machine_are_not_compared(
    changed: dict[str, str], words: list[str]
) -> None:
    counted = replace(STORED, conditions=CONDITIONS | changed)
    assert budget.obstacles(counted, STORED) == words
    if words:
        assert judge(budget.rows(counted, STORED), words) == 2


def test_every_stage_needs_a_budget_and_every_budget_a_stage() -> None:
    counted = replace(STORED, instructions={"hub.open": 179.78, "hub.close": 1.0})
    assert budget.obstacles(counted, STORED) == [
        "stage hub.close has no budget",
        "stage node.ring has a budget, but is not counted",
    ]
    assert budget.obstacles(counted, None) == ["there are no budgets yet"]


def test_budgets_come_back_as_they_were_stored(tmp_path: Path) -> None:
    path = tmp_path / "budgets.toml"
    assert budget.load(path) is None
    budget.store(STORED, path)
    assert budget.load(path) == STORED


@pytest.mark.parametrize("way", ["up", "down"])
def test_the_recording_holds_what_a_tunnel_carries(way: str) -> None:
    path = driver.RECORDINGS[way]
    assert path.stat().st_size < RECORDED_BYTES_MAX / 2
    kinds: Counter[str] = Counter()
    with RawPcapReader(str(path)) as reader:
        for data, _ in reader:
            packet = IP(data[10:])
            assert packet.len == len(data) - 10  # whole, behind struct virtio_net_hdr
            if TCP in packet:
                kinds["TCP data" if packet[TCP].payload else "TCP without data"] += 1
            else:
                kinds[f"UDP {packet[UDP].len - 8}" if UDP in packet else "other"] += 1
    assert kinds["TCP data"] >= 10
    assert kinds["TCP without data"] >= 10
    assert kinds["UDP 64"] >= 384
    assert kinds["UDP 1200"] >= 128
    assert kinds["other"] >= 10
    assert sum(count for kind, count in kinds.items() if kind.startswith("UDP")) > 600


@pytest.fixture(scope="module")
def counted() -> driver.Count:
    return driver.count()


@needs_valgrind
def test_counting_again_gives_the_same(counted: driver.Count) -> None:
    again = driver.count()
    assert again.conditions == counted.conditions
    assert again.instructions == pytest.approx(counted.instructions, rel=REPEATABLE)
    assert min(counted.instructions.values()) > 1


@needs_valgrind
def test_every_stored_budget_is_of_a_stage_that_is_counted(counted: driver.Count) -> None:
    stored = budget.load(budget.BUDGETS)
    assert stored
    assert stored.instructions.keys() == counted.instructions.keys()


@needs_valgrind
def test_a_stage_beyond_its_budget_fails_the_command(counted: driver.Count, tmp_path: Path) -> None:
    path = tmp_path / "budgets.toml"
    lower = counted.instructions | {"hub.open": counted.instructions["hub.open"] / 1.03}
    budget.store(replace(counted, instructions=lower), path)
    run = CliRunner().invoke(main, ["--budgets", str(path)])
    assert run.exit_code == 1
    assert "hub.open takes 3.0 % more instructions" in run.output
    assert run.output.count("beyond") == 1


@needs_valgrind
def test_update_stores_what_the_next_count_is_held_to(tmp_path: Path) -> None:
    path = tmp_path / "budgets.toml"
    assert CliRunner().invoke(main, ["--budgets", str(path)]).exit_code == 2
    assert CliRunner().invoke(main, ["--budgets", str(path), "--update"]).exit_code == 0
    run = CliRunner().invoke(main, ["--budgets", str(path), "--json"])
    assert run.exit_code == 0
    stages = json.loads(run.stdout)["stages"]
    assert {abs(stage["change_percent"]) < 0.1 for stage in stages.values()} == {True}


def test_a_machine_without_valgrind_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", os.devnull)
    run = CliRunner().invoke(main)
    assert run.exit_code == 2
    assert "valgrind is not installed" in run.output


@needs_valgrind
def test_a_recording_that_is_damaged_stops_the_driver(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    damaged = tmp_path / "up.pcap.gz"
    content = gzip.decompress(driver.RECORDINGS["up"].read_bytes())
    damaged.write_bytes(gzip.compress(content[:-1]))
    monkeypatch.setitem(driver.RECORDINGS, "up", damaged)
    with pytest.raises(HostError, match="ends within a packet"):
        driver.count()
