"""`m13 bench` on this machine: what it prints, what it leaves out, and that it leaves nothing."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from scapy.layers.inet import IP, TCP, UDP

from m13.bench import scratch, view
from m13.bench.figure import Figure, Omission, Result, quantiles
from m13.bench.packet import VIRTIO_HEADER, shapes
from m13.errors import HostError

BENCH = [sys.executable, "-m", "m13.cli", "bench"]
QUICK = [*BENCH, "--seconds", "1"]
root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
COMMON_FIGURES = {
    *(f"aead.libcrypto.{verb}.{size}" for verb in ("seal", "open") for size in (64, 512, 1400)),
    *("copy.64", "copy.1400", "wakeup.near"),
}
NAMESPACE_FIGURES = {
    *(f"tun.{verb}.{size}" for verb in ("read", "write") for size in ("large", "1400", "64")),
    *(
        f"udp.{verb}.{kind}.{size}"
        for verb in ("send", "receive")
        for kind in ("train", "single")
        for size in (1400, 64)
    ),
    *("udp.send.cut.1400", "udp.send.cut.64", "xdp.send.1400", "xdp.send.64"),
}


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def check_schema(report: dict[str, Any]) -> None:
    assert set(report) == {
        *("machine", "seconds", "others_cores", "stolen_cores", "figures", "left_out"),
        *("limits", "tunnel", "verdict"),
    }
    for figure in report["figures"]:
        assert figure["ns"] > 0
        assert figure["per_second"] == pytest.approx(1e9 / figure["ns"])
        if figure["bytes"]:
            gbit = figure["per_second"] * figure["bytes"] * 8 / 1e9
            assert figure["gbit_per_second"] == pytest.approx(gbit)
        else:
            assert figure["gbit_per_second"] is None
    for omission in report["left_out"]:
        assert all(omission[word] for word in ("what", "why", "mend"))
    for limit in report["limits"]:
        assert limit["ns"] == pytest.approx(sum(limit["steps"].values()))
        assert limit["steps"][limit["step"]] == max(limit["steps"].values())
        assert 0 < limit["share"] <= 1
        assert limit["hint"]
    assert {limit["case"] for limit in report["limits"]} <= {
        remark["case"] for remark in report["verdict"]
    }


def keys_of(report: dict[str, Any]) -> set[str]:
    return {figure["key"] for figure in report["figures"]}


@pytest.fixture(scope="module")
def measured() -> dict[str, Any]:
    answer = run(*QUICK, "--json")
    assert (answer.returncode, answer.stderr) == (0, "")
    return json.loads(answer.stdout)


def test_json_has_figures_limits_and_verdict(measured: dict[str, Any]) -> None:
    check_schema(measured)
    assert keys_of(measured) >= COMMON_FIGURES
    assert measured["machine"]["cores"] == len(os.sched_getaffinity(0))
    assert measured["machine"]["kernel"] == os.uname().release
    assert "latency" in {limit["case"] for limit in measured["limits"]}


@root
def test_root_sees_everything_but_the_tunnel(measured: dict[str, Any]) -> None:
    assert keys_of(measured) >= NAMESPACE_FIGURES
    assert {limit["case"] for limit in measured["limits"]} == {
        *("large packets, out", "large packets, in", "small packets, out", "small packets, in"),
        "latency",
    }
    assert all(not limit["missing"] for limit in measured["limits"])


def test_ordinary_user_measures_what_he_may_and_hears_the_rest() -> None:
    # Everything is imported first: the interpreter may be where only root can read.
    script = (
        "import contextlib, io, os, sys\n"
        "from m13.bench.run import run_bench\n"
        "with contextlib.redirect_stdout(io.StringIO()): run_bench(None, 0.5, False)\n"
        "if os.geteuid() == 0: os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "sys.exit(run_bench(None, 1.0, True))"
    )
    answer = run(sys.executable, "-c", script)
    assert (answer.returncode, answer.stderr) == (0, "")
    report = json.loads(answer.stdout)
    check_schema(report)
    assert keys_of(report) >= COMMON_FIGURES
    left_out = {omission["what"] for omission in report["left_out"]}
    lacking = NAMESPACE_FIGURES - keys_of(report)
    assert not lacking or left_out & {"TUN", "AF_XDP", "TUN, UDP and AF_XDP"}


def test_without_a_namespace_the_rest_is_measured() -> None:
    # a user namespace of our own that admits no network namespace
    shell = 'echo 0 >/proc/sys/user/max_net_namespaces && exec "$@"'
    own = ("unshare", "--user", "--map-root-user", "--fork", "sh", "-c", shell, "sh")
    if run(*own, "true").returncode != 0:
        pytest.skip("no user namespaces here")
    report = json.loads(run(*own, *BENCH, "--seconds", "0.5", "--json").stdout)
    check_schema(report)
    assert keys_of(report) >= COMMON_FIGURES
    assert not keys_of(report) & NAMESPACE_FIGURES
    told = {omission["what"]: omission for omission in report["left_out"]}["TUN, UDP and AF_XDP"]
    assert "no network namespace of our own" in told["why"]
    assert told["mend"] == "sudo m13 bench"


def test_pipe_gets_aligned_plain_text_and_a_verdict() -> None:
    answer = run(*QUICK)
    assert (answer.returncode, answer.stderr) == (0, "")
    assert "\x1b" not in answer.stdout
    lines = answer.stdout.splitlines()
    figures = lines[2 : lines.index("")]
    heading = lines[1]
    ends = [heading.index(word) + len(word) for word in ("time", "per s")]
    for line in figures:
        if line.startswith("left out: "):
            continue
        assert all(line[end - 1] != " " and line[end : end + 1] in ("", " ") for end in ends), line
    verdict = lines[lines.index("what limits this machine") :]
    assert any(line.startswith("latency") for line in verdict)
    assert sum(line.lstrip().startswith("hint: ") for line in verdict) >= 1


@pytest.mark.parametrize(("columns", "has_rates"), [(80, False), (120, True)])
def test_terminal_gets_bars_and_a_line_for_each_figure(columns: int, has_rates: bool) -> None:
    script = "import pty, sys; sys.exit(pty.spawn(sys.argv[1:]) >> 8)"
    answer = run("env", f"COLUMNS={columns}", sys.executable, "-c", script, *QUICK)
    assert answer.returncode == 0
    assert "what limits this machine" in answer.stdout
    lines = [line for line in answer.stdout.splitlines() if "seal 1400 B, libcrypto" in line]
    drawn = [line for line in lines if "█" in line]  # the others told how far it was
    assert len(drawn) == 1
    assert " ns" in drawn[0] or " µs" in drawn[0]
    assert ("per s" in answer.stdout) == has_rates


@root
def test_nothing_on_the_machine_changes() -> None:
    def machine() -> list[str]:
        commands = ("ip -o link", "ip -o addr", "ip route", "nft list ruleset")
        return [line for command in commands for line in run(*command.split()).stdout.splitlines()]

    before = machine()
    assert run(*QUICK).returncode == 0
    assert machine() == before


def children(pid: int) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == pid and fields[0] != "Z":
            found.append(int(path.parent.name))
    return found


def wait_until(condition: Any, seconds: float = 30) -> Any:
    until = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < until
        time.sleep(0.01)
    return found


@pytest.mark.parametrize(
    ("number", "status"),
    [(signal.SIGINT, 130), (signal.SIGTERM, -signal.SIGTERM), (signal.SIGKILL, -signal.SIGKILL)],
)
def test_ended_in_the_middle_it_leaves_no_child(number: int, status: int) -> None:
    started = subprocess.Popen(
        [*BENCH, "--seconds", "8"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        # a shell without job control has what it puts in the background ignore Ctrl-C
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    child = wait_until(lambda: children(started.pid))[0]
    started.send_signal(number)
    complaint = started.communicate(timeout=20)[1]
    assert started.returncode == status
    assert complaint == ""
    wait_until(lambda: not Path(f"/proc/{child}/ns/net").exists() or is_dead(child), 10)


def is_dead(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


@pytest.mark.parametrize(
    ("arguments", "status", "complaint"),
    [
        (("--seconds", "0"), 2, "seconds"),
        (("--seconds", "1e9"), 2, "seconds"),
        (("--hub", "nowhere.invalid:443"), 2, "cannot find hub 'nowhere.invalid'"),
        (("--hub", "::1"), 2, "IPv6"),
    ],
)
def test_bad_arguments_are_one_line(
    arguments: tuple[str, ...], status: int, complaint: str
) -> None:
    answer = run(*BENCH, "--seconds", "0.5", *arguments)
    assert answer.returncode == status
    assert answer.stderr.startswith("m13: error: ")
    assert complaint in answer.stderr
    assert answer.stderr.count("\n") == 1


def test_bad_hub_is_refused_before_anything_is_measured() -> None:
    begun = time.monotonic()
    answer = run(*BENCH, "--seconds", "60", "--hub", "nowhere.invalid")
    assert answer.returncode == 2
    assert time.monotonic() - begun < 30


def test_without_a_tunnel_it_says_how_to_start_one() -> None:
    answer = run(*BENCH, "--seconds", "0.5", "--json", "--hub", "192.0.2.77:443")
    report = json.loads(answer.stdout)
    assert report["tunnel"] is None
    told = {omission["what"]: omission for omission in report["left_out"]}["tunnel"]
    assert "192.0.2.77:443" in told["why"] or "namespace" in told["why"]
    assert "m13" in told["mend"]


# --- the namespace of its own ----------------------------------------------------------------


def test_work_is_done_in_another_namespace() -> None:
    def work() -> Iterator[Result]:
        yield Figure("inode", "", "", os.stat("/proc/self/ns/net").st_ino)
        yield Omission("a", "b", "c")

    ours = os.stat("/proc/self/ns/net").st_ino
    figure, omission = scratch.figures(work, 20)
    assert isinstance(figure, Figure)
    assert figure.ns != ours
    assert omission == Omission("a", "b", "c")
    assert os.stat("/proc/self/ns/net").st_ino == ours


def test_work_that_fails_tells_why_after_what_it_found() -> None:
    def work() -> Iterator[Result]:
        yield Omission("a", "b", "c")
        raise ValueError("no more")

    results = scratch.figures(work, 20)
    assert next(results) == Omission("a", "b", "c")
    with pytest.raises(HostError, match="no more"):
        next(results)


def test_work_that_hangs_is_ended() -> None:
    def work() -> Iterator[Result]:
        time.sleep(60)
        yield Omission("a", "b", "c")

    before = children(os.getpid())  # a database that other tests use may be one
    with pytest.raises(HostError, match="too long"):
        next(scratch.figures(work, 0.2))
    assert children(os.getpid()) == before


# --- packets, numbers ------------------------------------------------------------------------


@pytest.mark.parametrize("shape", shapes(True), ids=lambda shape: shape.key)
def test_shapes_are_packets_to_others_too(shape: Any) -> None:
    flags, gso, header_bytes, segment, start, offset = VIRTIO_HEADER.unpack_from(shape.message)
    packet = IP(shape.message[VIRTIO_HEADER.size :])
    assert packet.len == len(shape.message) - VIRTIO_HEADER.size
    fresh = packet.copy()
    del fresh.chksum
    assert IP(bytes(fresh)).chksum == packet.chksum
    layer = packet[TCP] if packet.proto == 6 else packet[UDP]
    if gso:
        payload = packet.len - header_bytes
        assert (flags, start, offset) == (1, 20, 16 if packet.proto == 6 else 6)
        assert payload == shape.packets * segment
        assert header_bytes + segment == shape.packet_bytes
    else:
        assert (shape.packets, shape.packet_bytes) == (1, packet.len)
    if packet.proto == 17:
        assert layer.len == packet.len - 20


@pytest.mark.parametrize(
    ("samples", "median", "p99"),
    [([5.0], 5, 5), ([3, 1, 2], 2, 3), (list(range(100)), 50, 99), (list(range(1000)), 500, 990)],
)
def test_quantiles(samples: list[float], median: float, p99: float) -> None:
    figure = quantiles("key", "group", "label", samples)
    assert (figure.ns, figure.p99_ns) == (median, p99)


def test_no_samples_have_no_quantiles() -> None:
    with pytest.raises(ValueError, match="no samples"):
        quantiles("key", "group", "label", [])


@pytest.mark.parametrize(
    ("ns", "text"),
    [(0.44, "0.4 ns"), (99.94, "99.9 ns"), (99.96, "100 ns"), (999.4, "999 ns"),
     (999.6, "1.0 µs"), (23_200, "23.2 µs"), (999_600, "1.0 ms"), (3_500_000, "3.5 ms")],
)  # fmt: skip
def test_durations_have_three_digits(ns: float, text: str) -> None:
    assert view.duration(ns) == text


@pytest.mark.parametrize(
    ("per_second", "text"),
    [(1, "1.0"), (999, "999"), (999.6, "1.0k"), (30_400_000, "30.4M"), (2.36e9, "2.4G")],
)
def test_rates_are_short(per_second: float, text: str) -> None:
    assert view.rate(per_second) == text


@pytest.mark.parametrize(
    ("share", "drawn"),
    [(0, ""), (-1, ""), (0.5, "██"), (1, "████"), (2, "████"), (1 / 32, "▏"), (9 / 32, "█▏")],
)
def test_bars_are_drawn_in_eighths(share: float, drawn: str) -> None:
    assert view.bar(share, 4) == drawn
