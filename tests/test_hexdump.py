"""Which frames are dumped, by the real C, and what is shown of them."""

import ctypes
import subprocess
from pathlib import Path

import pytest

from m13 import hexdump
from native import event, stats

NATIVE = Path(stats.__file__).parent

DRIVER = """
#include "path.h"
static struct m13_path path = {.event_fd = -1};
int open_path(void) { return m13_ring_init(&path.events, 1024, sizeof(struct m13_event)); }
/* How many of `count` frames at that moment are dumped. */
unsigned offer(uint64_t now_ns, unsigned count, int sent)
{
    static struct m13_wire_frame frame;
    unsigned before = m13_ring_count(&path.events);
    path.now_ns = now_ns;
    for (unsigned i = 0; i < count; i++)
        m13_report_frame(&path, NULL, &frame, sizeof frame, sent);
    return m13_ring_count(&path.events) - before;
}
"""
SECOND = 1_000_000_000
RECEIVED, SENT = 0, 1


@pytest.fixture
def offer(tmp_path: Path):
    target = tmp_path / "report.so"
    sources = [NATIVE / "path" / "report.c", NATIVE / "core" / "ring.c"]
    folders = [part for name in ("path", "core") for part in ("-iquote", str(NATIVE / name))]
    command = ["gcc", "-shared", "-fPIC", "-O1", "-mavx2", "-maes", *folders]
    subprocess.run(
        [*command, *map(str, sources), "-x", "c", "-", "-o", str(target)],
        input=DRIVER.encode(),
        check=True,
    )
    library = ctypes.CDLL(str(target))
    assert library.open_path() == 0
    library.offer.argtypes = [ctypes.c_uint64, ctypes.c_uint, ctypes.c_int]
    return library.offer


def test_burst_of_twenty_then_twenty_a_second(offer) -> None:
    now = 1000 * SECOND
    assert offer(now, 100, RECEIVED) == 20
    assert offer(now, 100, RECEIVED) == 0
    assert offer(now + SECOND // 2, 100, RECEIVED) == 10
    assert offer(now + 60 * SECOND, 100, RECEIVED) == 20  # quiet minutes save nothing up


def test_flood_received_does_not_hide_what_is_sent(offer) -> None:
    now = 1000 * SECOND
    for step in range(100):
        offer(now + step * SECOND // 100, 1000, RECEIVED)
    assert offer(now + SECOND, 1, SENT) == 1


def frame_event(frame: bytes, frame_bytes: int) -> event.Event:
    fields = dict.fromkeys(event.Event._fields, 0) | {
        "kind": event.FRAME,
        "detail": 1,
        "address": bytes(10) + b"\xff\xff\xc0\0\2\1",
        "port": 443,
        "frame_bytes": frame_bytes,
        "dump": frame,
    }
    return event.Event(**fields)


def test_what_is_not_dumped_is_counted() -> None:
    lines = hexdump.describe(frame_event(bytes(96), 1414))
    assert lines[0].startswith("1414 B sent to 192.0.2.1:443: clear, registration")
    assert len(lines) == 1 + 96 // 16 + 1
    assert lines[-1] == "  … 1318 more bytes"


@pytest.mark.parametrize("size", [62, 96])
def test_whole_frame_has_no_such_line(size: int) -> None:
    assert "more bytes" not in "".join(hexdump.describe(frame_event(bytes(size), size)))
