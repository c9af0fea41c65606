"""What breaks around a hub or a node: it goes on, or ends with one clear line, and leaks nothing.

node up0 192.0.2.2 ─── 192.0.2.1 wan0 hub net0 198.51.100.1 ─── 198.51.100.2 internet
"""

import contextlib
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from bench import measure
from bench.bed import HUB_ADDRESS, HUB_ADDRESS6, INTERNET_ADDRESS, NODE_ADDRESS6, Bed
from bench.namespace import DIRECTORY, Namespace
from bench.traffic import ping
from bench.tunnel import Keys, Program, start_hub, start_node, tunnel_address
from m13.host import wakefulness
from tests.netns.conftest import assert_all_frames_accounted, laid_out
from tests.netns.flow import Flow
from tests.netns.victim import handshake_worker

NODE = tunnel_address("node")
RECOVERY_S = 15
SIDES = pytest.mark.parametrize("side", ["hub", "node"])


@dataclass(frozen=True)
class Pair:
    bed: Bed
    keys: Keys
    hub: Program
    node: Program
    rx: str

    def program(self, side: str) -> Program:
        return self.hub if side == "hub" else self.node

    def namespace(self, side: str) -> Namespace:
        return self.bed.hub if side == "hub" else self.bed.node


@pytest.fixture
def pair(keys: Keys, rx: str) -> Iterator[Pair]:
    for bed in laid_out(Bed()):
        hub = start_hub(bed, keys, "--rx", rx)
        node = start_node(bed, keys)
        descriptors = [count_descriptors(program) for program in (hub, node)]
        yield Pair(bed, keys, hub, node, rx)
        for program, before in zip((hub, node), descriptors, strict=True):
            assert count_descriptors(program) <= before, program.role
        assert (node.stop(), hub.stop()) == (0, 0), node.log + hub.log
        assert_all_frames_accounted(hub)
        assert "Traceback" not in node.log


