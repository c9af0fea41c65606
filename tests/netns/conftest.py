"""The bed of each end-to-end test, and the proof after it that nothing is left."""

import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from bench.bed import Bed
from bench.tunnel import Keys, Program, start_hub, start_node
from tests.sanitized import IS_SANITIZED

HERE = Path(__file__).parent
# What a build with sanitizers says of itself. A handshake worker is merely started again, and its
# filter of system calls may end it before it has said anything.
SANITIZER_REPORT = re.compile(
    r"^.*(?:ERROR: \w+Sanitizer|runtime error: |killed by SIG(?:SYS|ABRT)).*$", re.MULTILINE
)


@dataclass(frozen=True)
class Tunnel:
    bed: Bed
    hub: Program
    node: Program
    rx: str


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    role = config.getoption("--role", None)
    for item in items:
        if not item.path.is_relative_to(HERE):
            continue
        item.add_marker(pytest.mark.netns)
        if os.geteuid() != 0:
            item.add_marker(pytest.mark.skip(reason="needs root"))
        if bool(role) != (item.path.name == "test_two_machines.py"):
            reason = "another machine is needed: --role and --peer-host"
            item.add_marker(pytest.mark.skip(reason=f"--role {role}" if role else reason))


def nics(config: pytest.Config) -> dict[str, str | None]:
    """Two ports of this machine that take the place of the veth."""
    hub_nic, node_nic = (
        config.getoption("--hub-iface", None),
        config.getoption("--node-iface", None),
    )
    return {"hub_nic": hub_nic, "node_nic": node_nic}


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    names = ("hub", "node", "node2", "stranger")
    return Keys(tmp_path_factory.mktemp("keys"), names)


@pytest.fixture(scope="module", params=["xdp", "udp"], ids="rx={}".format)
def rx(request: pytest.FixtureRequest) -> str:
    """Tests that ask for it run with each of a hub's two data planes (`--rx`)."""
    return str(request.param)


@pytest.fixture
def bed(request: pytest.FixtureRequest) -> Iterator[Bed]:
    yield from laid_out(Bed(**nics(request.config)))


@pytest.fixture(scope="module")
def tunnel(request: pytest.FixtureRequest, keys: Keys, rx: str) -> Iterator[Tunnel]:
    """One hub and one node for the tests of a file that only use them."""
    for bed in laid_out(Bed(**nics(request.config))):
        hub = start_hub(bed, keys, "--rx", rx)
        node = start_node(bed, keys)
        yield Tunnel(bed, hub, node, rx)
        assert (node.stop(), hub.stop()) == (0, 0), node.log + hub.log
        assert_all_frames_accounted(hub)


def laid_out(bed: Bed) -> Iterator[Bed]:
    """The bed, and after its use: whatever still ran is ended, and nothing may be left of it."""
    with bed:
        yield bed
        for namespace in bed.namespaces.values():
            namespace.stop_children()
        assert not IS_SANITIZED or sanitizer_reports(bed) == []
        assert bed.changes() == []
    left = os.listdir("/run/netns")
    assert [name for name in left if name.endswith(f"-{os.getpid()}")] == []


def sanitizer_reports(bed: Bed) -> list[str]:
    """What the programs of this bed found in themselves."""
    logs = sorted(bed.directory.glob("*.log"))
    return [
        line for log in logs for line in SANITIZER_REPORT.findall(log.read_text(errors="replace"))
    ]


def assert_all_frames_accounted(hub: Program) -> None:
    line = hub.wait_log(r"frames: (\d+) of (\d+) accounted for")
    assert line[1] == line[2]
    assert "Traceback" not in hub.log


def wait_endpoint(hub: Program, endpoint: str) -> None:
    """The row of the only peer, which telemetry shows a tick later."""
    seen: list[str] = []
    until = time.monotonic() + 2
    while time.monotonic() < until:
        seen = [peer["endpoint"] for peer in hub.snapshot()["peers"]]
        if len(seen) == 1 and seen[0].startswith(endpoint):
            return
        time.sleep(0.02)
    raise AssertionError(f"{seen} is not {endpoint}")
