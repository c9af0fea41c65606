"""A running hub or node is changed, asked and watched by its operator.

node  up0 203.0.113.2   ─┐
                         router ─── wan0 192.0.2.1 hub ─── internet 198.51.100.2
node2 up0 203.0.113.130 ─┘
"""

import json
import os
import signal
import stat
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bench import traffic
from bench.bed import HUB_ADDRESS, HUB_ADDRESS6, INTERNET_ADDRESS, NODE_ADDRESS6, Bed
from bench.namespace import Namespace
from bench.tunnel import PORT, SCRIPTS, Keys, Program, start_hub, start_node
from tests.netns.conftest import assert_all_frames_accounted, laid_out
from tests.netns.numbered_flow import NumberedFlow

HUB_TUNNEL = "10.13.0.1"
QUICK = ("--keepalive-ms", "100")


@pytest.fixture
def pair() -> Iterator[Bed]:
    yield from laid_out(Bed(nodes=2))


def listed(path: Path, *rows: tuple[str, str, str]) -> Path:
    """Writes rows of name, fingerprint and address."""
    path.write_text(
        "".join(
            f'[[node]]\nname = "{name}"\nkey = "{key}"\naddress = "{address}"\n'
            for name, key, address in rows
        )
    )
    return path


def reload(program: Program, expected: str) -> None:
    """By SIGHUP; until a new line of the log says `expected`."""
    before = len(program.log)
    program.process.send_signal(signal.SIGHUP)
    program.wait_log(rf"(?s)\A.{{{before},}}?{expected}", 3)


def test_nodes_come_change_and_go_while_another_loses_nothing(
    pair: Bed, keys: Keys, rx: str
) -> None:
    key = keys.fingerprints
    one = ("node", key["node"], "10.13.0.2")
    nodes = listed(pair.directory / "nodes.toml", one)
    hub = start_hub(pair, keys, "--nodes", str(nodes), "--rx", rx, *QUICK)
    node = start_node(pair, keys)
    with NumberedFlow(pair.node, pair.internet, INTERNET_ADDRESS) as flow:
        listed(nodes, one, ("node2", key["node2"], "10.13.0.3"))
        reload(hub, r"2 nodes admitted \(1 added, 0 changed, 0 expelled\)")
        second = start_node(pair, keys, name="node2")
        assert traffic.ping(pair.node2, HUB_TUNNEL, 2)

        listed(nodes, one, ("node2", key["node2"], "10.13.0.77"))
        reload(hub, r"\(0 added, 1 changed, 0 expelled\)")
        second.wait_log(r"tunnel 10\.13\.0\.77/24", 3)
        assert len(traffic.ping(pair.node2, HUB_TUNNEL, 3)) == 3
        assert "E_PEER" not in hub.log

        listed(nodes, one, ("node2", key["stranger"], "10.13.0.77"))
        reload(hub, r"\(1 added, 0 changed, 1 expelled\)")
        hub.wait_log(r"E_PEER_EXPELLED node2", 2)
        assert traffic.ping(pair.node2, HUB_TUNNEL, wait_s=0.3) == []
        hub.wait_log(rf"refused: .*{key['node2'].replace('+', '[+]')}", 10)
        assert second.stop() == 0
        second = start_node(pair, keys, name="node2", identity="stranger")
        assert traffic.ping(pair.node2, HUB_TUNNEL, 2)

        listed(nodes, one)
        reload(hub, r"1 nodes admitted \(0 added, 0 changed, 1 expelled\)")
        nodes.write_text(nodes.read_text() + "[[node]\n")
        reload(hub, r"E_NODES_UNREADABLE .*nodes.toml.*line 5, .*nothing changed")
        flow.wait_sent(501)
    assert flow.lost == []
    assert node.log.count("session up") == 1
    assert hub.snapshot()["gauges"]["peers_established"] == 1
    assert (second.stop(), node.stop(), hub.stop()) == (0, 0, 0), node.log + hub.log
    assert_all_frames_accounted(hub)


