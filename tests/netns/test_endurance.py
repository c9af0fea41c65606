"""A tunnel that is used and disturbed for long leaks nothing: `pytest -m soak -k endurance`.

node  up0 203.0.113.2   ─┐
                         router: a lossy NAT 192.0.2.254 ─── 192.0.2.1 wan0 hub ─── internet
node2 up0 203.0.113.130 ─┘

Flows run all the time; keys are renewed, the NAT forgets, node2 restarts. Two minutes a data plane,
or as `--soak-minutes` says, and rekeys every 5 s, or every 30 s when it is told to take longer.
"""

import os
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from bench.bed import INTERNET_ADDRESS, Bed
from bench.tunnel import Keys, Program, start_hub, start_node, tunnel_address
from tests.netns.conftest import assert_all_frames_accounted, laid_out
from tests.netns.flow import Flow
from tests.netns.impair import Relay

SHORT_MINUTES = 2.0
REKEY_SHORT_S, REKEY_LONG_S = 5, 30
TURN_S, RESTART_TURNS = 5.0, 4
LOSS, MISSING_MAX = 0.01, 0.05
FLOW_RATE = 500
WARM_UP = 0.3  # of the time
# A leak grows with the work; noise of the allocator and of page accounting does not.
RESIDENT_GROWTH_MAX = 1 << 20
STRETCH = 4  # samples
COUNTED = ("descriptors", "threads", "children")


@dataclass
class Samples:
    """Of one program, a turn each."""

    program: Program
    values: dict[str, list[int]] = field(default_factory=dict)

    def take(self) -> None:
        process = Path(f"/proc/{self.program.process.pid}")
        found = {
            "resident": int((process / "statm").read_text().split()[1]) * 4096,
            "descriptors": len(os.listdir(process / "fd")),
            "threads": len(os.listdir(process / "task")),
            "children": len((process / "task" / process.name / "children").read_text().split()),
        }
        gauges = self.program.snapshot()["gauges"]
        found |= {name: gauges[name] for name in ("slab_count", "peers_pending")}
        for name, value in found.items():
            self.values.setdefault(name, []).append(value)

    def settled(self, name: str) -> list[int]:
        values = self.values[name]
        return values[int(len(values) * WARM_UP) :]

    def growth(self, name: str) -> float:
        """Least squares over what came after the warm-up: from its begin to its end."""
        values = self.settled(name)
        middle = (len(values) - 1) / 2
        mean = sum(values) / len(values)
        over = sum((at - middle) * (value - mean) for at, value in enumerate(values))
        return over / sum((at - middle) ** 2 for at in range(len(values))) * len(values)

    def leasts(self, name: str) -> set[int]:
        """Of each stretch the least: a netlink socket is open for a moment, a leak for good."""
        values = self.settled(name)
        return {
            min(values[at : at + STRETCH]) for at in range(0, len(values) - STRETCH + 1, STRETCH)
        }

    def assert_steady(self) -> None:
        role = self.program.role
        for name in COUNTED:
            assert len(self.leasts(name)) == 1, f"{role}: {name} {self.values[name]}"
        assert len(set(self.values["slab_count"])) == 1
        grown = self.growth("resident")
        assert grown < RESIDENT_GROWTH_MAX, f"{role} grew by {grown:.0f}: {self.values['resident']}"


@pytest.mark.soak
@pytest.mark.parametrize("rx", ["xdp", "udp"])
def test_endurance(request: pytest.FixtureRequest, keys: Keys, rx: str) -> None:
    minutes = request.config.getoption("--soak-minutes") or SHORT_MINUTES
    rekey_s = REKEY_LONG_S if minutes > SHORT_MINUTES else REKEY_SHORT_S
    for bed in laid_out(Bed(nodes=2)):
        hub = start_hub(bed, keys, "--rx", rx)
        with Relay(bed.router) as relay:
            node = start_node(
                bed, keys, "--hub", Relay.address("node"), "--rekey-seconds", str(rekey_s)
            )
            relay.impair("both", loss=LOSS)
            samples = [Samples(hub), Samples(node)]
            with (
                Flow(bed.node, bed.internet, INTERNET_ADDRESS, FLOW_RATE) as up,
                Flow(bed.internet, bed.node, tunnel_address("node"), FLOW_RATE) as down,
            ):
                disturb(bed, keys, relay, samples, minutes)
            relay.impair("both")
            for flow in (up, down):
                assert flow.missing < MISSING_MAX * flow.sent, (flow.missing, flow.sent)
                assert flow.doubled == 0
            renewed = node.log.count("session renewed")
            assert renewed >= minutes * 60 / (rekey_s + 5) - 1, renewed
            for program in (hub, node):
                assert "Traceback" not in program.log
            for sample in samples:
                sample.assert_steady()
            assert node.stop() == 0
        assert hub.stop() == 0
        assert_all_frames_accounted(hub)


def disturb(bed: Bed, keys: Keys, relay: Relay, samples: list[Samples], minutes: float) -> None:
    """Turns of five seconds: a rebinding each, and every fourth ends node2 or starts it again."""
    until, turn = time.monotonic() + minutes * 60, 0
    other: Program | None = None
    while time.monotonic() < until:
        time.sleep(TURN_S)
        for sample in samples:
            sample.take()
        relay.rebind()
        turn += 1
        if turn % RESTART_TURNS == 0:
            if other:
                assert other.stop() == 0
                other = None
            else:
                options = ["--hub", Relay.address("node2")]
                other = start_node(bed, keys, *options, name="node2")
    if other:
        assert other.stop() == 0
