"""Namespaces without a name: what is laid there is what was asked for, and nothing outlives it."""

import contextlib
import os
import re
import socket
import subprocess
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from m13.host import unnamed_network
from m13.host.unnamed_network import Lane, UnnamedNetwork

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")
WIRE = {"tx-udp-segmentation": False}
UDP_SEGMENT, ETH_P_IP = 103, 0x0800
FRAME, FRAMES = 1462, 44


def namespaces_left(before: set[int]) -> set[int]:
    """The kernel buries a joined thread in its own time."""
    until = time.monotonic() + 1
    while (left := own_namespaces() - before) and time.monotonic() < until:
        time.sleep(0.01)
    return left


def own_namespaces() -> set[int]:
    """Of every thread of this process, and every one held open."""
    paths = [*Path("/proc/self/task").glob("*/ns/net"), *Path("/proc/self/fd").glob("*")]
    targets = []
    for path in paths:
        with contextlib.suppress(FileNotFoundError):  # a thread that just ended
            targets.append(os.readlink(path))
    return {int(match[1]) for text in targets if (match := re.match(r"net:\[(\d+)\]", text))}


@needs_root
def test_what_fails_on_the_way_is_raised_and_leaves_nothing() -> None:
    before = own_namespaces()

    def work(network: UnnamedNetwork, _stack: ExitStack) -> None:
        network.lay(Lane(0, "far"), 1500, {}, {})
        raise OSError("enough")

    with pytest.raises(OSError, match="enough"):
        unnamed_network.run(work)
    assert namespaces_left(before) == set()


def ethtool(interface: str) -> dict[str, bool]:
    """By the tool, in the namespace of this thread."""
    listing = subprocess.check_output(["ethtool", "-k", interface], text=True)
    found = re.findall(r"^\s*([\w-]+): (on|off)", listing, re.MULTILINE)
    return {name: state == "on" for name, state in found}


@needs_root
@pytest.mark.parametrize("is_on", [True, False])
def test_features_are_copied_to_both_ends(is_on: bool) -> None:
    names = ["tx-udp-segmentation", "tx-generic-segmentation", "tx-checksum-ip-generic"]
    wanted = dict.fromkeys([*names, "rx-udp-gro-forwarding"], is_on)
    lane = Lane(0, "near")

    def work(network: UnnamedNetwork, _stack: ExitStack) -> list[dict[str, bool]]:
        network.lay(lane, 1500, wanted, {"tx-udp-segmentation": not is_on})
        network.enter("near")
        near = ethtool(lane.source)
        network.enter("far")
        return [near, ethtool(lane.target)]

    near, far = unnamed_network.run(work)
    spelled = {"generic-segmentation-offload" if n == names[1] else n: n for n in wanted}
    assert {n: near[tool] for tool, n in spelled.items()} == wanted
    assert far["tx-udp-segmentation"] is not is_on


@needs_root
@pytest.mark.parametrize(
    ("features", "is_heard", "lengths"),
    [
        (WIRE, True, [FRAME + 28] * FRAMES),
        ({}, True, [FRAME * FRAMES + 28]),
        (WIRE, False, []),
        ({}, False, []),
    ],
)
def test_trains_arrive_cut_or_whole_or_not_at_all(
    features: dict[str, bool], is_heard: bool, lengths: list[int]
) -> None:
    lane = Lane(7, "far")

    def work(network: UnnamedNetwork, stack: ExitStack) -> list[int]:
        network.lay(lane, 1500, features, {}, is_heard=is_heard)
        network.enter("near")
        kind = socket.SOCK_RAW
        tap = stack.enter_context(socket.socket(socket.AF_PACKET, kind, socket.htons(ETH_P_IP)))
        tap.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        network.enter("far")
        udp = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        udp.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, FRAME)
        udp.connect((lane.target_address, 5000))
        udp.send(bytes(FRAME * FRAMES))
        tap.settimeout(0.1)
        seen: list[int] = []
        try:
            while True:
                data, sender = tap.recvfrom(1 << 17)
                if sender[2] != 3:  # PACKET_OTHERHOST: the kernel drops it
                    seen.append(len(data) - 14)
        except TimeoutError:
            return seen

    assert unnamed_network.run(work) == lengths