def test_two_nodes_swap_their_addresses(pair: Bed, keys: Keys) -> None:
    key = keys.fingerprints
    nodes = pair.directory / "nodes.toml"
    listed(nodes, ("node", key["node"], "10.13.0.2"), ("node2", key["node2"], "10.13.0.3"))
    hub = start_hub(pair, keys, "--nodes", str(nodes), *QUICK)
    programs = [start_node(pair, keys), start_node(pair, keys, name="node2")]
    listed(nodes, ("node", key["node"], "10.13.0.3"), ("node2", key["node2"], "10.13.0.2"))
    reload(hub, r"\(0 added, 2 changed, 0 expelled\)")
    programs[0].wait_log(r"tunnel 10\.13\.0\.3/24", 10)
    programs[1].wait_log(r"tunnel 10\.13\.0\.2/24", 10)
    assert traffic.ping(pair.node, "10.13.0.2", 2)
    for program in [*programs, hub]:
        assert program.stop() == 0


def test_a_node_learns_the_next_key_of_its_hub(bed: Bed, keys: Keys) -> None:
    known = bed.directory / "known_hubs"
    place = f"{HUB_ADDRESS}:{PORT}"
    known.write_text(f"{place} {keys.fingerprints['hub']}\n")
    hub = start_hub(bed, keys, *QUICK)
    trust = ["--identity", str(keys.identity("node")), "--known-hubs", str(known)]
    node = Program(bed, bed.node, "node", ["--hub", place, "--tunnel", *trust])
    node.wait_log(r"\btunnel 10\.13\.0\.2/24")
    known.write_text(known.read_text() + f"{place} SHA256:nonsense\n")
    reload(node, r"E_HUBS_UNREADABLE .*known_hubs: line 2: .*nothing changed")
    known.write_text("# none\n")
    reload(node, r"E_HUBS_UNREADABLE .*no key of 192\.0\.2\.1:443")
    assert hub.stop() == 0
    known.write_text(f"{place} {keys.fingerprints['stranger']}\n")
    reload(node, r"1 keys \(1 added, 1 removed\)")
    assert "is no longer known" in node.log
    hub = start_hub(bed, keys, "--identity", str(keys.identity("stranger")), *QUICK)
    node.wait_log(r"(?s)1 removed.*session up")
    assert traffic.ping(bed.node, HUB_TUNNEL, 2)
    assert (node.stop(), hub.stop()) == (0, 0), node.log


