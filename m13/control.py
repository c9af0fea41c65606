"""The local control socket of a running hub or node: questions and orders from the operator.

An AF_UNIX stream socket in the run directory, mode 0600, for root and the user that runs it. A
client sends one line, a JSON object with "command", and gets one line back: what the command
answers, or {"error": ..., "status": exit status}. Nothing here waits: a client that is slow to ask
is hung up on, and one that is slow to read gets no more than the kernel holds for it.
"""

import contextlib
import json
import logging
import os
import socket
import struct
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from m13.errors import HostError, M13Error
from m13.host.journal import run_directory
from m13.service import Service

log = logging.getLogger("m13")
REQUEST_BYTES_MAX = 4096
ANSWER_BYTES_MAX = 1 << 20  # 256 nodes with all there is to say of each, several times over
CLIENTS_MAX = 8
CLIENT_SECONDS = 2.0
MODE = 0o600
SO_SNDBUFFORCE = 32  # asm-generic/socket.h

Command = Callable[[dict[str, Any]], dict[str, Any]]


def socket_path(role: str, tun_name: str, namespace_inode: int | str) -> Path:
    """One for each that may run, as its journal and its telemetry page."""
    return run_directory() / f"{role}-{tun_name}-{namespace_inode}.sock"


@contextlib.contextmanager
def short_name(path: Path) -> Any:
    """A name of `path` that fits an AF_UNIX address (108 bytes, unix(7)) wherever it is."""
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)


class ControlSocket:
    """With `with`, after the journal was opened: its lock makes us the only owner of the path."""

    def __init__(self, service: Service, path: Path, commands: dict[str, Command]) -> None:
        self.path = path
        self._service, self._commands = service, commands
        self._clients: dict[socket.socket, tuple[bytes, float]] = {}  # what it said, until when

    def __enter__(self) -> Self:
        self._socket = socket.socket(
            socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
        )
        try:
            # of a killed one, or of another kind of thing
            self.path.unlink(missing_ok=True)
            # the file is made with the socket's own mode: nobody else gets a moment at it
            os.fchmod(self._socket.fileno(), MODE)
            with short_name(self.path) as name:
                self._socket.bind(name)
            self._socket.listen(CLIENTS_MAX)
        except OSError as error:
            self._socket.close()
            raise HostError(f"no control socket at {self.path}: {error.strerror}") from error
        self._service.on_readable(self._socket, self._accept)
        self._service.every(1.0, self._hang_up_on_slow_ones)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for client in list(self._clients):
            self._hang_up(client)
        self._service.ignore(self._socket)
        self._socket.close()
        self.path.unlink(missing_ok=True)

    def _accept(self) -> None:
        try:
            client, _ = self._socket.accept()
        except OSError:
            return  # it left, or we have no descriptor for it
        client.setblocking(False)
        if len(self._clients) >= CLIENTS_MAX or not _may_ask(client):
            client.close()
            return
        self._clients[client] = (b"", time.monotonic() + CLIENT_SECONDS)
        self._service.on_readable(client, lambda: self._read(client))

    def _read(self, client: socket.socket) -> None:
        said, until = self._clients[client]
        try:
            data = client.recv(REQUEST_BYTES_MAX)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        line, end, _ = (said + data).partition(b"\n")
        if end and len(line) < REQUEST_BYTES_MAX:
            self._answer(client, line)
        if end or not data or len(line) >= REQUEST_BYTES_MAX:
            self._hang_up(client)
        else:
            self._clients[client] = (line, until)

    def _answer(self, client: socket.socket, line: bytes) -> None:
        text = json.dumps(self._obey(line)).encode() + b"\n"
        if len(text) > ANSWER_BYTES_MAX:
            text = json.dumps({"error": "the answer is too long", "status": 1}).encode() + b"\n"
        with contextlib.suppress(OSError):
            client.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, 2 * len(text))
        with contextlib.suppress(OSError):
            client.send(text)  # what the kernel does not take, a client misses and sees cut short

    def _obey(self, line: bytes) -> dict[str, Any]:
        try:
            request = json.loads(line)
            command = self._commands[request["command"]]
        except (ValueError, TypeError, KeyError, RecursionError):
            known = ", ".join(sorted(self._commands))
            return {"error": f"no such command here; known are {known}", "status": 2}
        try:
            return command(request)
        except M13Error as error:
            return {"error": str(error), "status": error.exit_status}
        except Exception as error:
            # a question must not end a running tunnel
            log.error("control command %s failed: %s", request["command"], error, exc_info=True)
            return {"error": f"internal error: {type(error).__name__}", "status": 1}

    def _hang_up(self, client: socket.socket) -> None:
        del self._clients[client]
        self._service.ignore(client)
        client.close()

    def _hang_up_on_slow_ones(self) -> None:
        now = time.monotonic()
        for client in [one for one, (_, until) in self._clients.items() if now > until]:
            self._hang_up(client)


def _may_ask(client: socket.socket) -> bool:
    """Root, or who runs us: the mode says so already, but a descriptor can be handed on."""
    credentials = client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    _, user, _ = struct.unpack("3i", credentials)
    return user in (0, os.geteuid())


def ask(path: Path, command: str, **fields: object) -> dict[str, Any]:
    """One question to a running hub or node; its answer. HostError when it does not answer, or
    the M13Error that it answers with."""
    request = json.dumps({"command": command, **fields}).encode() + b"\n"
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as asker:
            asker.settimeout(10.0)
            with short_name(path) as name:
                asker.connect(name)
            asker.sendall(request)
            answer = _read_line(asker)
    except FileNotFoundError as error:
        raise HostError(f"nothing runs at {path} (M13_RUN_DIR names another place)") from error
    except OSError as error:
        reason = error.strerror or "no answer"
        raise HostError(f"{path} does not answer: {reason} (ask as root)") from error
    if "error" in answer:
        failure = M13Error(str(answer["error"]))
        failure.exit_status = int(answer.get("status", 1))
        raise failure
    return answer


def _read_line(asker: socket.socket) -> dict[str, Any]:
    text = b""
    while not text.endswith(b"\n") and len(text) <= ANSWER_BYTES_MAX:
        data = asker.recv(1 << 16)
        if not data:
            break
        text += data
    try:
        answer = json.loads(text)
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        raise HostError("the answer was cut short: ask again")
    return answer
