"""What a stranger, or a hub that was taken over, sends a node delays no attempt and breaks nothing.

m13-node up0 192.0.2.2 ─── 192.0.2.1 wan0 reference hub (Python)
"""

import contextlib
import os
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass

from scapy.layers.l2 import Ether

from bench.bed import HUB_ADDRESS, Bed
from bench.tunnel import PORT, Keys, Program, start_node
from tests.netns.capture import raw_packet
from tests.netns.reference import ReferenceHub, load_identity
from tests.netns.victim import HUB, NODE
from tests.scapy_m13 import CONTROL, M13, Config, frame

CONFIG = Config(node=NODE, prefix=24, hub=HUB, mtu=1400, keepalive_ms=1000)
KEEPALIVE = b"\0\0\0"
PATIENCE_S = 15


@dataclass(frozen=True)
class Served:
    node: Program
    hub: ReferenceHub

    def counter(self, name: str) -> int:
        return int(self.node.snapshot()["counters"][name])

    def registration(self) -> bytes:
        """A node that heard nothing for five seconds registers."""
        while True:
            data = next(self.hub.link.clear_frames())
            if data[54] == 0x00:
                break
        return data

    def welcome_again(self) -> None:
        self.hub.link.send_echo(self.registration(), self.hub.cookie)


@contextlib.contextmanager
def with_session(bed: Bed, keys: Keys, *options: str) -> Iterator[Served]:
    with bed.hub.inside():
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with sock:
        sock.bind((HUB_ADDRESS, PORT))
        hub = ReferenceHub(sock, load_identity(keys.identity("hub")), "v2")
        node = start_node(bed, keys, *options, wait=False)
        hub.welcome()
        hub.answer()
        hub.confirm(CONFIG)
        node.wait_log(r"tunnel 10.13.0.2/24, MTU 1400")
        sock.settimeout(PATIENCE_S)
        yield Served(node, hub)
        assert node.stop() == 0
    assert "Traceback" not in node.log


def test_a_node_asks_for_config_until_it_comes_also_when_it_had_one_before(
    bed: Bed, keys: Keys
) -> None:
    """After a loss the hub may be another, with other addresses."""
    with with_session(bed, keys) as served:
        hub = served.hub
        served.welcome_again()
        hub.answer()
        hub.link.counter = 0
        first = hub.link.receive_message()
        hub.link.keys = hub.keys()
        hub.link.send(hub.link.sealed(CONTROL, KEEPALIVE))  # CONFIG was lost on its way
        served.node.wait_state("Established")
        assert hub.link.receive_message() == first
        hub.send_config(CONFIG)
        time.sleep(0.3)
        before = served.counter("handshake_resends")
        hub.link.send(hub.link.sealed(CONTROL, KEEPALIVE))
        time.sleep(2.5)
        assert served.counter("handshake_resends") == before


def test_a_server_hello_of_a_stranger_ends_no_later_attempt(bed: Bed, keys: Keys) -> None:
    with with_session(bed, keys) as served:
        served.welcome_again()
        started = served.counter("handshakes_started")
        for _ in range(3):
            served.hub.link.send_message(b"\x02" + os.urandom(8787))
            time.sleep(0.3)
        assert served.counter("handshakes_refused") > 0
        served.hub.answer()
        served.hub.link.counter = 0
        served.hub.confirm(CONFIG)
        served.node.wait_state("Established")
        assert served.counter("handshakes_started") == started


def test_what_is_larger_than_the_tunnel_is_not_sent_back(bed: Bed, keys: Keys) -> None:
    """A sealed frame may fill a datagram; `--echo` has room for what a tunnel carries."""
    with with_session(bed, keys, "--echo") as served:
        link = served.hub.link
        for size in (60000, 4000, 1381):
            link.send_packet(raw_packet(HUB, NODE, 9, os.urandom(size)))
        packet = raw_packet(HUB, NODE, 9, os.urandom(1380))
        link.send_packet(packet)
        assert link.receive_packet()[20:] == packet[20:]
        assert served.node.snapshot()["drops"]["tunnel_mtu"] == 3


def test_an_echo_of_a_stranger_gives_no_cookie(bed: Bed, keys: Keys) -> None:
    """The hub's repeats the sequence of what it answers, which a stranger has not seen."""
    with with_session(bed, keys) as served:
        link = served.hub.link
        registration = served.registration()
        sequence = Ether(registration)[M13].seq_id
        for guess in (0, sequence - 1, sequence + 1000):
            link.send(frame(link.mac, CONTROL, sequence=guess, tag=os.urandom(16)))
        link.send_echo(registration, served.hub.cookie)
        hello = next(data for data in link.clear_frames() if data[54] == 0x83)
        assert hello[18:34] == served.hub.cookie
        assert served.node.snapshot()["drops"]["handshake_message"] == 3
