"""The control socket: who may ask, what becomes of bad questions, and that it never waits."""

import contextlib
import itertools
import json
import os
import socket
import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from m13 import control
from m13.control import ControlSocket, ask, short_name
from m13.errors import ConfigurationError, HostError, M13Error
from m13.service import Service

TURN_S = 0.02


def refuse(_: object) -> dict[str, Any]:
    raise ConfigurationError("nodes.toml: line 3: no")


COMMANDS = {
    "echo": lambda request: {"said": request.get("what")},
    "long": lambda request: {"text": "x" * request["bytes"]},
    "refuse": refuse,
    "break": lambda _: {}["nothing"],
}


@contextlib.contextmanager
def serving(path: Path) -> Iterator[list[float]]:
    """A service in this process, and when each turn of a timer of it came."""
    turns: list[float] = []
    with Service() as service:
        service.every(TURN_S, lambda: turns.append(time.monotonic()))
        with ControlSocket(service, path, COMMANDS):
            loop = threading.Thread(target=service.run)
            loop.start()
            try:
                yield turns
            finally:
                service.stop()
                loop.join()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "hub-m13tun0-1.sock"


def connect(path: Path) -> socket.socket:
    client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with short_name(path) as name:
        client.connect(name)  # blocking: with a timeout, a queue that is full is an error at once
    client.settimeout(10)
    return client


def test_a_question_is_answered_and_the_socket_is_gone_afterwards(path: Path) -> None:
    with serving(path):
        assert ask(path, "echo", what="höre") == {"said": "höre"}
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert len(ask(path, "long", bytes=300_000)["text"]) == 300_000
    assert not path.exists()
    with pytest.raises(HostError, match="nothing runs at"):
        ask(path, "echo")


def test_a_path_longer_than_an_address_serves_as_well(tmp_path: Path) -> None:
    folder = tmp_path / ("d" * 100)
    folder.mkdir()
    with serving(folder / "hub-m13tun0-1.sock"):
        assert ask(folder / "hub-m13tun0-1.sock", "echo", what=1) == {"said": 1}


def test_what_a_killed_one_left_is_replaced(path: Path) -> None:
    left = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    left.bind(str(path))
    left.close()
    with pytest.raises(HostError, match="does not answer: Connection refused"):
        ask(path, "echo")
    with serving(path):
        assert ask(path, "echo", what=2) == {"said": 2}


def test_an_error_comes_back_with_its_exit_status(path: Path) -> None:
    with serving(path):
        with pytest.raises(M13Error, match=r"nodes\.toml: line 3: no") as caught:
            ask(path, "refuse")
        assert caught.value.exit_status == 3
        with pytest.raises(M13Error, match="internal error: KeyError"):
            ask(path, "break")
        with pytest.raises(M13Error, match="too long"):
            ask(path, "long", bytes=control.ANSWER_BYTES_MAX)
        assert ask(path, "echo", what=3) == {"said": 3}


BAD_LINES = [
    b"\n",
    b"null\n",
    b"[]\n",
    b'"echo"\n',
    b'{"command": []}\n',
    b'{"command": "none"}\n',
    b"\xff\xfe\n",
    b"[" * 4000 + b"\n",
    b'{"command": "echo", "what": NaN\n',
]


@pytest.mark.parametrize("line", BAD_LINES, ids=lambda line: repr(line[:20]))
def test_a_bad_question_gets_one_line_that_says_what_is_known(path: Path, line: bytes) -> None:
    with serving(path), connect(path) as client:
        client.sendall(line)
        answer = json.loads(client.makefile().readline())
        assert answer["status"] == 2
        assert "break, echo, long, refuse" in answer["error"]


def test_a_question_without_end_is_hung_up_on(path: Path) -> None:
    with serving(path), connect(path) as client:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for _ in range(100):
                client.sendall(b"x" * 1000)
        with contextlib.suppress(ConnectionResetError):
            assert client.recv(1) == b""
        assert ask(path, "echo", what=4) == {"said": 4}


def test_a_question_in_pieces_is_one_question(path: Path) -> None:
    with serving(path), connect(path) as client:
        for byte in b'{"command": "echo", "what": 5}\n':
            client.sendall(bytes([byte]))
        assert json.loads(client.makefile().readline()) == {"said": 5}


def test_silent_and_greedy_clients_make_nobody_wait(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "CLIENT_SECONDS", 0.2)
    with serving(path) as turns, contextlib.ExitStack() as stack:
        # as many as there may be, who say nothing, and more who find no place
        silent = [stack.enter_context(connect(path)) for _ in range(control.CLIENTS_MAX + 4)]
        time.sleep(0.1)
        assert silent[-1].recv(1) == b""
        until = time.monotonic() + 5
        while True:  # until the first are hung up on
            with contextlib.suppress(M13Error):
                assert ask(path, "echo", what=6) == {"said": 6}
                break
            assert time.monotonic() < until
        greedy = stack.enter_context(connect(path))
        greedy.sendall(b'{"command": "long", "bytes": 1000000}\n')  # and reads nothing
        time.sleep(0.2)
        assert ask(path, "echo", what=7) == {"said": 7}
    gaps = [after - before for before, after in itertools.pairwise(turns)]
    assert len(gaps) > 10
    assert max(gaps) < 1  # none of them was waited for: the shortest wait of a client is longer


def test_another_user_is_not_answered(path: Path, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    with serving(path):
        path.chmod(0o666)  # even if the mode let him
        tmp_path.chmod(0o777)
        child = os.fork()
        if child == 0:
            status = 1
            with contextlib.suppress(BaseException):
                descriptor = os.open(tmp_path, os.O_PATH)
                os.setresuid(65534, 65534, 65534)
                client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
                client.settimeout(5)
                client.connect(f"/proc/self/fd/{descriptor}/{path.name}")
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    client.sendall(b'{"command": "echo"}\n')
                    status = 0 if client.recv(100) == b"" else 2
                    os._exit(status)
                status = 0
            os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
