"""A child process that begins as a copy of this one: what is imported here it need not import."""

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Collection
from typing import NoReturn

STANDARD_ERROR, FIRST_FREE = 2, 3
POLL_S = 0.002


def may_fork() -> bool:
    """Only a process with one thread can be copied: another one's locks would stay held."""
    return len(os.listdir("/proc/self/task")) == 1


class Forked:
    """The part of subprocess.Popen that its users here need. RUN becomes the child's whole life:
    pipes are its standard input and output, of the rest it has KEEP and standard error, and it is
    a session of its own with default signal handling."""

    def __init__(self, run: Callable[[], int], keep: Collection[int]) -> None:
        inner_read, outer_write = os.pipe()
        outer_read, inner_write = os.pipe()
        if sys.stdout:  # None when we were started with it closed
            sys.stdout.flush()
        self.returncode: int | None = None
        self.pid = os.fork()
        if self.pid == 0:
            _live(run, inner_read, inner_write, {*keep, STANDARD_ERROR})
        os.close(inner_read)
        os.close(inner_write)
        # buffering, as a configuration larger than a pipe is not written at once
        self.stdin = os.fdopen(outer_write, "wb")
        self.stdout = os.fdopen(outer_read, "rb")

    def poll(self) -> int | None:
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        until = None if timeout is None else time.monotonic() + timeout
        while (status := self.poll()) is None:
            if timeout is not None and until is not None and time.monotonic() > until:
                raise subprocess.TimeoutExpired("worker", timeout)
            time.sleep(POLL_S)
        return status

    def kill(self) -> None:
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)


def _live(run: Callable[[], int], reads: int, writes: int, keep: set[int]) -> NoReturn:
    """Never returns into what the parent was doing: its clean-up is not ours."""
    status = 1
    try:
        signal.set_wakeup_fd(-1)
        for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
            if signal.getsignal(number) not in (signal.SIG_DFL, None):
                signal.signal(number, signal.SIG_DFL)
        os.setsid()
        # out of the way first: where standard descriptors were closed, a pipe may have their number
        reads, writes = (fcntl.fcntl(end, fcntl.F_DUPFD, FIRST_FREE) for end in (reads, writes))
        os.dup2(reads, 0)
        os.dup2(writes, 1)
        for entry in os.listdir("/proc/self/fd"):
            if int(entry) > 1 and int(entry) not in keep:
                with contextlib.suppress(OSError):
                    os.close(int(entry))
        status = run()
    except BaseException:
        os.write(STANDARD_ERROR, traceback.format_exc().encode(errors="replace"))
    finally:
        os._exit(status)
