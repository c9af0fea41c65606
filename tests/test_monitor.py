"""The monitor in each of its forms, watching a real page of another process."""

import contextlib
import fcntl
import json
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator

import pytest
from rich.console import Console

from m13.errors import HostError
from m13.monitor import _snapshots, log_line, run_monitor
from m13.monitor_view import age, draw, human
from m13.telemetry import TelemetryReader

TUN = f"mon{os.getpid()}"
INTERVAL = 0.1

OWNER = """
import sys, time
from m13.telemetry import TelemetryPage
from tests.telemetry_page import cell, set_peer, whole
with TelemetryPage.create("hub", sys.argv[1]) as page:
    memory = whole(page.address)
    page.fields["state"] = 3
    cell(memory, "gauge", "peers_established").value = 40
    for slot in range(40):
        set_peer(memory, slot, state=3)
    set_peer(memory, 0, name=b"[red]kria")
    page.fields["interface_name"] = "eth7"
    print("ready", flush=True)
    received = cell(memory, "counter", "received_packets")
    replayed = cell(memory, "drop", "replay")
    end = time.monotonic() + 30
    while time.monotonic() < end:
        page.fields["tick_ns"] = time.monotonic_ns()
        received.value += 10
        replayed.value += 1
        time.sleep(0.02)
"""
MONITOR = f"from m13.monitor import run_monitor; run_monitor('hub', {TUN!r}, interval={INTERVAL}"


