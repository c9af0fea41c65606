"""A TCP connection that passes the hub is told what the tunnel leaves of a segment, both ways.

reference node up0 192.0.2.2 ─── 192.0.2.1 wan0 m13-hub net0 ─── eth0 198.51.100.2 internet
"""

import socket
from collections.abc import Iterator

import pytest
from scapy.layers.inet import IP, TCP
from scapy.layers.l2 import Ether

from bench.bed import INTERNET_ADDRESS
from bench.tunnel import Keys
from tests.netns.capture import Capture
from tests.netns.victim import NODE, Victim, served

ETHERNET_SEGMENT = 1460
HEADERS = 40  # IPv4 and TCP
PORT = 40404


@pytest.fixture(scope="module")
def victim(request: pytest.FixtureRequest, keys: Keys, rx: str) -> Iterator[Victim]:
    yield from served(request, keys, "--rx", rx, "--keepalive-ms", "20000")


def segment_size(packet: IP) -> int:
    return int(dict(packet[TCP].options)["MSS"])


@pytest.mark.parametrize("asked", [ETHERNET_SEGMENT, 1000])
def test_no_connection_learns_of_more_than_the_tunnel_carries(victim: Victim, asked: int) -> None:
    """1000 fits and stays; what is not from a kernel with our MTU, such as a machine behind the
    node, asks for what its own network carries."""
    fits = victim.node.config.mtu - HEADERS
    assert fits < ETHERNET_SEGMENT
    with victim.bed.internet.inside():
        listener = socket.create_server((INTERNET_ADDRESS, 0))
    with listener, Capture(victim.bed.internet, "eth0") as capture:
        port = listener.getsockname()[1]
        head = TCP(sport=PORT + asked, dport=port, flags="S", options=[("MSS", asked)])
        victim.node.link.send_packet(bytes(IP(src=NODE, dst=INTERNET_ADDRESS) / head))
        answer = IP(victim.node.link.receive_packet())
        capture.settle()
    (arrived,) = [
        packet[IP]
        for packet in map(Ether, capture.arrived)
        if TCP in packet and packet[TCP].dport == port and packet[TCP].flags == "S"
    ]
    assert segment_size(arrived) == min(asked, fits)
    assert (answer[TCP].flags, answer[TCP].sport) == ("SA", port)
    assert segment_size(answer) == fits  # the internet asked for what Ethernet carries
