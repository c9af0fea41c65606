"""A child that is a copy of this process: its pipes, what it does not inherit, and its end."""

import os
import signal
import subprocess
import threading
import time

import pytest

from m13.forked import Forked, may_fork


def speaks(text):
    def run():
        os.write(1, text().encode() + b"\n")
        os.read(0, 1)
        return 7

    return run


def open_descriptors():
    return " ".join(sorted(os.listdir("/proc/self/fd"), key=int))


def ask(text, keep=()):
    """What the child says, and its exit status after its standard input ended."""
    child = Forked(speaks(text), keep)
    line = child.stdout.readline().decode().strip()
    child.stdin.close()
    status = child.wait(5)
    child.stdout.close()
    return line, status


def test_output_comes_back_and_the_end_of_input_is_seen():
    assert ask(lambda: "hello") == ("hello", 7)


def test_only_what_is_kept_is_inherited():
    kept, other = os.open("/dev/null", os.O_RDONLY), os.open("/dev/null", os.O_RDONLY)
    try:
        found = set(ask(open_descriptors, {kept})[0].split())
    finally:
        os.close(kept)
        os.close(other)
    # one more while it lists them
    assert {"0", "1", "2", str(kept)} < found
    assert len(found) == 5
    assert str(other) not in found or str(other) == max(found - {"0", "1", "2", str(kept)})


def test_it_is_a_session_of_its_own_with_default_signals():
    before = signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        line, _ = ask(lambda: f"{os.getsid(0) == os.getpid()} {signal.getsignal(signal.SIGTERM)}")
    finally:
        signal.signal(signal.SIGTERM, before)
    assert line == "True 0"


def test_what_the_child_raises_does_not_return_into_the_parents_code(capfd):
    def fail():
        raise ValueError("no")

    child = Forked(fail, ())
    assert child.wait(5) == 1
    child.stdin.close()
    child.stdout.close()
    assert "ValueError: no" in capfd.readouterr().err


def test_kill_and_the_status_that_tells_of_it():
    child = Forked(speaks(lambda: "here"), ())
    child.stdout.readline()
    assert child.poll() is None
    with pytest.raises(subprocess.TimeoutExpired):
        child.wait(0.01)
    child.kill()
    assert child.wait(5) == -signal.SIGKILL
    child.kill()  # of a dead one: nothing
    child.stdin.close()
    child.stdout.close()


def test_a_process_with_threads_is_not_copied():
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait)
    thread.start()
    try:
        assert not may_fork()
    finally:
        stop.set()
        thread.join()
    until = time.monotonic() + 5
    while len(os.listdir("/proc/self/task")) > 1 and time.monotonic() < until:
        time.sleep(0.01)
    assert may_fork() == (len(os.listdir("/proc/self/task")) == 1)
