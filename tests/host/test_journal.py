"""The journal, with plain files as the things changed."""

import contextlib
import json
import logging
import multiprocessing
import os
import resource
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from m13.errors import HostError
from m13.host import kernel_file
from m13.host.journal import Journal
from tests.host.namespace import Namespace


@pytest.fixture(autouse=True)
def run_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    directory = tmp_path / "run"
    monkeypatch.setenv("M13_RUN_DIR", str(directory))
    return directory


@pytest.fixture
def setting(tmp_path: Path) -> Path:
    path = tmp_path / "setting"
    path.write_text("first\n")
    return path


def _change_and_die(changes: list[tuple[Path, str]], machine_wide: bool = False) -> None:
    """Another process makes the changes and is killed."""

    def run() -> None:
        journal = Journal.open("hub", "m13t0")
        for path, text in changes:
            kernel_file.change(journal, path, text, machine_wide)
        os.kill(os.getpid(), signal.SIGKILL)

    process = multiprocessing.get_context("fork").Process(target=run)
    process.start()
    process.join(10)
    assert process.exitcode == -signal.SIGKILL


def test_changes_are_undone_newest_first(setting: Path, run_directory: Path) -> None:
    with Journal.open("hub", "m13t0") as journal:
        for text in ("second\n", "third\n"):
            kernel_file.change(journal, setting, text, False)
        assert setting.read_text() == "third\n"
    assert setting.read_text() == "first\n"
    assert list(run_directory.iterdir()) == []
    assert run_directory.stat().st_mode & 0o777 == 0o700


