"""The hub as a router, with real packets.

node side: TUN m13t0 10.13.0.1/24 in the hub  |  hub: ve0 192.0.2.1 --- 192.0.2.2 internet
"""

import ipaddress
from pathlib import Path

import pytest

from tests.host.namespace import Namespace

ENABLE = """
import ipaddress
from hub import nat
from m13.host.tun import Tun
device = Tun("m13t0", 1280)
device.add_address("10.13.0.1", 24)
device.up()
nat.enable(journal, "m13t0", nat.Subnets(ipaddress.IPv4Network("10.13.0.0/24")))
"""

# Puts an IPv4 packet into the TUN, as from a node, and reads what the kernel gives back.
EXCHANGE = """
import json, select
import os
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.packet import Raw
import ipaddress
from hub import nat
from m13.host.journal import Journal
from m13.host.tun import Tun
with Tun("m13t0", 1280) as device, Journal.open("test", "m13t0") as journal:
    device.add_address("10.13.0.1", 24)
    device.up()
    nat.enable(journal, "m13t0", nat.Subnets(ipaddress.IPv4Network("10.13.0.0/24")))
    def exchange(packet):
        os.write(device.fd, bytes(packet))
        if not select.select([device.fd], [], [], 2)[0]:
            return None
        return IP(os.read(device.fd, 2048))
    ends = dict(src="10.13.0.2", dst="192.0.2.2")
    pong = exchange(IP(**ends) / ICMP(id=7, seq=1) / Raw(b"hello"))
    answer = exchange(IP(**ends) / TCP(sport=4000, dport=PORT, flags="S", options=[("MSS", 1460)]))
    to_peer = exchange(IP(src="10.13.0.2", dst="10.13.0.3") / UDP(sport=1, dport=2))
    print(json.dumps([
        [pong.src, pong.dst, bytes(pong[Raw]).decode()],
        [str(answer[TCP].flags), dict(answer[TCP].options)["MSS"]],
        [to_peer.src, to_peer.dst],
    ]))
"""

LISTEN = """
import socket, sys
server = socket.create_server(("192.0.2.2", 8000))
holding = True
"""


def _internet(hub: Namespace, internet: Namespace) -> None:
    hub.veth("ve0", "ve1", "192.0.2.1/24", peer_namespace=internet.name)
    internet.ip("addr", "add", "192.0.2.2/24", "dev", "ve1")
    internet.ip("link", "set", "ve1", "up")


@pytest.mark.parametrize("ending", ["leave", "kill"])
@pytest.mark.parametrize("prelude", [None, "forwarding", "odd settings"])
def test_everything_is_as_before(tmp_path: Path, ending: str, prelude: str | None) -> None:
    with Namespace(tmp_path, "nat") as hub, Namespace(tmp_path, "nat") as internet:
        _internet(hub, internet)
        if prelude == "forwarding":
            hub.command("sysctl", "-qw", "net.ipv4.ip_forward=1")
        if prelude == "odd settings":
            # What switching ip_forward to 1 and back would leave different.
            hub.command("sysctl", "-qw", "net.ipv4.conf.all.accept_redirects=0")
            hub.command("sysctl", "-qw", "net.ipv4.conf.ve0.forwarding=1")
        before = hub.settled_picture()
        process = hub.owner(ENABLE)
        assert hub.command("sysctl", "-n", "net.ipv4.ip_forward") == "1\n"
        assert "masquerade" in hub.command("nft", "list", "ruleset")
        getattr(hub, ending)(process)
        if ending == "kill":
            assert "masquerade" in hub.command("nft", "list", "ruleset")
            hub.leave(hub.owner(ENABLE))
        assert hub.picture() == before


@pytest.mark.parametrize("first_to_leave", [0, 1])
def test_two_hubs_forward_until_the_last_leaves(tmp_path: Path, first_to_leave: int) -> None:
    with Namespace(tmp_path, "nat") as hub, Namespace(tmp_path, "nat") as internet:
        _internet(hub, internet)
        before = hub.settled_picture()
        other = ENABLE.replace("m13t0", "m13t1").replace("10.13.0", "10.14.0")
        processes = [hub.owner(ENABLE), hub.owner(other, "m13t1")]
        hub.leave(processes.pop(first_to_leave))
        for interface in ("all", "ve0", f"m13t{1 - first_to_leave}"):
            assert hub.command("sysctl", "-n", f"net.ipv4.conf.{interface}.forwarding") == "1\n"
        hub.leave(processes.pop())
        assert hub.picture() == before


def test_packets_go_out_under_our_address_and_come_back(tmp_path: Path) -> None:
    with Namespace(tmp_path, "nat") as hub, Namespace(tmp_path, "nat") as internet:
        _internet(hub, internet)
        internet.owner(LISTEN)
        pong, answer, to_peer = hub.python(EXCHANGE.replace("PORT", "8000"))
    # The internet side has no route to 10.13.0.0/24, so an answer proves the masquerade.
    assert pong == ["192.0.2.2", "10.13.0.2", "hello"]
    assert answer == ["SA", 1280 - 40]
    assert to_peer == ["10.13.0.2", "10.13.0.3"]


def test_a_firewall_in_the_way_is_named_in_the_log(tmp_path: Path) -> None:
    with Namespace(tmp_path, "nat") as hub:
        hub.command("nft", "add table ip f")
        hub.command("nft", "add chain ip f F { type filter hook forward priority 0; policy drop; }")
        said = hub.leave(hub.owner(ENABLE))
    assert 'nft insert rule ip f F iifname "m13t0" accept' in said


@pytest.mark.parametrize("tun", ["m13tun0", "a-b", "a_b", "a.b", "7"])
def test_every_interface_name_has_its_own_valid_table(tmp_path: Path, tun: str) -> None:
    body = f"""
    import ipaddress
    from hub import nat
    nat.enable(journal, {tun!r}, nat.Subnets(ipaddress.{ipaddress.IPv4Network("10.13.0.0/24")!r}))
    """
    with Namespace(tmp_path, "nat") as hub:
        before = hub.settled_picture()
        process = hub.owner(body)
        assert f'oifname != "{tun}"' in hub.command("nft", "list", "ruleset")
        assert hub.leave(process) == ""
        assert hub.picture() == before