def count_descriptors(program: Program) -> int:
    """But the wish for wakeful cores, which is held or not as packets flow."""
    count = 0
    for entry in Path(f"/proc/{program.process.pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            count += os.readlink(entry) != wakefulness.DEVICE
    return count


def wait_ping(bed: Bed) -> None:
    until = time.monotonic() + RECOVERY_S
    while not ping(bed.node, INTERNET_ADDRESS, wait_s=0.2):
        assert time.monotonic() < until, "the tunnel did not come back"


# --- links ----------------------------------------------------------------------------------------


def link_down(pair: Pair, side: str) -> None:
    interface = pair.bed.hub_interface if side == "hub" else pair.bed.node_interface
    pair.namespace(side).set_up(interface, False)


def link_up(pair: Pair, side: str) -> None:
    """And what its kernel forgot meanwhile: a manager of networks would put it back as well."""
    bed = pair.bed
    if side == "hub":
        bed.hub.set_up(bed.hub_interface)
        bed.hub.address(bed.hub_interface, f"{HUB_ADDRESS6}/64")
    else:
        bed.node.set_up(bed.node_interface)
        bed.node.route("default", HUB_ADDRESS)
        bed.node.address(bed.node_interface, f"{NODE_ADDRESS6}/64")
        bed.node.route("::/0", HUB_ADDRESS6)


@SIDES
def test_a_link_that_goes_down_and_up_ends_nothing(pair: Pair, side: str) -> None:
    bed = pair.bed
    with (
        Flow(bed.node, bed.internet, INTERNET_ADDRESS) as up,
        Flow(bed.internet, bed.node, NODE) as down,
    ):
        for _ in range(3):
            time.sleep(0.3)
            link_down(pair, side)
            time.sleep(0.3)
            link_up(pair, side)
        wait_ping(bed)
        counts = len(up.arrived), len(down.arrived)
        time.sleep(0.5)
    assert len(up.arrived) > counts[0]
    assert len(down.arrived) > counts[1]
    for program in (pair.hub, pair.node):
        assert program.snapshot()["counters"]["sessions_lost"] == 0


def test_a_link_down_for_long_loses_the_session_once_and_gets_it_back(
    bed: Bed, keys: Keys, rx: str
) -> None:
    hub = start_hub(bed, keys, "--rx", rx, "--keepalive-ms", "100")
    pair = Pair(bed, keys, hub, start_node(bed, keys), rx)
    time.sleep(0.5)  # some keepalives
    link_down(pair, "hub")
    time.sleep(2)
    link_up(pair, "hub")
    wait_ping(bed)
    for program, said in ((hub, "E_PEER_TIMEOUT node"), (pair.node, "E_PEER_TIMEOUT hub")):
        assert program.log.count(said) == 1
        errors = [line for line in program.log.splitlines() if re.search(r"\bERROR\b", line)]
        assert errors == []
    assert (pair.node.stop(), hub.stop()) == (0, 0)
    assert_all_frames_accounted(hub)


def test_a_node_with_another_address_keeps_its_session(bed: Bed, keys: Keys, rx: str) -> None:
    """Its interface gets a new address and loses the old one, as by DHCP in another network."""
    hub = start_hub(bed, keys, "--rx", rx)
    node = start_node(bed, keys)
    with Flow(bed.node, bed.internet, INTERNET_ADDRESS) as flow:
        time.sleep(0.3)
        move(bed, "192.0.2.2", "192.0.2.3")
        time.sleep(1.5)
        (row,) = hub.snapshot()["peers"]
        assert row["endpoint"].startswith("192.0.2.3:")
        move(bed, "192.0.2.3", "192.0.2.2")
        time.sleep(1.5)
    assert flow.longest_gap_s < 1  # a keepalive
    for program in (hub, node):
        assert program.snapshot()["counters"]["sessions_lost"] == 0
    assert (node.stop(), hub.stop()) == (0, 0)
    assert_all_frames_accounted(hub)


def move(bed: Bed, old: str, new: str) -> None:
    with bed.node.netlink() as netlink:
        index = netlink.link_lookup(ifname=bed.node_interface)[0]
        netlink.addr("del", index=index, address=old, prefixlen=24)  # and every route of the link
        netlink.addr("add", index=index, address=new, prefixlen=24)
    bed.node.route("default", HUB_ADDRESS)


# --- full rings -----------------------------------------------------------------------------------


@SIDES
def test_full_rings_leak_nothing(pair: Pair, side: str) -> None:
    """One end is held while both directions flow: every ring and queue towards it runs over."""
    measure.build()
    bed, held = pair.bed, pair.program(side).process.pid
    paths = [str(DIRECTORY / space.name) for space in (bed.node, bed.internet)]
    ways = [[*paths, INTERNET_ADDRESS], [*reversed(paths), NODE]]
    for pause_s in (0.5, 0.0):
        loads = [
            subprocess.Popen(
                [str(measure.BUILT / "udp_load"), *way, "200", "300000", "1200"],
                stdout=subprocess.DEVNULL,
            )
            for way in ways
        ]
        time.sleep(0.3)
        os.kill(held, signal.SIGSTOP)
        time.sleep(pause_s)
        os.kill(held, signal.SIGCONT)
        assert [load.wait(30) for load in loads] == [0, 0]
    wait_ping(bed)
    assert len(ping(bed.node, INTERNET_ADDRESS, 10)) == 10


def test_a_tun_that_is_down_fills_nothing(pair: Pair) -> None:
    bed = pair.bed
    with Flow(bed.node, bed.internet, INTERNET_ADDRESS, 2000) as up:
        time.sleep(0.2)
        bed.hub.set_up("m13tun0", False)
        time.sleep(0.5)
        bed.hub.set_up("m13tun0", True)
        wait_ping(bed)
    assert up.missing > 0
    assert pair.hub.snapshot()["drops"]["tun_write"] > 0


# --- the handshake's process ----------------------------------------------------------------------


@SIDES
def test_a_killed_handshake_worker_costs_no_session_and_is_told_once(pair: Pair, side: str) -> None:
    program = pair.program(side)
    with Flow(pair.bed.node, pair.bed.internet, INTERNET_ADDRESS) as flow:
        os.kill(handshake_worker(program), signal.SIGKILL)
        program.wait_log("handshake worker was killed by SIGKILL: restarting")
        time.sleep(1.5)
    assert flow.missing == 0
    assert program.log.count("handshake worker") == 1
    new = handshake_worker(program)
    assert new
    assert pair.hub.snapshot()["counters"]["sessions_lost"] == 0


@SIDES
def test_a_handshake_whose_worker_is_killed_still_ends_in_a_session(
    bed: Bed, keys: Keys, side: str
) -> None:
    """The worker dies with the request taken: nobody will ever answer it, and it is asked again."""
    hub = start_hub(bed, keys, "--rx", "udp")
    os.kill(handshake_worker(hub), signal.SIGSTOP)
    node = start_node(bed, keys, wait=False)
    until = time.monotonic() + 10
    while not hub.snapshot()["counters"]["handshakes_started"]:
        assert time.monotonic() < until
    if side == "hub":
        os.kill(handshake_worker(hub), signal.SIGKILL)
    else:
        os.kill(handshake_worker(node), signal.SIGKILL)
        os.kill(handshake_worker(hub), signal.SIGCONT)
    node.wait_log(r"\btunnel [0-9.]+/\d+, MTU", RECOVERY_S)
    assert "handshake worker was killed by SIGKILL" in (hub if side == "hub" else node).log
    assert (node.stop(), hub.stop()) == (0, 0)


# --- time -----------------------------------------------------------------------------------------


def test_a_leaping_wall_clock_moves_no_timer(bed: Bed, keys: Keys, rx: str) -> None:
    library = bed.directory / "leaping_clock.so"
    source = Path(__file__).with_name("leaping_clock.c")
    flags = ["-O2", "-std=c11", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
    subprocess.run(["gcc", *flags, "-o", library, source], check=True)
    with environment(LD_PRELOAD=str(library)):
        hub = start_hub(bed, keys, "--rx", rx, "--keepalive-ms", "100")
        node = start_node(bed, keys, "--rekey-seconds", "5")
    years = {line[:4] for line in hub.log.splitlines() if line[:4].isdigit()}
    assert not years or len(years) > 1, "the clock did not leap"
    assert leaps(hub, library)
    with Flow(bed.node, bed.internet, INTERNET_ADDRESS) as flow:
        time.sleep(2.5)
    assert flow.missing == 0
    for program in (hub, node):
        counters = program.snapshot()["counters"]
        assert (counters["sessions_lost"], counters["handshakes_done"]) == (0, 1)
    assert (node.stop(), hub.stop()) == (0, 0)


def leaps(program: Program, library: Path) -> bool:
    return library.name in Path(f"/proc/{program.process.pid}/maps").read_text()


@contextlib.contextmanager
def environment(**words: str) -> Iterator[None]:
    os.environ.update(words)
    try:
        yield
    finally:
        for word in words:
            del os.environ[word]


# --- files, memory, names -------------------------------------------------------------------------


def changed_mounts(bed: Bed, program: Program, script: str) -> subprocess.CompletedProcess[str]:
    """The program's command again, in a mount namespace of its own that `script` changed first."""
    run = {**os.environ, "M13_RUN_DIR": str(bed.run_directory)}
    argv = ["unshare", "--mount", "sh", "-ec", f'{script}; exec "$@"', "sh", *program.argv]
    with program.namespace.inside():
        return subprocess.run(argv, capture_output=True, text=True, env=run, timeout=20)


FULL = "mount -t tmpfs -o size=4k,mode=700 tmpfs {0}; head -c 4096 /dev/zero > {0}/filler"
READ_ONLY = "mount -t tmpfs -o ro,mode=700 tmpfs {0}"


@SIDES
@pytest.mark.parametrize("script", [FULL, READ_ONLY], ids=["full", "read-only"])
@pytest.mark.parametrize("place", ["run directory", "shared memory"])
def test_a_disk_that_takes_nothing_is_one_line_and_nothing_changed(
    bed: Bed, keys: Keys, side: str, script: str, place: str
) -> None:
    start: Callable[..., Program] = start_hub if side == "hub" else start_node
    hub = start_hub(bed, keys, "--rx", "udp") if side == "node" else None
    probe = start(bed, keys)
    assert probe.stop() == 0
    where = bed.run_directory if place == "run directory" else Path("/dev/shm")
    done = changed_mounts(bed, probe, script.format(where))
    said = [line for line in done.stderr.splitlines() if "error: " in line]
    assert done.returncode == 1, done.stderr
    assert len(said) == 1
    assert said[0].startswith(f"m13-{side}: error: cannot")
    assert "Traceback" not in done.stderr
    if hub:
        assert hub.stop() == 0


def test_without_huge_pages_a_hub_serves_from_normal_ones(bed: Bed, keys: Keys) -> None:
    """As in a container: the kernel's files cannot be written."""
    options = ["--rx", "xdp"]
    probe = start_hub(bed, keys, *options)
    assert probe.stop() == 0
    script = "mount -t tmpfs -o ro tmpfs /sys/kernel/mm/hugepages"
    run = {**os.environ, "M13_RUN_DIR": str(bed.run_directory)}
    log = bed.directory / "without-pages.log"
    argv = ["unshare", "--mount", "sh", "-ec", f'{script}; exec "$@"', "sh", *probe.argv]
    with log.open("wb") as file:
        process = bed.hub.spawn(argv, stdout=file, stderr=file, env=run)
    node = start_node(bed, keys)
    assert ping(bed.node, INTERNET_ADDRESS)
    process.terminate()
    assert process.wait(10) == 0
    assert log.read_text().count("no huge pages: this kernel has none") == 1
    assert node.stop() == 0


def test_a_hub_without_an_address_is_one_line(bed: Bed, keys: Keys) -> None:
    node = start_node(bed, keys, "--hub", "hub.invalid:443", wait=False)
    assert node.process.wait(30) == 2
    (line,) = [line for line in node.log.splitlines() if "error: " in line]
    assert line.startswith("m13-node: error: 'hub.invalid' has no IP address")
