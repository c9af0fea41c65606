"""What SIGHUP means: read settings again, or the end when the terminal is gone."""

import os
import signal
import subprocess
import sys
import time

PROGRAM = """
import sys
from m13.service import Service
reloads = 0
def reload():
    global reloads
    reloads += 1
    print("reloaded", reloads, flush=True)
with Service() as service:
    service.on_hangup(reload)
    service.every(20, service.stop)  # so that a mistake does not run for ever
    print("ready", flush=True)
    service.run()
print("ended", flush=True)
"""


def start(**options: object) -> subprocess.Popen:
    command = [sys.executable, "-c", PROGRAM]
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        **options,  # type: ignore[call-overload]
    )


def test_without_a_terminal_hangups_reload_and_terminate_ends() -> None:
    with start() as program:
        assert program.stdout.readline() == "ready\n"
        for number in (1, 2):
            program.send_signal(signal.SIGHUP)
            assert program.stdout.readline() == f"reloaded {number}\n"
        program.send_signal(signal.SIGTERM)
        assert program.stdout.read() == "ended\n"
        assert program.wait(5) == 0


def test_on_a_terminal_a_hangup_reloads_until_the_terminal_is_gone() -> None:
    terminal, line = os.openpty()
    name = os.ttyname(line)
    # the leader of a session gets the terminal that it opens
    take = lambda: os.close(os.open(name, os.O_RDWR))  # noqa: E731
    with start(stdin=line, preexec_fn=take) as program:
        os.close(line)
        assert program.stdout.readline() == "ready\n"
        program.send_signal(signal.SIGHUP)
        assert program.stdout.readline() == "reloaded 1\n"
        os.close(terminal)  # the kernel sends the signal
        assert program.stdout.read() == "ended\n"
        assert program.wait(5) == 0


def test_a_hangup_before_there_is_a_handler_is_kept_for_it() -> None:
    early = PROGRAM.replace(
        "    service.on_hangup",
        "    import os, signal\n    os.kill(os.getpid(), signal.SIGHUP)\n    service.on_hangup",
    )
    command = [sys.executable, "-c", early]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as program:
        begin = time.monotonic()
        assert program.stdout.readline() == "ready\n"
        assert program.stdout.readline() == "reloaded 1\n"
        assert time.monotonic() - begin < 10
        program.send_signal(signal.SIGTERM)
        assert program.wait(5) == 0
