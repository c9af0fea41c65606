"""Measuring in a network namespace of our own, made by a child process and gone with it.

Whoever may not make one makes a user namespace too, where the kernel allows that.
"""

import contextlib
import ctypes
import json
import os
import select
import signal
import socket
import time
from collections.abc import Callable, Iterator
from typing import NoReturn

from m13.bench.figure import Figure, Omission, Result
from m13.doctor_finding import has_capability
from m13.errors import HostError
from m13.host import link

CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000
CAP_SYS_ADMIN = 21
PR_SET_PDEATHSIG = 1
READ_BYTES = 65536

Work = Callable[[], Iterator[Result]]


def figures(work: Work, timeout_s: float) -> Iterator[Result]:
    """What `work` yields in a child process in an empty namespace, as it comes. HostError when the
    child can have no namespace, fails, or takes longer than timeout_s."""
    reader, writer = os.pipe()
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        _be_child(parent, work, writer)
    os.close(writer)
    try:
        for line in _lines(reader, time.monotonic() + timeout_s):
            yield _unpack(line)
    finally:
        # After its last line the child has nothing to do but exit; earlier it is not wanted.
        os.close(reader)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def _be_child(parent: int, work: Work, writer: int) -> NoReturn:
    """Never returns into the caller's frames: their clean-up is the parent's."""
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent hears it, and ends us
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        with os.fdopen(writer, "w", encoding="utf-8", buffering=1) as pipe:
            try:
                _enter(libc)
                for result in work():
                    pipe.write(json.dumps([type(result).__name__, *result]) + "\n")
            except Exception as error:
                text = str(error) or type(error).__name__
                pipe.write(json.dumps(["failure", text]) + "\n")
    finally:
        os._exit(0)


def _enter(libc: ctypes.CDLL) -> None:
    may = has_capability(CAP_SYS_ADMIN)
    flags = CLONE_NEWNET if may else CLONE_NEWUSER | CLONE_NEWNET
    if libc.unshare(flags):
        reason = os.strerror(ctypes.get_errno())
        raise HostError(f"no network namespace of our own ({reason})")
    link.set_up(socket.if_nametoindex("lo"))


def _lines(reader: int, until: float) -> Iterator[str]:
    rest = b""
    while True:
        left = until - time.monotonic()
        if left <= 0 or not select.select([reader], [], [], left)[0]:
            raise HostError("measuring in a namespace of our own takes too long: left out")
        data = os.read(reader, READ_BYTES)
        if not data:
            return
        *lines, rest = (rest + data).split(b"\n")
        yield from (line.decode() for line in lines)


def _unpack(line: str) -> Result:
    kind, *values = json.loads(line)
    if kind == "failure":
        raise HostError(values[0])
    return Figure(*values) if kind == "Figure" else Omission(*values)