class Operator:
    """Commands as somebody types them on the hub's machine or a node's."""

    def __init__(self, bed: Bed) -> None:
        self.bed = bed
        self.environment = {**os.environ, "M13_RUN_DIR": str(bed.run_directory)}

    def m13(self, where: str, *words: str, status: int = 0, **options: object) -> str:
        child = self.bed.namespaces[where].spawn(
            [str(SCRIPTS / "m13"), *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=self.environment,
            **options,
        )
        output, errors = child.communicate(timeout=20)
        assert child.returncode == status, errors.decode()
        return (output or errors).decode()


def test_the_operator_adds_watches_rekeys_and_removes_a_node(bed: Bed, keys: Keys, rx: str) -> None:
    me, key = Operator(bed), keys.fingerprints
    nodes = bed.directory / "nodes.toml"
    nodes.write_text("# whoever comes to the hill\n")
    said = me.m13("hub", "peers", "add", "spare", key["stranger"], "--nodes", str(nodes))
    assert "no hub runs by it here" in said
    hub = start_hub(bed, keys, "--nodes", str(nodes), "--rx", rx, *QUICK)
    said = me.m13("hub", "peers", "add", "boat", key["node"], "--nodes", str(nodes))
    assert said == "m13tun0 (hub): 1 added (boat), 0 changed, 0 expelled, 2 admitted\n"
    node = start_node(bed, keys)
    assert traffic.ping(bed.node, HUB_TUNNEL, 3)
    assert_shown_as_it_is(me, hub, node, key)
    assert (
        json.loads(me.m13("hub", "show", "spare", "--json"))[0]["peers"][0]["key"]
        == (key["stranger"])
    )
    assert "there are: m13tun0, boat, spare" in me.m13("hub", "show", "nobody", status=2)
    assert "--hub-key: nothing to read again" in me.m13("node", "reload")

    me.m13("hub", "peers", "rekey", "boat", key["node2"], "--nodes", str(nodes))
    hub.wait_log("E_PEER_EXPELLED boat", 2)
    before = nodes.read_text()
    said = me.m13("hub", "peers", "add", "x", key["node"], "--address", "10.14.0.1",
                  "--nodes", str(nodes), status=3)  # fmt: skip
    assert "10.14.0.1 is outside 10.13.0.0/24; nothing changed" in said
    assert "no node 'x'" in me.m13("hub", "peers", "remove", "x", "--nodes", str(nodes), status=2)
    assert nodes.read_text() == before
    me.m13("hub", "peers", "remove", "boat", "--nodes", str(nodes))
    hub.wait_log(r"1 nodes admitted \(0 added, 0 changed, 1 expelled\)", 2)
    assert nodes.read_text().startswith("# whoever comes to the hill\n\n[[node]]\n")
    nodes.write_text("[[node]]\nname = 3\n")
    assert "line 1, node 1: name must be" in me.m13("hub", "reload", status=3)
    sockets = list(bed.run_directory.glob("*.sock"))
    assert [stat.S_IMODE(path.stat().st_mode) for path in sockets] == [0o600, 0o600]
    assert (node.stop(), hub.stop()) == (0, 0), node.log + hub.log
    assert list(bed.run_directory.glob("*.sock")) == []
    assert_all_frames_accounted(hub)


def assert_shown_as_it_is(me: Operator, hub: Program, node: Program, key: dict[str, str]) -> None:
    (there,) = json.loads(me.m13("hub", "show", "--json"))
    boat, spare = there["peers"]
    assert (there["role"], there["pid"], there["key"]) == ("hub", hub.process.pid, key["hub"])
    assert (boat["name"], boat["key"], boat["state"]) == ("boat", key["node"], "Established")
    assert (spare["name"], spare["key"], spare["state"]) == (
        "spare",
        key["stranger"],
        "Disconnected",
    )
    assert boat["tunnel_addresses"] == ["10.13.0.3"]
    assert boat["received_packets"] >= 3
    assert 0 < boat["connected_seconds"] < 60
    assert boat["sessions"] == boat["handshakes"] == 1
    (here,) = json.loads(me.m13("node", "show", "--json"))
    assert (here["role"], here["pid"], here["key"]) == ("node", node.process.pid, key["node"])
    assert here["peers"][0]["key"] == key["hub"]
    assert here["peers"][0]["endpoint"] == "192.0.2.1:443"

    text = me.m13("hub", "show")
    assert "\x1b" not in text
    rows = [line for line in text.splitlines() if line.startswith("  ")]
    assert {line[2:19].rstrip() + ":" for line in rows} >= {
        "key:", "endpoint:", "tunnel addresses:", "session:", "last handshake:", "last heard:",
        "transfer:", "loss:", "rtt:", "path MTU:",
    }  # fmt: skip
    assert all(line[19] == " " and line[20] != " " for line in rows)  # aligned
    # who may not ask the socket still sees what telemetry shows him
    before = me.environment
    me.environment = {**before, "M13_RUN_DIR": str(me.bed.directory)}
    assert "nothing runs at" in me.m13("hub", "show")
    me.environment = before


def test_both_are_watched_as_json(bed: Bed, keys: Keys) -> None:
    def watch(program: Program, *options: str) -> subprocess.Popen[bytes]:
        argv = [str(SCRIPTS / f"m13-{program.role}"), "--monitor", "--json", *options]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return program.namespace.spawn(argv, bufsize=0, **pipes)

    programs = start_hub(bed, keys), start_node(bed, keys)
    assert len(traffic.ping(bed.node, HUB_TUNNEL, 3)) == 3
    watching = [watch(program) for program in programs]
    for program in programs:
        child = watch(program, "--once")
        output, errors = child.communicate(timeout=10)
        assert (child.returncode, errors) == (0, b"")
        (seen,) = map(json.loads, output.splitlines())
        assert (seen["role"], seen["pid"]) == (program.role, program.process.pid)
        assert not seen["stale"]
        assert seen["counters"]["tun_written_packets"] >= 3
        assert [peer["state"] for peer in seen["peers"]] == ["Established"]
    for child in watching:
        assert json.loads(child.stdout.readline())["state"]  # it has begun
        assert child.poll() is None
    assert [program.stop() for program in programs] == [0, 0]
    for program, child in zip(programs, watching, strict=True):
        output, errors = child.communicate(timeout=10)
        told = f"m13-{program.role} (pid {program.process.pid}) has exited\n"
        assert (child.returncode, errors.decode()) == (0, told)
        assert {json.loads(line)["pid"] for line in output.splitlines()} == {program.process.pid}


def test_a_killed_one_is_replaced_and_does_not_answer(bed: Bed, keys: Keys) -> None:
    me = Operator(bed)
    hub = start_hub(bed, keys)
    hub.kill()
    assert "no hub or node runs here" in me.m13("hub", "reload", status=1)
    assert len(list(bed.run_directory.glob("*.sock"))) == 1
    hub = start_hub(bed, keys)
    assert "m13tun0 (hub)" in me.m13("hub", "reload")
    assert hub.stop() == 0
    assert list(bed.run_directory.glob("*.sock")) == []


@pytest.mark.parametrize("side", ["hub", "node"])
def test_a_lost_carrier_and_a_small_mtu_are_told_and_so_is_their_end(
    bed: Bed, keys: Keys, side: str
) -> None:
    program = {"hub": start_hub(bed, keys), "node": start_node(bed, keys)}[side]
    interface = bed.hub_interface if side == "hub" else bed.node_interface
    other, far = (bed.node, bed.node_interface) if side == "hub" else (bed.hub, bed.hub_interface)
    set_mtu(bed.namespaces[side], interface, 1400)
    program.wait_log(rf"E_LINK_MTU the MTU of {interface} is 1400, and .* need 1490", 3)
    set_mtu(bed.namespaces[side], interface, 1500)
    program.wait_log(rf"the MTU of {interface} is 1500: .* fit again", 3)
    other.set_up(far, False)
    program.wait_log(rf"E_LINK_DOWN {interface} has no carrier", 3)
    other.set_up(far, True)
    program.wait_log(rf"{interface} carries packets again", 3)
    assert program.log.count("E_LINK_") == 2
    # what the kernel takes from an interface that goes down
    if side == "hub":
        bed.node.address(bed.node_interface, f"{NODE_ADDRESS6}/64")
        bed.node.route("default", HUB_ADDRESS)
        bed.node.route("::/0", HUB_ADDRESS6)
    else:
        bed.hub.address(bed.hub_interface, f"{HUB_ADDRESS6}/64")


def set_mtu(namespace: Namespace, interface: str, mtu: int) -> None:
    with namespace.netlink() as netlink:
        netlink.link("set", index=netlink.link_lookup(ifname=interface)[0], mtu=mtu)


def test_telemetry_tells_of_sessions_that_came_back(bed: Bed, keys: Keys, rx: str) -> None:
    hub = start_hub(bed, keys, "--rx", rx, *QUICK)
    node = start_node(bed, keys)
    assert hub.snapshot()["counters"]["reconnects"] == 0
    node.kill()
    node = start_node(bed, keys)
    assert (reconnects(hub), reconnects(node)) == (1, 0)
    hub.kill()
    hub = start_hub(bed, keys, "--rx", rx, *QUICK)
    hub.wait_log("session up: node ")
    node.wait_log(r"(?s)session up.*session up", 3)
    wait_for(lambda: reconnects(node) == 1)
    assert reconnects(hub) == 0  # it does not know who was there before it
    assert (node.stop(), hub.stop()) == (0, 0), node.log + hub.log


def reconnects(program: Program) -> int:
    return int(program.snapshot()["counters"]["reconnects"])


def wait_for(condition: Callable[[], bool], timeout_s: float = 3) -> None:
    until = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)