@contextlib.contextmanager
def full_at(path: Path) -> Iterator[None]:
    """The file cannot grow, as on a full disk (setrlimit(2), RLIMIT_FSIZE)."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 5, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)


def test_a_full_disk_refuses_changes_and_hinders_no_undoing(
    setting: Path, run_directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    journal = Journal.open("hub", "m13t0")
    for text in ("second\n", "third\n"):
        kernel_file.change(journal, setting, text, False)
    before = journal.path.read_bytes()
    with full_at(journal.path):
        with pytest.raises(HostError, match=r"cannot write .*journal"):
            kernel_file.change(journal, setting, "fourth\n", False)
        assert journal.path.read_bytes() == before
        assert setting.read_text() == "third\n"
        journal.close()
    assert setting.read_text() == "first\n"
    assert list(run_directory.iterdir()) == []
    assert len([r for r in caplog.records if r.levelno >= logging.WARNING]) == 1


def test_a_change_is_on_disk_before_it_is_made(setting: Path, run_directory: Path) -> None:
    with Journal.open("hub", "m13t0") as journal:
        kernel_file.keep(journal, setting, False)
        lines = next(run_directory.iterdir()).read_text().split("\n")
        done = [json.loads(line) for line in lines if '"do"' in line]
        assert [line["facts"]["old"] for line in done] == ["first\n"]


def test_an_error_in_the_block_undoes_and_passes(setting: Path) -> None:
    def fail() -> None:
        with Journal.open("hub", "m13t0") as journal:
            kernel_file.change(journal, setting, "second\n", False)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert setting.read_text() == "first\n"


def test_a_live_owner_is_named() -> None:
    with (
        Journal.open("hub", "m13t0"),
        pytest.raises(HostError, match=f"already running here .pid {os.getpid()}"),
    ):
        Journal.open("hub", "m13t0")


def test_the_same_name_in_other_roles_and_tunnels_is_free() -> None:
    with Journal.open("hub", "m13t0"), Journal.open("node", "m13t0"), Journal.open("hub", "m13t1"):
        pass


def test_the_next_start_undoes_a_killed_run(
    setting: Path, run_directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _change_and_die([(setting, "second\n"), (setting, "third\n")])
    assert setting.read_text() == "third\n"
    with caplog.at_level(logging.WARNING), Journal.open("hub", "m13t0"):
        assert setting.read_text() == "first\n"
    assert [r.message for r in caplog.records] == ["restored 2 changes left by a previous run"]
    assert list(run_directory.iterdir()) == []


@pytest.mark.parametrize("tail", ['{"do": 7, "kind": "kernel_fi', "\0\0\0", "[1]\n", "null"])
def test_a_torn_line_is_ignored(setting: Path, run_directory: Path, tail: str) -> None:
    _change_and_die([(setting, "second\n")])
    path = next(run_directory.iterdir())
    path.write_text(path.read_text() + tail)
    with Journal.open("hub", "m13t0") as journal:
        assert setting.read_text() == "first\n"
        kernel_file.change(journal, setting, "fourth\n", False)
    assert setting.read_text() == "first\n"


def test_a_reboot_makes_entries_meaningless(setting: Path, run_directory: Path) -> None:
    _change_and_die([(setting, "second\n")])
    path = next(run_directory.iterdir())
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    path.write_text(path.read_text().replace(boot, "another"))
    with Journal.open("hub", "m13t0"):
        assert setting.read_text() == "second\n"


def test_a_namespace_with_a_reused_inode_is_not_taken_for_the_old_one(
    setting: Path, run_directory: Path
) -> None:
    _change_and_die([(setting, "second\n")])
    path = next(run_directory.iterdir())
    lines = [json.loads(line) for line in path.read_text().splitlines() if line]
    path.write_text("".join(json.dumps({**x, "namespace": "00"}) + "\n" for x in lines))
    with Journal.open("hub", "m13t0"):
        assert setting.read_text() == "second\n"


@pytest.mark.parametrize(("machine_wide", "after"), [(True, "first\n"), (False, "second\n")])
def test_only_machine_wide_changes_are_undone_from_another_namespace(
    setting: Path, run_directory: Path, machine_wide: bool, after: str
) -> None:
    with Namespace(run_directory) as other:
        change = f"kernel_file.change(journal, Path({str(setting)!r}), 'second', {machine_wide})"
        imports = "from pathlib import Path\nfrom m13.host import kernel_file\n"
        other.kill(other.owner(imports + change))
    assert setting.read_text() == "second"
    with Journal.open("hub", "m13t0"):
        assert setting.read_text().strip() == after.strip()


@pytest.mark.parametrize("first_to_leave", [0, 1])
@pytest.mark.parametrize("second_value", ["wanted\n", "more\n"])
def test_what_two_runs_need_stays_until_the_last_leaves(
    setting: Path, first_to_leave: int, second_value: str
) -> None:
    runs = [Journal.open("hub", "m13t0"), Journal.open("hub", "m13t1")]
    kernel_file.change(runs[0], setting, "wanted\n", False)
    kernel_file.change(runs[1], setting, second_value, False)
    runs.pop(first_to_leave).close()
    assert setting.read_text() == second_value
    runs.pop().close()
    assert setting.read_text() == "first\n"


def test_what_cannot_be_undone_stays_for_the_next_start(
    setting: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with Journal.open("hub", "m13t0") as journal:
        kernel_file.change(journal, setting, "second\n", False)
        setting.unlink()
        setting.mkdir()
    assert "cannot undo kernel_file" in caplog.text
    setting.rmdir()
    setting.write_text("second\n")
    with Journal.open("hub", "m13t0"):
        assert setting.read_text() == "first\n"


def test_a_change_undone_early_is_not_undone_twice(setting: Path) -> None:
    with Journal.open("hub", "m13t0") as journal:
        token = kernel_file.keep(journal, setting, False)
        setting.write_text("second\n")
        assert journal.undo(token)
        setting.write_text("of somebody else\n")
        assert journal.undo(token)
    assert setting.read_text() == "of somebody else\n"


def test_a_directory_that_cannot_be_made_is_one_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("M13_RUN_DIR", str(tmp_path / "file" / "run"))
    with pytest.raises(HostError, match="cannot keep a journal in"):
        Journal.open("hub", "m13t0")
