"""Watching a running tunnel: live on a terminal, as log lines in a pipe, or as JSON."""

import json as json_text
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from m13.errors import HostError
from m13.telemetry import TelemetryReader
from m13.telemetry_layout import EXITED, Snapshot

LINE_FIELDS = (
    ("RX", "received_packets"),
    ("TX", "sent_packets"),
    ("TUN_R", "tun_read_packets"),
    ("TUN_W", "tun_written_packets"),
    ("AEAD_OK", "aead_ok"),
    ("FAIL", "aead_failed"),
)


def log_line(previous: Snapshot | None, snapshot: Snapshot) -> str:
    """The one-second line: what was counted since `previous`, or ever."""
    now = snapshot["counters"]
    before = previous["counters"] if previous else dict.fromkeys(now, 0)
    counts = " ".join(f"{label}:{now[name] - before[name]}" for label, name in LINE_FIELDS)
    return f"{counts} State:{snapshot['state']} Up:{int(snapshot['up_seconds'])}s"


def run_monitor(
    role: str,
    tun_name: str | None = None,
    json: bool = False,
    once: bool = False,
    interval: float = 1.0,
) -> None:
    """Watch until the tunnel exits or the user does. HostError when there is nothing to watch, or
    `once` shows what a dead process left behind."""
    with TelemetryReader.open(role, tun_name) as reader, _interruptible():
        if not once and not reader.is_alive():
            raise HostError(f"m13-{role} (pid {reader.pid}) has exited: nothing to watch")
        if json:
            _print_each(reader, once, interval, lambda _, now: json_text.dumps(now))
        elif once or not _is_live_terminal():
            _print_each(reader, once, interval, _plain_line)
        else:
            _draw_each(reader, interval)
        if once and not reader.is_alive():
            raise HostError(f"m13-{role} (pid {reader.pid}) has exited: these are its last numbers")
        if not once and not reader.is_alive():
            # Not among the lines of JSON.
            print(f"m13-{role} (pid {reader.pid}) has exited", file=sys.stderr if json else None)


def _print_each(
    reader: TelemetryReader,
    once: bool,
    interval: float,
    format_line: "Callable[[Snapshot | None, Snapshot], str]",
) -> None:
    previous = None
    for snapshot in _snapshots(reader, interval):
        print(format_line(previous, snapshot), flush=True)
        if once:
            return
        previous = snapshot


def _plain_line(previous: Snapshot | None, snapshot: Snapshot) -> str:
    line = f"{time.strftime('%H:%M:%S')} m13.{snapshot['role']} {log_line(previous, snapshot)}"
    return f"{line} ({snapshot['stale']})" if snapshot["stale"] else line


def _draw_each(reader: TelemetryReader, interval: float) -> None:
    # here and not above: a tunnel that starts logs lines of ours, and draws nothing
    from rich.console import Console
    from rich.live import Live

    from m13.monitor_view import draw

    console = Console()
    # The alternate screen leaves the terminal as it was, however we leave.
    with Live(console=console, screen=True, auto_refresh=False) as live:
        previous = None
        for snapshot in _snapshots(reader, interval):
            live.update(draw(previous, snapshot, console), refresh=True)
            previous = snapshot


def _snapshots(reader: TelemetryReader, interval: float) -> Iterator[Snapshot]:
    """One every `interval` seconds, the last one after the process has exited."""
    due = time.monotonic()
    while True:
        snapshot = reader.snapshot()
        yield snapshot
        if snapshot["state"] == EXITED:
            return
        # After a pause (Ctrl-Z) go on from now instead of catching up.
        due = max(due + interval, time.monotonic())
        time.sleep(due - time.monotonic() if due > time.monotonic() else 0)


def _is_live_terminal() -> bool:
    return sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"


@contextmanager
def _interruptible() -> Iterator[None]:
    """Ctrl-C and SIGTERM are how one leaves a monitor: no error, and everything is put back."""

    def leave(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    except KeyboardInterrupt:
        pass
    finally:
        signal.signal(signal.SIGTERM, before)
