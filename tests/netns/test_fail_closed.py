"""While there is no session nothing of the node's traffic leaves it in the clear.

    node up0 (captured here) ─── wan0 hub ─── internet

The node has a default route past the tunnel, IPv4 and IPv6: what leaks would leave by up0. The
hub's end shows nothing to a packet socket: XDP takes the tunnel's frames before it.
"""

import contextlib
import os
import socket
import time

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import ARP, Ether

from bench import traffic
from bench.bed import HUB_ADDRESS, HUB_ADDRESS6, INTERNET_ADDRESS, NODE_ADDRESS6, Bed
from bench.tunnel import PORT, SCRIPTS, Keys, start_hub, start_node
from m13.host import firewall
from tests.netns.capture import Capture

MARK = os.urandom(16)
TARGETS = [
    (socket.AF_INET, INTERNET_ADDRESS),
    (socket.AF_INET, "10.13.0.1"),
    (socket.AF_INET, "203.0.113.99"),
    (socket.AF_INET6, "2001:db8:99::1"),
    (socket.AF_INET6, HUB_ADDRESS6),
]
RT_SCOPE_LINK = 253  # rtnetlink(7)
QUICK = ("--keepalive-ms", "100")


def send_marks(bed: Bed) -> None:
    """To places an application may want, in every way it may try."""
    for family, address in TARGETS:
        for options in ([], [(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"m13tun0")]):
            with bed.node.inside():
                sock = socket.socket(family, socket.SOCK_DGRAM)
            with contextlib.closing(sock), contextlib.suppress(OSError):
                for option in options:
                    sock.setsockopt(*option)
                sock.sendto(MARK * 4, (address, 9))


def strangers(frames: list[bytes]) -> list[str]:
    """Frames that are neither the tunnel's own nor the link's business."""
    found = []
    for data in frames:
        packet = Ether(data)
        own = IP in packet and UDP in packet and packet[UDP].dport == PORT
        own = own and packet[IP].dst == HUB_ADDRESS
        link = ARP in packet or (IPv6 in packet and packet[IPv6].src.startswith(("fe80:", "::")))
        neighbour = IPv6 in packet and packet[IPv6].nh == 58 and packet[IPv6].hlim == 255
        if MARK in data or not (own or link or neighbour):
            found.append(packet.summary())
    return found


@pytest.mark.parametrize("state", ["session up", "hub stopped", "hub killed", "hub back"])
def test_nothing_leaves_in_the_clear(bed: Bed, keys: Keys, state: str) -> None:
    hub = start_hub(bed, keys, *QUICK)
    node = start_node(bed, keys)
    if state != "session up":
        hub.kill() if state == "hub killed" else hub.stop()
        node.wait_state("Registering")
    if state == "hub back":
        hub = start_hub(bed, keys, *QUICK)
        node.wait_state("Established")
    with Capture(bed.node, bed.node_interface, outgoing=True) as capture:
        for _ in range(5):
            send_marks(bed)
            time.sleep(0.1)
        capture.settle()
    assert capture.left, "the node itself must be heard"
    assert strangers(capture.left) == []
    if state == "hub killed":
        hub = start_hub(bed, keys, *QUICK)
        node.wait_state("Established")
    assert (node.stop(), hub.stop()) == (0, 0)


def test_ipv6_is_as_before_while_and_after(bed: Bed, keys: Keys) -> None:
    def facts() -> list[object]:
        picture = bed.node.picture()
        settings = {k: v for k, v in picture["settings"].items() if "ipv6" in k}
        here = {k: v for k, v in settings.items() if "m13tun0" not in k}
        return [here, [a for a in picture["addresses"] if NODE_ADDRESS6 in a]]

    before = facts()
    hub, node = start_hub(bed, keys), start_node(bed, keys)
    assert facts() == before
    assert (node.stop(), hub.stop()) == (0, 0)
    with Capture(bed.node, bed.node_interface, outgoing=True) as capture:
        send_marks(bed)
        capture.settle()
    # the capture would have seen a leak: without the tunnel these very packets pass
    assert any(IPv6 in Ether(data) and MARK in data for data in capture.left)
    assert any(IP in Ether(data) and MARK in data for data in capture.left)


