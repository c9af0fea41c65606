"""Real pages in /dev/shm, written by C as the datapath writes them and read back by name."""

import ctypes
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from m13 import telemetry
from m13.errors import HostError
from m13.identity import format_fingerprint
from m13.telemetry import TelemetryPage, TelemetryReader
from native import stats
from tests.telemetry_page import cell, set_peer, whole

CORE = Path(stats.__file__).parents[0] / "core"
NAMESPACE = os.stat("/proc/self/ns/net").st_ino

# What a worker, a TUN thread and their control process would write.
WRITER = """
#include <string.h>
#include "stats.h"
void fill(struct m13_stats_page *page, uint64_t now_ns)
{
    struct m13_stats_writer *worker = &page->writers[M13_WRITER_WORKER];
    struct m13_stats_writer *tun = &page->writers[M13_WRITER_TUN];
    struct m13_stats_peer *peer = &page->peers[M13_STATS_PEERS - 1];

    page->state = M13_STATE_Established;
    page->tick_ns = now_ns;
    page->first_frame_ns = now_ns - 7000000000ull;
    page->session_up_ns = now_ns - 6988000000ull;
    m13_stats_add(worker, M13_STAT_received_packets, 70);
    m13_stats_add(tun, M13_STAT_received_packets, 7);
    m13_stats_add(tun, M13_STAT_sleeps, 3);
    m13_stats_drop(worker, M13_DROP_outer_header);
    m13_stats_drop(tun, M13_DROP_shutdown);
    m13_stats_gauge(worker, M13_GAUGE_slab_free, 8191);
    m13_stats_gauge(tun, M13_GAUGE_peers_pending, 2);
    m13_stats_stage(worker, M13_STAGE_transmit, 1000, 64);
    peer->state = M13_STATE_Handshaking;
    peer->port = 4433;
    memcpy(peer->address, "\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\xff\\xff\\xc0\\x00\\x02\\x01", 16);
    memcpy(peer->tunnel_address, "\\x0a\\x0d\\x00\\x02", 4);
    peer->handshake_version = 2;
    peer->key_phase = 1;
    peer->received_packets = 1;
    peer->received_bytes = 2;
    peer->sent_packets = 3;
    peer->sent_bytes = 4;
    peer->rtt_us = 6;
    peer->loss_per_million = 7;
    peer->lost_frames = 8;
    peer->missing_frames = 9;
    peer->path_mtu_bytes = 1280;
    peer->last_heard_ns = now_ns - 500000000ull;
    peer->handshakes = 5;
    memset(peer->fingerprint, 0xff, 32);
    strcpy(peer->name, "kria-1");
}
"""


@pytest.fixture
def directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="m13-test-", dir="/dev/shm") as name:
        yield Path(name)