def test_telemetry_tells_of_the_tun_thread_and_of_pressure(bed: Bed, keys: Keys, rx: str) -> None:
    hub = start_hub(bed, keys, "--rx", rx)
    node = start_node(bed, keys)
    quiet = hub.snapshot()
    assert quiet["gauges"]["fill_least"] > 0
    for source, target, address in (
        (bed.node, bed.internet, INTERNET_ADDRESS),
        (bed.internet, bed.node, "10.13.0.2"),
    ):
        assert traffic.tcp(source, target, address, 8 << 20).is_intact
    time.sleep(0.2)  # gauges are of the last tick
    busy = hub.snapshot()
    gauges, writers = busy["gauges"], busy["writers"]
    for name in ("tun_read_packets", "tun_written_packets"):
        assert busy["counters"][name] == sum(writers[who][name] for who in ("worker", "tun"))
        assert busy["counters"][name] > quiet["counters"][name]
    assert gauges["fill_least"] < quiet["gauges"]["fill_outstanding"]
    if rx == "xdp":
        # so much makes the TUN thread work, and packets wait for it and for the worker
        assert writers["tun"]["tun_read_packets"] > 0
        assert writers["tun"]["tun_written_packets"] > 0
        for name in ("ring_to_tun", "ring_from_tun"):
            assert 0 < gauges[f"{name}_peak"] <= 2048
            assert gauges[name] <= gauges[f"{name}_peak"]
        assert gauges["scheduler_peak"] > 0
    assert (node.stop(), hub.stop()) == (0, 0), node.log + hub.log
    assert_all_frames_accounted(hub)
