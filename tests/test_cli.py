"""The m13 command as a user runs it: output, one error line, exit status, never a traceback."""

import logging
import os
import pty
import stat
import subprocess
import sys
from pathlib import Path

import click
import pytest

from m13 import __version__, log
from m13.cli import run as run_command
from m13.errors import ConfigurationError, HostError, SessionError, UsageError

M13 = [sys.executable, "-m", "m13.cli"]


def m13(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*M13, *arguments], capture_output=True, text=True, timeout=60)


def test_version_and_help() -> None:
    assert m13("--version").stdout == f"m13, version {__version__}\n"
    answer = m13("--help")
    assert answer.returncode == 0
    for word in ("keygen", "fingerprint", "doctor", "Exit status"):
        assert word in answer.stdout


def test_keygen_then_fingerprint_of_either_file(tmp_path: Path) -> None:
    path = tmp_path / "made" / "identity"
    made = m13("keygen", str(path))
    assert made.returncode == 0
    assert made.stdout.startswith("SHA256:")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    for file in (str(path), f"{path}.pub"):
        assert m13("fingerprint", file).stdout == made.stdout


def test_keygen_overwrites_nothing(tmp_path: Path) -> None:
    path = tmp_path / "identity"
    m13("keygen", str(path))
    text = path.read_text()
    again = m13("keygen", str(path))
    assert again.returncode == 3
    assert again.stderr.count("\n") == 1
    assert path.read_text() == text


@pytest.mark.parametrize(
    ("arguments", "status", "complaint"),
    [
        ((), 2, "Missing command (see m13 --help)"),
        (("dance",), 2, "No such command 'dance'"),
        (("doctor", "--colour"), 2, "No such option"),
        (("doctor", "extra"), 2, "(see m13 doctor --help)"),
        (("fingerprint", "/nonexistent/identity"), 3, "no identity at /nonexistent/identity"),
        (("fingerprint", "/"), 2, "is a directory"),
        (("fingerprint", "/dev/zero"), 3, "/dev/zero is not a key file"),
        (("keygen", "/proc/identity"), 3, "cannot write /proc/identity"),
    ],
)
def test_wrong_use_is_one_line_and_a_status(
    arguments: tuple[str, ...], status: int, complaint: str
) -> None:
    answer = m13(*arguments)
    assert answer.returncode == status
    assert answer.stdout == ""
    assert answer.stderr.startswith("m13: error: ")
    assert complaint in answer.stderr
    assert answer.stderr.count("\n") == 1


def test_closed_pipe_is_silent() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    answer = subprocess.run(
        [*M13, "doctor", "--json"], stdout=writing, stderr=subprocess.PIPE, timeout=60
    )
    os.close(writing)
    assert answer.returncode == 141
    assert answer.stderr == b""


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (HostError("no luck"), 1, "prog: error: no luck\n"),
        (UsageError("bad port"), 2, "prog: error: bad port\n"),
        (ConfigurationError("bad\nfile"), 3, "prog: error: bad file\n"),
        (SessionError("nobody there"), 4, "prog: error: nobody there\n"),
        (KeyError("x"), 1, "prog: error: 'x' (M13_DEBUG=1 tells more)\n"),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_every_error_has_its_status(
    error: BaseException,
    status: int,
    line: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    @click.command()
    def command() -> None:
        raise error

    monkeypatch.setattr(sys, "argv", ["prog"])
    assert run_command(command, "prog") == status
    assert capsys.readouterr().err == line


@pytest.mark.parametrize(("on_terminal", "colour"), [(True, b"\x1b[33m"), (False, b"")])
def test_log_lines_are_coloured_on_a_terminal_only(on_terminal: bool, colour: bytes) -> None:
    script = (
        "import logging; from m13 import log; log.setup(); logger = logging.getLogger('m13.hub')\n"
        "logger.info('fine'); logger.warning('careful')"
    )
    reading, writing = pty.openpty() if on_terminal else os.pipe()
    environment = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    subprocess.run([sys.executable, "-c", script], stderr=writing, check=True, env=environment)
    output = os.read(reading, 4096)
    os.close(reading)
    os.close(writing)
    plain, warning = output.splitlines()
    assert plain.endswith(b" m13.hub fine")
    assert plain[2:3] == plain[5:6] == b":"
    assert warning.startswith(colour + plain[:2])
    assert (b"\x1b" in output) == on_terminal


@pytest.mark.parametrize(("debug", "told"), [(None, False), ("", False), ("0", False), ("1", True)])
def test_m13_debug_makes_every_command_tell_more(debug: str | None, told: bool) -> None:
    script = "import logging; from m13 import log; log.setup(); logging.getLogger('m13').debug('x')"
    environment = {name: value for name, value in os.environ.items() if name != "M13_DEBUG"}
    if debug is not None:
        environment["M13_DEBUG"] = debug
    answer = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, env=environment, check=True
    )
    assert (b"m13 x" in answer.stderr) == told


@pytest.mark.parametrize("module", ["m13.cli", "hub.cli", "node.cli"])
def test_what_loads_slowly_is_not_loaded_before_errors_are_caught(module: str) -> None:
    script = f"import sys, {module}; print(*sys.modules)"
    answer = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    assert not {"numpy", "rich", "pyroute2"} & set(answer.stdout.decode().split())


@pytest.mark.parametrize(
    ("module", "words"),
    [
        ("m13.cli", "130 143 M13_DEBUG"),
        (
            "hub.cli",
            "/etc/m13/identity /etc/m13/nodes.toml 130 143 M13_MOCK_CMDLINE M13_RUN_DIR M13_DEBUG",
        ),
        (
            "node.cli",
            "/etc/m13/identity /etc/m13/known_hubs 130 143 (node) M13_RUN_DIR M13_DEBUG",
        ),
    ],
)
def test_help_names_defaults_statuses_and_environment(module: str, words: str) -> None:
    answer = subprocess.run(
        [sys.executable, "-m", module, "--help"], capture_output=True, text=True, timeout=60
    )
    assert answer.returncode == 0
    for word in words.split():
        assert word in " ".join(answer.stdout.split())


def test_a_closed_stdout_is_no_error() -> None:
    script = (
        "import sys, click; from m13.cli import run\n"
        "sys.argv = ['prog']\n"
        "sys.exit(run(click.Command('prog', callback=lambda: 7), 'prog'))"
    )
    answer = subprocess.run(
        ["sh", "-c", '"$0" -c "$1" >&-', sys.executable, script], stderr=subprocess.PIPE, timeout=60
    )
    assert (answer.returncode, answer.stderr) == (7, b"")


def test_log_setup_twice_prints_once() -> None:
    logger = logging.getLogger("m13")
    before = logger.handlers[:], logger.level
    try:
        log.setup()
        log.setup()
        assert len(logger.handlers) == 1
    finally:
        logger.handlers, logger.level = before


def test_a_connecting_node_loads_nothing_slow_before_its_first_packet() -> None:
    script = "import sys, node.app; print(*sys.modules)"
    answer = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    assert not {"numpy", "rich", "pyroute2", "asyncio"} & set(answer.stdout.decode().split())
