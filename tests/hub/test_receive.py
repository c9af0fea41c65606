"""How a hub chooses between AF_XDP and a UDP socket: rules as tables, the measurement for real."""

import errno
import json
import os
import re
import socket
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hub import receive, receive_cost
from hub.receive_cost import Cost, Costs, Likeness, Train
from m13.host.xdp_support import XdpSupport
from tests.host.namespace import ROOT, Namespace
from tests.host.test_unnamed_network import namespaces_left, own_namespaces

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")

ZERO_COPY = XdpSupport(native=True, zero_copy=True)
NATIVE = XdpSupport(native=True, zero_copy=False)
NONE = XdpSupport(native=False, zero_copy=False)
WIRE = {"tx-udp-segmentation": False}


def settings(**given: Any) -> Any:
    defaults = {"rx": "auto", "single_queue": None, "xdp": "auto", "mtu": 1400}
    return SimpleNamespace(**{**defaults, "interface": "nosuch0", **given})


# --- rules ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "chosen"),
    [
        ({"rx": "xdp"}, "xdp"),
        ({"rx": "udp"}, "udp"),
        ({"rx": "udp", "single_queue": 1, "xdp": "generic"}, "udp"),
        ({"single_queue": 0}, "xdp"),
        ({"xdp": "native"}, "xdp"),
        ({"xdp": "generic"}, "xdp"),
    ],
)
def test_what_the_options_say_is_not_measured(given: dict[str, Any], chosen: str) -> None:
    # of an interface that is not there nothing could be asked
    assert receive.choose(settings(**given)) == (chosen, "")


@pytest.mark.parametrize(
    ("driver", "support", "chosen"),
    [
        ("ice", ZERO_COPY, "xdp"),
        ("ena", NATIVE, None),
        ("macb", NONE, None),
        ("igb", None, None),
        ("veth", NATIVE, None),
        ("veth", None, None),
        ("veth", NONE, "udp"),
    ],
)
def test_some_drivers_need_no_measurement(
    driver: str, support: XdpSupport | None, chosen: str | None
) -> None:
    answer = receive.choose_by_driver(driver, support)
    assert (answer and answer[0]) == chosen


@pytest.mark.parametrize(
    ("driver", "support", "mode", "is_cut"),
    [
        ("macb", NONE, "generic", True),
        ("ena", NATIVE, "native", True),
        ("igb", None, "native", True),
        ("veth", NATIVE, "native", False),
    ],
)
def test_the_likeness_has_the_nics_mode_and_packets_off_its_wire(
    driver: str, support: XdpSupport | None, mode: str, is_cut: bool
) -> None:
    likeness = receive.likeness_of(driver, support, {})
    assert likeness.xdp == mode
    assert (likeness.far_features.get("tx-udp-segmentation") is False) == is_cut


@pytest.mark.parametrize("summing", ["tx-checksum-ip-generic", "tx-checksum-ipv4", None])
@pytest.mark.parametrize("checking", [True, False])
def test_the_likeness_sums_where_the_nic_does(summing: str | None, checking: bool) -> None:
    features = {"rx-checksum": checking, "rx-gro": True, "tx-checksum-ipv6": True}
    likeness = receive.likeness_of("macb", NONE, features | ({summing: True} if summing else {}))
    assert likeness.near_features["tx-checksum-ip-generic"] == (summing is not None)
    assert likeness.far_features["tx-checksum-ip-generic"] == checking
    assert likeness.near_features["rx-gro"]
    assert not likeness.near_features["tx-udp-segmentation"]


@pytest.mark.parametrize(
    ("xdp_ns", "udp_ns", "chosen", "said"),
    [
        (600, 100, "udp", "receive: UDP socket, 100 ns a frame against 600 by native XDP (copy)"),
        (600, 479, "udp", "receive: UDP socket, 479 ns a frame against 600 by native XDP (copy)"),
        (600, 481, "xdp", "receive: native XDP (copy), 600 ns a frame against 481 by UDP socket"),
        (600, 900, "xdp", "receive: native XDP (copy), 600 ns a frame against 900 by UDP socket"),
    ],
)
def test_the_socket_has_to_cost_clearly_less(
    xdp_ns: float, udp_ns: float, chosen: str, said: str
) -> None:
    # large frames cost more than small ones, receiving not what sending does: the mean decides
    def costs(mean: float) -> tuple[Cost, Cost]:
        return Cost(mean * 1.6, mean * 0.8), Cost(mean * 1.0, mean * 0.6)

    assert receive.choose_by_costs(Costs(costs(xdp_ns), costs(udp_ns)), "native") == (chosen, said)