@contextlib.contextmanager
def owner() -> Iterator[subprocess.Popen]:
    process = subprocess.Popen([sys.executable, "-c", OWNER, TUN], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        yield process
    finally:
        process.send_signal(signal.SIGINT)
        process.wait()
        process.stdout.close()


def start_monitor(arguments: str = "", **options: object) -> subprocess.Popen:
    command = [sys.executable, "-c", f"{MONITOR}{arguments})"]
    return subprocess.Popen(command, text=True, **options)  # type: ignore[call-overload]


def watched_until_it_exits(arguments: str = "") -> tuple[int, list[str], str]:
    """Status, lines and errors of a monitor whose process exits after the third line."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with owner() as process, start_monitor(arguments, **pipes) as monitor:
        lines = []
        for line in monitor.stdout:
            lines.append(line)
            if len(lines) == 3:
                process.send_signal(signal.SIGINT)
        errors = monitor.stderr.read()
    return monitor.returncode, lines, errors


def test_json_is_one_object_a_line_until_the_process_exits() -> None:
    status, lines, errors = watched_until_it_exits(", json=True")
    snapshots = [json.loads(line) for line in lines]
    assert len(snapshots) > 3
    received = [snapshot["counters"]["received_packets"] for snapshot in snapshots]
    assert received == sorted(received)
    assert received[-1] > received[0]
    assert snapshots[0]["stale"] is None
    assert snapshots[-1]["stale"] == "the process has exited"
    assert status == 0
    assert errors.endswith("has exited\n")


def test_a_process_that_exits_while_a_snapshot_is_looked_at_gets_a_last_one() -> None:
    with owner() as process, TelemetryReader.open("hub", TUN) as reader:
        snapshots = _snapshots(reader, 0.01)
        assert next(snapshots)["stale"] is None
        process.kill()
        process.wait()
        assert [snapshot["stale"] for snapshot in snapshots] == ["the process has exited"]


def test_pipe_gets_plain_log_lines() -> None:
    _, lines, _ = watched_until_it_exits()
    assert lines[-1].startswith("m13-hub (pid ")
    assert len(lines) > 3
    for line in lines[:-1]:
        assert " m13.hub RX:" in line
        assert (" State:Exited Up:" if "has exited" in line else " State:Established Up:") in line
        assert "\x1b" not in line


@pytest.mark.parametrize("arguments", [", once=True", ", once=True, json=True"])
def test_once_is_one_line(arguments: str) -> None:
    with owner():
        monitor = start_monitor(arguments, stdout=subprocess.PIPE)
        output, _ = monitor.communicate(timeout=20)
    assert output.count("\n") == 1
    assert monitor.returncode == 0


def test_nothing_running_is_one_clear_error() -> None:
    with pytest.raises(HostError, match=f"no m13-hub with TUN {TUN} is running"):
        run_monitor("hub", TUN, once=True)


def test_page_of_a_killed_process_is_not_watched_but_can_be_looked_at() -> None:
    with owner() as process:
        process.kill()
        process.wait()
        with TelemetryReader.open("hub", TUN) as reader:
            path = reader.path
        try:
            with pytest.raises(HostError, match=rf"\(pid {process.pid}\) has exited"):
                run_monitor("hub", TUN)
            shown = []
            for arguments in ("--once", "--once --json"):
                command = [sys.executable, "-m", "hub.cli", "--monitor", "--tun-name", TUN]
                monitor = subprocess.run(
                    [*command, *arguments.split()], capture_output=True, text=True, timeout=20
                )
                assert monitor.returncode == 1
                assert monitor.stderr.startswith("m13-hub: error: m13-hub (pid ")
                shown.append(monitor.stdout)
            assert " State:Exited Up:" in shown[0]
            assert shown[0].endswith("(the process has exited)\n")
            assert json.loads(shown[1])["state"] == "Exited"
        finally:
            path.unlink()


def take_terminal() -> None:
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


@pytest.mark.parametrize("leave", ["Ctrl-C", "SIGTERM", "process exits"])
def test_live_view_draws_and_restores_the_terminal(leave: str) -> None:
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    before = termios.tcgetattr(slave)
    with owner() as process:
        monitor = start_monitor(
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            preexec_fn=take_terminal,
            env={**os.environ, "TERM": "xterm-256color"},
        )
        drawn = read_until(master, b"[red]kria")
        if leave == "Ctrl-C":
            os.write(master, b"\x03")
        elif leave == "SIGTERM":
            monitor.terminate()
        else:
            process.send_signal(signal.SIGINT)
        rest = read_until(master, b"\x1b[?25h")
        assert monitor.wait(timeout=20) == 0
        rest += read_waiting(master)
    after = termios.tcgetattr(slave)
    os.close(slave)
    os.close(master)

    assert b"\x1b[?1049h" in drawn
    for text in (b"m13-hub", b"Established", b"eth7", b"replay", b"[red]kria"):
        assert text in drawn + rest
    assert rest.rfind(b"\x1b[?1049l") > rest.rfind(b"\x1b[?1049h")
    assert b"Traceback" not in rest
    assert (b"has exited" in rest) == (leave == "process exits")
    assert before == after


def read_until(descriptor: int, what: bytes) -> bytes:
    data = b""
    end = time.monotonic() + 20
    while what not in data and time.monotonic() < end:
        data += read_waiting(descriptor)
    assert what in data, data
    return data


def read_waiting(descriptor: int) -> bytes:
    readable, _, _ = select.select([descriptor], [], [], 0.2)
    return os.read(descriptor, 65536) if readable else b""


@pytest.mark.parametrize(("width", "height"), [(80, 24), (200, 60), (40, 10)])
def test_view_fits_its_terminal_but_for_the_smallest(width: int, height: int) -> None:
    with owner(), TelemetryReader.open("hub", TUN) as reader:
        first, second = reader.snapshot(), reader.snapshot()
    console = Console(width=width, height=height, force_terminal=True)
    lines = console.render_lines(draw(first, second, console), pad=False)
    assert len(lines) <= height or height < 24
    assert "more" in "".join(segment.text for line in lines for segment in line)


def test_nothing_worth_reading_is_cut_on_a_small_terminal() -> None:
    with owner(), TelemetryReader.open("hub", TUN) as reader:
        snapshot = reader.snapshot()
    busy = json.loads(json.dumps(snapshot))
    busy["sampled_ns"] += 1_000_000_000
    busy["drops"] = dict.fromkeys(busy["drops"], 12_345)
    for name in ("ring_to_tun", "fill_outstanding", "tun_outstanding"):
        busy["gauges"][name] = 8192
    busy["counters"] = dict.fromkeys(busy["counters"], 123_456_789)
    busy["peers"][0] |= {"name": "kria-1", "endpoint": "198.51.100.200:65535"}
    busy["peers"][0] |= {"received_bytes": 999_900_000, "sent_bytes": 123_456}
    console = Console(width=80, height=24, force_terminal=True)
    drawn = console.render_lines(draw(snapshot, busy, console), pad=False)
    lines = ["".join(segment.text for segment in line) for line in drawn]
    text = "\n".join(lines)
    assert max(map(len, lines)) <= 80
    assert len(lines) <= 24
    assert "…" not in text
    for word in (
        *("packets", "per s", "bit/s", "total", "from network", "did not verify"),
        *("dropped", "now", "frames and queues", "count", "123M", "12.3k", "more"),
        *("name", "state", "endpoint", "heard", "kria-1", "Established"),
        *("198.51.100.200:65535", "1.0GB", "123kB"),
    ):
        assert word in text, word


def test_wide_terminal_has_every_column() -> None:
    with owner(), TelemetryReader.open("hub", TUN) as reader:
        snapshot = reader.snapshot()
    snapshot["drops"]["replay"] = 1
    snapshot["peers"][0] |= {"rtt_us": 12_345, "loss_per_million": 15_000}
    console = Console(width=100, height=40, force_terminal=True)
    drawn = console.render_lines(draw(None, snapshot, console), pad=False)
    text = "".join(segment.text for line in drawn for segment in line)
    for word in ("reason", "tunnel", "session", "cycles/packet", "endpoint", "12.3 ms", "1.5 %"):
        assert word in text, word


def test_log_line_counts_since_the_previous_snapshot() -> None:
    names = (
        "received_packets",
        "sent_packets",
        "tun_read_packets",
        "tun_written_packets",
        "aead_ok",
        "aead_failed",
    )
    first = {"counters": {name: 10 * i for i, name in enumerate(names)}}
    second = {
        "counters": {name: 11 * i for i, name in enumerate(names)},
        "state": "Handshaking",
        "up_seconds": 61.9,
    }
    line = "RX:0 TX:1 TUN_R:2 TUN_W:3 AEAD_OK:4 FAIL:5 State:Handshaking Up:61s"
    assert log_line(first, second) == line
    ever = "RX:0 TX:11 TUN_R:22 TUN_W:33 AEAD_OK:44 FAIL:55 State:Handshaking Up:61s"
    assert log_line(None, second) == ever


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0"),
        (999, "999"),
        (999.9, "1.0k"),
        (1000, "1.0k"),
        (12_345, "12.3k"),
        (123_456, "123k"),
        (999_900, "1.0M"),
        (1_500_000_000, "1.5G"),
        (5e15, "5000T"),
    ],
)
def test_human_numbers(number: float, text: str) -> None:
    assert human(number) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "never"),
        (0.04, "0.0 s"),
        (9.96, "10.0 s"),
        (61, "1:01"),
        (3661, "1:01:01"),
        (90_000, "1 d 01 h"),
    ],
)
def test_ages(seconds: float | None, text: str) -> None:
    assert age(seconds) == text