def test_a_split_tunnel_takes_only_its_prefixes(bed: Bed, keys: Keys) -> None:
    hub = start_hub(bed, keys)
    node = start_node(bed, keys, "--route", "10.13.0.0/24")
    assert traffic.ping(bed.node, "10.13.0.1")
    with Capture(bed.node, bed.node_interface, outgoing=True) as capture:
        send_marks(bed)
        capture.settle()
    clear = {Ether(data)[IP].dst for data in capture.left if MARK in data and IP in Ether(data)}
    assert clear == {INTERNET_ADDRESS, "203.0.113.99"}
    assert (node.stop(), hub.stop()) == (0, 0)


def disturb(bed: Bed, how: str) -> None:
    with bed.node.netlink() as netlink:
        index = netlink.link_lookup(ifname="m13tun0")[0]
        if how in ("TUN down", "TUN down and up"):
            netlink.link("set", index=index, state="down")
        if how == "TUN down and up":
            netlink.link("set", index=index, state="up")
        if how == "routes deleted":
            for half in ("0.0.0.0/1", "128.0.0.0/1"):
                netlink.route("del", dst=half, oif=index, scope=RT_SCOPE_LINK)
    if how == "firewall flushed":
        with bed.node.inside():
            firewall.run("flush ruleset\n")
        time.sleep(2.5)  # looked for every two seconds


@pytest.mark.parametrize(
    "how", ["TUN down", "TUN down and up", "routes deleted", "firewall flushed"]
)
def test_nothing_leaves_when_the_tunnel_is_disturbed_on_the_node(
    bed: Bed, keys: Keys, how: str
) -> None:
    start_hub(bed, keys, *QUICK)
    start_node(bed, keys).wait_log(r"\btunnel 10\.13\.")
    disturb(bed, how)
    time.sleep(0.3)
    with Capture(bed.node, bed.node_interface, outgoing=True) as capture:
        for _ in range(5):
            send_marks(bed)
            time.sleep(0.1)
        capture.settle()
    assert strangers(capture.left) == []
    if how != "TUN down":
        assert len(traffic.ping(bed.node, INTERNET_ADDRESS, 3)) == 3


@pytest.mark.parametrize("side", ["hub", "node"])
def test_a_deleted_tun_ends_its_process_with_one_line(bed: Bed, keys: Keys, side: str) -> None:
    programs = {"hub": start_hub(bed, keys, *QUICK), "node": start_node(bed, keys)}
    programs["node"].wait_log(r"\btunnel 10\.13\.")
    namespace = bed.hub if side == "hub" else bed.node
    with namespace.netlink() as netlink:
        netlink.link("del", index=netlink.link_lookup(ifname="m13tun0")[0])
    programs[side].process.wait(10)
    assert programs[side].process.returncode == 1
    assert f"m13-{side}: error: m13tun0 was removed" in programs[side].log
    assert "Traceback" not in programs[side].log


def test_a_closed_terminal_ends_the_node_in_order(bed: Bed, keys: Keys) -> None:
    start_hub(bed, keys, *QUICK)
    command = [str(SCRIPTS / "m13-node"), "--hub", f"{HUB_ADDRESS}:{PORT}", "--tunnel"]
    command += ["--identity", str(keys.identity("node")), "--hub-key", keys.fingerprints["hub"]]
    terminal, line = os.openpty()
    name = os.ttyname(line)
    child = bed.node.spawn(
        command,
        stdin=line,
        stdout=line,
        stderr=line,
        env={**os.environ, "M13_RUN_DIR": str(bed.run_directory)},
        # the leader of a session gets the terminal it opens, as one started over ssh has it
        preexec_fn=lambda: os.close(os.open(name, os.O_RDWR)),
    )
    os.close(line)
    said = b""
    while b"MTU 1400" not in said:
        said += os.read(terminal, 4096)
    os.close(terminal)
    assert child.wait(10) == 0


def test_a_killed_node_stays_closed_until_it_starts_again(bed: Bed, keys: Keys) -> None:
    start_hub(bed, keys, *QUICK)
    node = start_node(bed, keys)
    node.wait_log(r"\btunnel 10\.13\.")
    node.kill()
    with Capture(bed.node, bed.node_interface, outgoing=True) as capture:
        for _ in range(3):
            send_marks(bed)
            time.sleep(0.1)
        capture.settle()
    # the kernel itself answers the hub's sealed frames with ICMP: none of it is ours in the clear
    assert not any(MARK in frame for frame in capture.left)
    again = start_node(bed, keys)
    assert traffic.ping(bed.node, INTERNET_ADDRESS, 3)
    assert again.stop() == 0
