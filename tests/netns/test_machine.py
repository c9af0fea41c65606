"""What hub and node take of their machine while they run, and have put back when they end.

node up0 192.0.2.2 ─── 192.0.2.1 wan0 hub net0 ─── internet 198.51.100.2
                      (3 receive queues)
"""

import contextlib
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyroute2.ethtool.ioctl import IoctlEthtool

from bench import traffic
from bench.bed import HUB_ADDRESS, INTERNET_ADDRESS, Bed
from bench.namespace import Namespace
from bench.tunnel import Keys, Program, start_hub, start_node, tunnel_address
from hub.steering import OBJECT
from m13.host import nic
from native.steer import Steer
from tests.netns.conftest import assert_all_frames_accounted, laid_out

NODE = tunnel_address("node")
BYTES = 2_000_000
QUEUES = 3
REST_S, RESTS_SHARE = 0.3, 0.2  # of a core, while only keepalives are sent


# --- io_uring's own thread ------------------------------------------------------------------------


def submitting(program: Program) -> list[int]:
    """The kernel's threads that empty its ring."""
    tasks = Path(f"/proc/{program.process.pid}/task").iterdir()
    return [int(task.name) for task in tasks if (task / "comm").read_text().startswith("iou-sqp-")]


def spent_s(threads: list[int]) -> float:
    """Processor time of them so far."""
    stats = [Path(f"/proc/{thread}/schedstat").read_text() for thread in threads]
    return sum(int(text.split()[0]) for text in stats) / 1e9


@pytest.mark.parametrize(
    ("rx", "sqpoll", "mode"),
    [("xdp", "on", "SQPOLL"), ("udp", "on", "SQPOLL"), ("udp", "off", "deferred task work")],
)
def test_a_node_carries_traffic_whoever_submits(
    bed: Bed, keys: Keys, rx: str, sqpoll: str, mode: str
) -> None:
    hub = start_hub(bed, keys, "--rx", rx)
    node = start_node(bed, keys, "--sqpoll", sqpoll)
    assert node.snapshot()["receive_mode"] == f"io_uring, {mode}"
    assert re.search(rf"connecting to 192\.0\.2\.1:443 \(io_uring, {mode}\)", node.log)
    assert len(submitting(node)) == (sqpoll == "on")
    assert traffic.tcp(bed.node, bed.internet, INTERNET_ADDRESS, BYTES).is_intact
    assert traffic.tcp(bed.internet, bed.node, NODE, BYTES).is_intact
    assert traffic.udp(bed.node, bed.internet, INTERNET_ADDRESS, 1000).is_intact
    assert traffic.udp(bed.internet, bed.node, NODE, 1000).is_intact
    time.sleep(REST_S)
    before = spent_s(submitting(node))
    time.sleep(1)
    assert spent_s(submitting(node)) - before < RESTS_SHARE
    assert (node.stop(), hub.stop()) == (0, 0), node.log + hub.log
    assert "Traceback" not in node.log
    assert_all_frames_accounted(hub)


# --- receive queues -------------------------------------------------------------------------------


@contextlib.contextmanager
def sending_by_one_queue(namespace: Namespace, interface: str) -> Iterator[None]:
    """Native XDP of a veth wants as many receive queues as the other end sends by."""
    with namespace.inside():
        ethtool = IoctlEthtool(interface)
    with contextlib.closing(ethtool):
        channels = ethtool.get_channels()
        before, channels.tx_count = channels.tx_count, 1
        ethtool.set_channels(channels)
        yield
        channels.tx_count = before
        ethtool.set_channels(channels)


def receive_queues(bed: Bed) -> int:
    with bed.hub.inside():
        return nic.inspect(bed.hub_interface).rx_queues


@pytest.mark.parametrize(
    ("options", "queues"),
    [(("--rx", "xdp"), 1), (("--workers", "2"), 2), (("--single-queue", "0"), QUEUES)],
    ids=["one worker", "two workers", "a queue by name"],
)
def test_a_nic_has_a_queue_a_worker_until_the_hub_ends(
    keys: Keys, options: tuple[str, ...], queues: int
) -> None:
    for bed in laid_out(Bed(queues=QUEUES)):
        with sending_by_one_queue(bed.node, bed.node_interface):
            assert receive_queues(bed) == QUEUES
            hub = start_hub(bed, keys, *options)
            assert receive_queues(bed) == queues
            node = start_node(bed, keys)
            assert len(traffic.ping(bed.node, INTERNET_ADDRESS, 3)) == 3
            assert (node.stop(), hub.stop()) == (0, 0)
            assert_all_frames_accounted(hub)
            assert receive_queues(bed) == QUEUES


def test_a_killed_hub_leaves_queues_that_the_next_puts_back(keys: Keys) -> None:
    for bed in laid_out(Bed(queues=QUEUES)):
        with sending_by_one_queue(bed.node, bed.node_interface):
            start_hub(bed, keys, "--rx", "xdp").kill()
            assert receive_queues(bed) == 1
            assert start_hub(bed, keys, "--rx", "udp").stop() == 0
            assert receive_queues(bed) == QUEUES


# --- the place of the XDP program -----------------------------------------------------------------


def attached(bed: Bed) -> int | None:
    """The id of the XDP program on the hub's interface."""
    with bed.hub.netlink() as netlink:
        found = netlink.link("get", ifname=bed.hub_interface)[0].get_attr("IFLA_XDP")
    number = found and found.get_attr("IFLA_XDP_PROG_ID")
    return int(number) if number else None


@pytest.mark.parametrize("mode", ["native", "generic"])
def test_another_xdp_program_is_named_and_left_alone(bed: Bed, keys: Keys, mode: str) -> None:
    with bed.hub.inside(), Steer(str(OBJECT), 4443) as other:
        other.attach(bed.hub.interface_index(bed.hub_interface), mode)
        before = attached(bed)
        assert before
        hub = start_hub(bed, keys, "--rx", "xdp", wait=False)
        assert hub.process.wait(10) == 1
        assert re.search(r"m13-hub: error: .*another XDP program is attached", hub.log), hub.log
        assert attached(bed) == before
        other.detach()
    hub = start_hub(bed, keys, "--rx", "xdp")
    assert attached(bed) not in (None, before)
    hub.kill()
    until = time.monotonic() + 2
    while attached(bed) and time.monotonic() < until:
        time.sleep(0.01)
    assert attached(bed) is None
    assert start_hub(bed, keys, "--rx", "udp").stop() == 0  # what else the killed one left


# --- the environment ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rx", "options", "port"),
    [("xdp", (), 4443), ("udp", (), 4443), ("udp", ("--port", "4444"), 4444)],
    ids=["xdp", "udp", "overruled"],
)
def test_a_hub_listens_at_the_port_of_its_environment(
    bed: Bed,
    keys: Keys,
    rx: str,
    monkeypatch: pytest.MonkeyPatch,
    options: tuple[str, ...],
    port: int,
) -> None:
    monkeypatch.setenv("M13_LISTEN_PORT", "4443")
    hub = start_hub(bed, keys, "--rx", rx, *options)
    node = start_node(bed, keys, "--hub", f"{HUB_ADDRESS}:{port}")
    assert traffic.ping(bed.node, "10.13.0.1")
    (peer,) = node.snapshot()["peers"]
    assert peer["endpoint"] == f"{HUB_ADDRESS}:{port}"
    assert (node.stop(), hub.stop()) == (0, 0)
