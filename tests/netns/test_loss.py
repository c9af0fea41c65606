"""A session forms, is renewed and carries on although the way loses, delays, reorders and doubles.

node up0 203.0.113.2 ─── 203.0.113.1 relay in the router 192.0.2.254 ─── 192.0.2.1 wan0 hub
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from bench.bed import INTERNET_ADDRESS, Bed
from bench.traffic import ping
from bench.tunnel import Keys, Program, start_hub, start_node, tunnel_address
from tests.netns.conftest import assert_all_frames_accounted, laid_out
from tests.netns.flow import Flow
from tests.netns.impair import Relay

NODE = tunnel_address("node")
FIRST_SESSION_S = 30  # §4.3
# What a lost, doubled or late frame may be counted as; a rekey that lost any would count another.
CRYPTOGRAPHIC = ("no_session", "open_failed", "unknown_peer", "counter_exhausted", "sequence")


@dataclass(frozen=True)
class Relayed:
    bed: Bed
    hub: Program
    relay: Relay
    keys: Keys

    def start_node(self, *options: str, wait_s: float = FIRST_SESSION_S + 5) -> Program:
        node = start_node(self.bed, self.keys, "--hub", Relay.address("node"), *options, wait=False)
        node.wait_log(r"\btunnel [0-9.]+/\d+, MTU", wait_s)
        return node


@pytest.fixture(params=["udp"], ids="rx={}".format)
def rx(request: pytest.FixtureRequest) -> str:
    """Where no data plane matters: handshakes are the same code in both."""
    return str(request.param)


@pytest.fixture
def hub_options() -> list[str]:
    return []


@pytest.fixture
def relayed(keys: Keys, rx: str, hub_options: list[str]) -> Iterator[Relayed]:
    for bed in laid_out(Bed(nodes=2)):
        hub = start_hub(bed, keys, "--rx", rx, *hub_options)
        with Relay(bed.router) as relay:
            yield Relayed(bed, hub, relay, keys)
        assert hub.stop() == 0
        assert_all_frames_accounted(hub)


# --- forming --------------------------------------------------------------------------------------

WAYS = {
    "30 % lost": {"loss": 0.3},
    "30 % lost in bursts of 4": {"loss": 0.3, "burst": 4},
    "reordered and doubled": {
        "reorder": 0.3, "reorder_ms": 40, "duplicate": 0.3, "jitter_ms": 20, "delay_ms": 20
    },
    "10 % lost, 5 % damaged, 300 ms late": {"loss": 0.1, "corrupt": 0.05, "delay_ms": 300},
}  # fmt: skip


def form(relayed: Relayed, way: dict[str, float]) -> float:
    """Seconds until the tunnel was up; it must carry packets once the way is clean again."""
    relayed.relay.impair("both", **way)
    begin = time.monotonic()
    node = relayed.start_node()
    took = time.monotonic() - begin
    relayed.relay.impair("both")
    assert len(ping(relayed.bed.node, INTERNET_ADDRESS, 3)) == 3
    assert node.stop() == 0
    return took


BRIEF = ("30 % lost", "reordered and doubled")
WAY = pytest.mark.parametrize(
    "way",
    [
        pytest.param(way, marks=[] if name in BRIEF else pytest.mark.soak)
        for name, way in WAYS.items()
    ],
    ids=WAYS,
)


@WAY
def test_a_session_forms(relayed: Relayed, way: dict[str, float]) -> None:
    form(relayed, way)


@pytest.mark.soak
@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_sessions_form_again_and_again(relayed: Relayed, way: dict[str, float]) -> None:
    times = sorted(form(relayed, way) for _ in range(20))
    print(f"up after {times[0]:.1f} .. {times[10]:.1f} .. {times[-1]:.1f} s")


# A round trip is longer than the silence after which a peer is lost: five keepalives.
LATE = {
    "0.6 s at a keepalive of 200 ms": (0.6, ["--keepalive-ms", "200"]),
    "2 s": (2, []),
    "4 s": (4, []),
}


@pytest.mark.parametrize(
    ("one_way_s", "hub_options"),
    [pytest.param(*late, marks=pytest.mark.soak if late[0] > 1 else []) for late in LATE.values()],
    ids=LATE,
)
def test_a_session_forms_however_late_everything_is(relayed: Relayed, one_way_s: float) -> None:
    relayed.relay.impair("both", delay_ms=1000 * one_way_s)
    node = relayed.start_node()
    (trip,) = ping(relayed.bed.node, "10.13.0.1", 1, wait_s=2 * one_way_s + 3)
    assert trip >= 2000 * one_way_s
    time.sleep(2 * one_way_s)  # what was resent arrives late, and changes nothing
    for program in (node, relayed.hub):
        counters = program.snapshot()["counters"]
        assert (counters["handshakes_done"], counters["sessions_lost"]) == (1, 0), program.log
    assert node.stop() == 0


# --- renewing -------------------------------------------------------------------------------------

# node's options, hub's options
RENEWALS = {
    "node by count": (["--rekey-frames", "1000"], []),
    "hub by count": ([], ["--rekey-frames", "1000"]),
    "node by age": (["--rekey-seconds", "5"], []),
    "hub by age": ([], ["--rekey-seconds", "5"]),
}
FLOW_RATE = 400
BY_COUNT_S, BY_AGE_S = 5, 12  # two renewals


def renew(relayed: Relayed, node_options: list[str], loss: float, seconds: float) -> None:
    bed, relay = relayed.bed, relayed.relay
    node = relayed.start_node(*node_options)
    with (
        Flow(bed.node, bed.internet, INTERNET_ADDRESS, FLOW_RATE) as up,
        Flow(bed.internet, bed.node, NODE, FLOW_RATE) as down,
    ):
        before = relay.impair("both", loss=loss)
        time.sleep(seconds)
        after = relay.impair("both")
    assert node.log.count("session renewed") >= 1, node.log
    assert relayed.hub.log.count("session renewed") >= 1
    for direction, flow in (("up", up), ("down", down)):
        lost = after[direction]["lost"] - before[direction]["lost"]
        assert flow.missing <= lost, f"{flow.missing} of {flow.sent} missing {direction}"
        assert bool(lost) == bool(loss)
        assert flow.doubled == 0
    for program in (node, relayed.hub):
        drops = program.snapshot()["drops"]
        assert {name: drops[name] for name in CRYPTOGRAPHIC} == dict.fromkeys(CRYPTOGRAPHIC, 0)
    assert node.stop() == 0


@pytest.mark.parametrize(
    ("node_options", "hub_options", "loss", "rx"),
    [(*RENEWALS["node by count"], 0.1, "udp"), (*RENEWALS["hub by count"], 0.0, "xdp")],
    ids=["node, 10 % lost, udp", "hub, none lost, xdp"],
)
def test_a_rekey_loses_nothing_of_a_running_flow(
    relayed: Relayed, node_options: list[str], loss: float
) -> None:
    renew(relayed, node_options, loss, BY_COUNT_S)


@pytest.mark.soak
@pytest.mark.parametrize("rx", ["xdp", "udp"])
@pytest.mark.parametrize("loss", [0.0, 0.1], ids=["none lost", "10 % lost"])
@pytest.mark.parametrize(("node_options", "hub_options"), RENEWALS.values(), ids=RENEWALS)
def test_every_rekey_loses_nothing_of_a_running_flow(
    relayed: Relayed, node_options: list[str], loss: float
) -> None:
    renew(relayed, node_options, loss, BY_AGE_S)