@pytest.fixture(scope="module")
def writer(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    target = tmp_path_factory.mktemp("writer") / "writer.so"
    subprocess.run(
        ["gcc", "-shared", "-fPIC", "-iquote", str(CORE), "-x", "c", "-", "-o", str(target)],
        input=WRITER.encode(),
        check=True,
    )
    return ctypes.CDLL(str(target))


def start_owner(directory: Path, tun_name: str) -> subprocess.Popen:
    script = (
        "import sys, time; from pathlib import Path; from m13.telemetry import TelemetryPage\n"
        "page = TelemetryPage.create('hub', sys.argv[2], Path(sys.argv[1]))\n"
        "print('ready', flush=True); time.sleep(60)"
    )
    owner = subprocess.Popen(
        [sys.executable, "-c", script, str(directory), tun_name], stdout=subprocess.PIPE
    )
    assert owner.stdout is not None
    assert owner.stdout.readline() == b"ready\n"
    owner.stdout.close()
    return owner


def kill(owner: subprocess.Popen) -> None:
    owner.send_signal(signal.SIGKILL)
    owner.wait()


def test_what_c_writes_is_read_by_name(directory: Path, writer: ctypes.CDLL) -> None:
    with (
        TelemetryPage.create("node", "m13tun0", directory) as page,
        TelemetryReader.open("node", "m13tun0", directory) as reader,
    ):
        writer.fill(ctypes.c_void_p(page.address), ctypes.c_uint64(time.monotonic_ns()))
        snapshot = json.loads(json.dumps(reader.snapshot()))

    assert snapshot["role"] == "node"
    assert snapshot["pid"] == os.getpid()
    assert snapshot["stale"] is None
    assert snapshot["state"] == "Established"
    assert snapshot["up_seconds"] == pytest.approx(6.988, abs=0.5)
    assert snapshot["session_setup_ms"] == 12.0
    counted = {name: count for name, count in snapshot["counters"].items() if count}
    assert counted == {"received_packets": 77, "sleeps": 3}
    assert snapshot["writers"]["worker"]["received_packets"] == 70
    assert snapshot["writers"]["tun"]["received_packets"] == 7
    dropped = {name: count for name, count in snapshot["drops"].items() if count}
    assert dropped == {"outer_header": 1, "shutdown": 1}
    gauged = {name: value for name, value in snapshot["gauges"].items() if value}
    assert gauged == {"slab_free": 8191, "peers_pending": 2}
    stage = {"cycles": 1000, "packets": 64, "cycles_per_packet": 15.6}
    assert snapshot["stages"]["transmit"] == stage
    assert snapshot["stages"]["parse"]["cycles_per_packet"] == 0

    (peer,) = snapshot["peers"]
    assert peer.pop("last_heard_seconds") == pytest.approx(0.5, abs=0.4)
    assert peer == {
        "slot": stats.PEER_COUNT - 1,
        "generation": 0,
        "name": "kria-1",
        "state": "Handshaking",
        "endpoint": "192.0.2.1:4433",
        "tunnel_address": "10.13.0.2",
        "path_mtu_bytes": 1280,
        "received_packets": 1,
        "received_bytes": 2,
        "sent_packets": 3,
        "sent_bytes": 4,
        "rtt_us": 6,
        "loss_per_million": 7,
        "lost_frames": 8,
        "missing_frames": 9,
        "session_age_seconds": None,
        "fingerprint": "SHA256:" + "/" * 42 + "8",
        "handshake_version": 2,
        "key_phase": 1,
        "handshakes": 5,
    }


def test_every_name_of_the_c_lists_is_in_a_snapshot(directory: Path) -> None:
    with (
        TelemetryPage.create("hub", "t0", directory) as page,
        TelemetryReader(page.path) as reader,
    ):
        snapshot = reader.snapshot()
    for group, key in (("counter", "counters"), ("drop", "drops"), ("gauge", "gauges")):
        assert list(snapshot[key]) == [f.name for f in stats.FIELDS if f.group == group]


def test_fields_are_text_and_numbers_and_text_is_cut_to_fit(directory: Path) -> None:
    with TelemetryPage.create("hub", "t0", directory) as page:
        page.fields["interface_name"] = "eth0"
        page.fields["keepalive_ms"] = 100
        page.fields["receive_mode"] = "x" * 99
        assert page.fields.text("interface_name") == "eth0"
        assert page.fields["keepalive_ms"] == 100
        with TelemetryReader.open("hub", directory=directory) as reader:
            snapshot = reader.snapshot()
    assert snapshot["interface"] == "eth0"
    assert snapshot["receive_mode"] == "x" * 31


def test_page_is_private_and_gone_after_close_twice(directory: Path) -> None:
    page = TelemetryPage.create("hub", "t0", directory)
    assert page.path.name == f"m13.hub.t0.{NAMESPACE}"
    assert page.path.stat().st_mode & 0o137 == 0
    page.close()
    page.close()
    assert list(directory.iterdir()) == []


@pytest.mark.parametrize("role", ["hub", "node"])
def test_what_the_owner_reads_every_second_is_what_a_snapshot_says(
    directory: Path, role: str
) -> None:
    with TelemetryPage.create(role, "t0", directory) as page:
        memory = whole(page.address)
        page.fields["state"] = 2
        page.fields["session_up_ns"] = time.monotonic_ns() - 7_000_000_000
        cell(memory, "counter", "loops", writer=3).value = 1 << 63
        cell(memory, "gauge", "peers_established").value = 3
        for slot in (0, 7, stats.PEER_COUNT - 1):
            since = slot and time.monotonic_ns() - 5_000_000_000
            set_peer(memory, slot, state=3, generation=slot + 1, name=b"node", established_ns=since)
        set_peer(memory, 7, fingerprint=bytes(range(32)))
        with TelemetryReader(page.path) as reader:
            snapshot, glance, sessions = reader.snapshot(), reader.glance(), reader.sessions()
    assert [session["slot"] for session in sessions] == [0, 7, stats.PEER_COUNT - 1]
    assert glance["up_seconds"] == pytest.approx(snapshot.pop("up_seconds"), abs=1)
    for session, peer in zip(sessions, snapshot["peers"], strict=True):
        ages = session.pop("session_age_seconds"), peer["session_age_seconds"]
        assert ages == (None, None) or ages[0] == pytest.approx(ages[1], abs=1)
        key = session.pop("fingerprint")
        assert (key and format_fingerprint(key)) == peer["fingerprint"]
        assert session.items() <= peer.items()
    assert snapshot["peers"][1]["fingerprint"]
    del glance["up_seconds"]
    assert glance.items() <= snapshot.items()
    assert snapshot["state"] == ("Established" if role == "hub" else "Handshaking")
    assert snapshot["counters"]["loops"] == 1 << 63


def test_no_descriptor_is_left(directory: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with TelemetryPage.create("hub", "t0", directory):
        for _ in range(3):
            TelemetryReader.open("hub", directory=directory).close()
            with pytest.raises(HostError):
                TelemetryPage.create("hub", "t0", directory)
    with pytest.raises(HostError):
        TelemetryReader.open("hub", directory=directory)
    assert len(os.listdir("/proc/self/fd")) == before


def test_living_owner_is_refused_and_a_killed_one_replaced(directory: Path) -> None:
    owner = start_owner(directory, "t0")
    with TelemetryReader.open("hub", "t0", directory) as reader:
        try:
            assert reader.is_alive()
            with pytest.raises(HostError, match=rf"running process \(pid {owner.pid}\)"):
                TelemetryPage.create("hub", "t0", directory)
        finally:
            kill(owner)
        assert not reader.is_alive()
        assert reader.snapshot()["stale"] == "the process has exited"
        assert reader.snapshot()["state"] == "Exited"
        with TelemetryPage.create("hub", "t0", directory):
            assert not reader.is_alive()  # what it reads is the old page still
            with TelemetryReader.open("hub", "t0", directory) as other:
                assert other.pid == os.getpid()


def test_page_without_a_tick_for_seconds_is_stale(directory: Path) -> None:
    with TelemetryPage.create("hub", "t0", directory) as page:
        page.fields["tick_ns"] = time.monotonic_ns() - 5_000_000_000
        with TelemetryReader(page.path) as reader:
            snapshot = reader.snapshot()
    assert snapshot["stale"] == "no sign of life for 5 s"


@pytest.mark.parametrize(
    ("field", "value", "complaint"),
    [
        ("magic", 1, "is not a telemetry page"),
        ("version", stats.VERSION + 1, f"has layout {stats.VERSION + 1}"),
        ("page_bytes", 4096, r"\(4096 bytes\)"),
    ],
)
def test_page_of_another_build_is_refused(
    directory: Path, field: str, value: int, complaint: str
) -> None:
    with TelemetryPage.create("hub", "t0", directory) as page:
        page.fields[field] = value
        with pytest.raises(HostError, match=complaint):
            TelemetryReader.open("hub", directory=directory)


@pytest.mark.parametrize(
    ("size", "complaint"), [(0, "not a telemetry page"), (4096, "is cut short")]
)
def test_short_page_is_refused_instead_of_a_bus_error(
    directory: Path, size: int, complaint: str
) -> None:
    with TelemetryPage.create("hub", "t0", directory) as page:
        os.truncate(page.path, size)
        with pytest.raises(HostError, match=complaint):
            TelemetryReader.open("hub", directory=directory)


def test_one_of_several_is_chosen_by_tun(directory: Path) -> None:
    with (
        TelemetryPage.create("hub", "t0", directory),
        TelemetryPage.create("hub", "t.1", directory),
    ):
        pid = os.getpid()
        with pytest.raises(
            HostError, match=rf"here: choose one with --tun-name \(t\.1: pid {pid}, t0: pid"
        ):
            TelemetryReader.open("hub", directory=directory)
        with TelemetryReader.open("hub", "t.1", directory) as reader:
            assert reader.snapshot()["tun"] == "t.1"
        with pytest.raises(HostError, match="no m13-node is running"):
            TelemetryReader.open("node", directory=directory)


def test_own_namespace_is_preferred_even_when_only_a_dead_page_is_there(directory: Path) -> None:
    elsewhere = directory / "m13.hub.t1.1"
    with TelemetryPage.create("hub", "t1", directory) as other:
        other.path.rename(elsewhere)
        with (
            TelemetryPage.create("hub", "t0", directory),
            TelemetryReader.open("hub", directory=directory) as reader,
        ):
            assert reader.snapshot()["tun"] == "t0"
        with TelemetryReader.open("hub", directory=directory) as reader:
            assert reader.path == elsewhere
        kill(start_owner(directory, "t2"))
        with TelemetryReader.open("hub", directory=directory) as reader:
            assert reader.snapshot()["tun"] == "t2"
            assert not reader.is_alive()
        with (
            TelemetryPage.create("hub", "t0", directory),
            TelemetryReader.open("hub", directory=directory) as reader,
        ):
            assert reader.snapshot()["tun"] == "t0"


def test_several_elsewhere_are_named_with_their_pids(directory: Path) -> None:
    owners = [start_owner(directory, "t0")]
    try:
        (directory / f"m13.hub.t0.{NAMESPACE}").rename(directory / "m13.hub.t0.1")
        owners.append(start_owner(directory, "t0"))
        (directory / f"m13.hub.t0.{NAMESPACE}").rename(directory / "m13.hub.t0.2")
        pids = rf"\(t0: pid {owners[0].pid}, t0: pid {owners[1].pid}\)"
        with pytest.raises(HostError, match=rf"in other network namespaces.* {pids}"):
            TelemetryReader.open("hub", "t0", directory)
    finally:
        for owner in owners:
            kill(owner)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to make a file of another user")
def test_file_of_another_user_neither_blocks_nor_is_read(directory: Path) -> None:
    squatter = directory / f"m13.hub.t0.{NAMESPACE}"
    squatter.write_bytes(b"M13")
    os.chown(squatter, 65534, 65534)
    with pytest.raises(HostError, match="no m13-hub is running"):
        TelemetryReader.open("hub", directory=directory)
    with TelemetryPage.create("hub", "t0", directory) as page:
        assert page.path.stat().st_uid == 0


def test_a_start_sweeps_pages_long_dead_and_no_others(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead = directory / "m13.node.t9.77"
    foreign = directory / "something.else"
    dead.touch()
    foreign.touch()
    with TelemetryPage.create("hub", "t0", directory):
        assert dead.exists()
    monkeypatch.setattr(telemetry, "SWEEP_SECONDS", -1)
    with (
        TelemetryPage.create("hub", "t0", directory) as living,
        TelemetryPage.create("hub", "t1", directory),
    ):
        assert living.path.exists()
        assert foreign.exists()
        assert not dead.exists()