@pytest.mark.parametrize(
    ("mtu", "frames"), [(1400, [(1462, 44), (154, 64)]), (3400, [(3462, 18), (154, 64)])]
)
def test_a_train_is_what_one_send_takes(mtu: int, frames: list[tuple[int, int]]) -> None:
    assert [(train.frame_bytes, train.frames) for train in receive_cost.trains(mtu)] == frames
    assert Train(mtu).bytes <= 65507


# --- the machine ----------------------------------------------------------------------------------


@needs_root
@pytest.mark.parametrize("mode", ["native", "generic"])
@pytest.mark.parametrize("mtu", [1400, 3400])
def test_a_measurement_has_figures_and_leaves_nothing(mode: str, mtu: int) -> None:
    links, namespaces = socket.if_nameindex(), own_namespaces()
    near = {"rx-gro": True}
    begin = time.monotonic()
    costs = receive_cost.measure(Likeness(mode, near, WIRE), mtu)
    assert time.monotonic() - begin < 2  # 0.15 s on a quiet machine
    for way in (costs.xdp, costs.udp):
        for cost in way:
            # a frame takes at least a cache miss and at most what a stalled machine makes of it
            assert 10 < cost.send_ns < 100_000
            assert 10 < cost.receive_ns < 100_000
    assert costs.xdp_ns == pytest.approx(
        sum(c.receive_ns + c.send_ns for c in costs.xdp) / (2 * len(costs.xdp))
    )
    assert socket.if_nameindex() == links
    assert namespaces_left(namespaces) == set()


@needs_root
def test_a_veth_that_cuts_itself_makes_the_socket_dearer() -> None:
    whole = receive_cost.measure(Likeness("native", {}, {}), 1400)
    cut = receive_cost.measure(Likeness("native", WIRE, {}), 1400)
    assert min(c.send_ns for c in cut.udp) > 1.5 * max(c.send_ns for c in whole.udp)


CHOOSE = """
import json, os
from types import SimpleNamespace
from hub import receive
{before}
settings = SimpleNamespace(rx="auto", single_queue=None, xdp="auto", mtu=1400, interface={name!r})
print(json.dumps(receive.choose(settings)))
"""


@needs_root
def test_a_veth_is_served_by_a_socket_and_unchanged(tmp_path: Path) -> None:
    with Namespace(tmp_path) as namespace:
        namespace.ip("link", "add", "ve0", "type", "veth", "peer", "ve1")
        for name in ("ve0", "ve1"):  # without addresses, which would be tentative for a second
            namespace.ip("link", "set", name, "addrgenmode", "none", "up")
        before = namespace.settled_picture()
        chosen, said = namespace.python(CHOOSE.format(before="", name="ve0"))
        assert namespace.picture() == before
    assert chosen == "udp"
    match = re.fullmatch(
        r"receive: UDP socket, (\d+) ns a frame against (\d+) by native XDP \(copy\)", said
    )
    assert match, said
    assert int(match[1]) < 0.8 * int(match[2])


@needs_root
def test_a_veth_without_native_xdp_is_served_by_a_socket(tmp_path: Path) -> None:
    with Namespace(tmp_path) as namespace:
        # more queues to send on than the other end has to receive: its driver refuses a program
        namespace.ip(
            *("link", "add", "ve0", "numrxqueues", "1", "numtxqueues", "1", "type", "veth"),
            *("peer", "ve1", "numrxqueues", "4", "numtxqueues", "4"),
        )
        answer = namespace.python(CHOOSE.format(before="", name="ve0"))
    assert answer == ["udp", "receive: UDP socket, this veth has no native XDP"]


@needs_root
def test_who_may_not_measure_gets_xdp_and_the_reason() -> None:
    code = CHOOSE.format(before="os.setgroups([]); os.setuid(65534)", name="lo")
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], cwd=ROOT, capture_output=True, text=True
    )
    chosen, said = json.loads(done.stdout)
    assert chosen == "xdp"
    assert said.startswith(
        "receive: AF_XDP, without a measurement: no network namespace of our own"
    )
    assert said.endswith(os.strerror(errno.EPERM))
