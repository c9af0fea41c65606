"""What strangers put in between a node and its hub delays and ends nothing.

reference node, strangers up0 192.0.2.2 ─── 192.0.2.1 wan0 m13-hub
"""

import contextlib
import os
import time
from collections.abc import Iterator

import pytest
from cryptography.exceptions import InvalidTag

from bench.tunnel import Keys
from tests.netns import forged
from tests.netns.victim import Victim, served
from tests.scapy_m13 import CONTROL, fragments, frame

KEEPALIVE = b"\0\0\0"


@pytest.fixture(scope="module")
def victim(request: pytest.FixtureRequest, keys: Keys, rx: str) -> Iterator[Victim]:
    yield from served(request, keys, "--rx", rx, "--keepalive-ms", "20000")


def test_a_spoofed_fragment_without_cookie_keeps_no_node_out(victim: Victim) -> None:
    """It claims a slot of v1's budget for the node's address, which the node then finds taken."""
    with victim.another_node() as node, forged.Spoofer(victim.bed.node) as spoofer:
        own = "192.0.2.2", node.link.socket.getsockname()[1]
        hello = fragments(forged.MAC, b"\x01\x01" + os.urandom(4192), 5000)
        spoofer.send(hello[0], own)
        assert node.connect().node == "10.13.0.3"
    assert victim.is_alive()


def test_an_admitted_node_takes_no_place_of_one_that_shakes_hands(victim: Victim) -> None:
    """Its newest authentic frame comes from where the other's handshake is under way."""
    with victim.another_node() as node, forged.Spoofer(victim.bed.node) as spoofer:
        node.register()
        node.hello()
        time.sleep(0.1)  # it has a place from now on
        own = "192.0.2.2", node.link.socket.getsockname()[1]
        spoofer.send(victim.node.link.sealed(CONTROL, KEEPALIVE), own)
        node.finish()
        victim.node.link.send(victim.node.link.sealed(CONTROL, KEEPALIVE))  # back where it was
        while not node.config:
            with contextlib.suppress(InvalidTag):  # what the hub had for the other there meanwhile
                node.configure()
        assert node.config.node == "10.13.0.3"
    assert victim.is_alive()


def test_a_key_phase_that_was_changed_on_its_way_ends_no_session(victim: Victim) -> None:
    """M13+3 of a ClientHello is in the clear: the hub gives no two keys in use one phase."""
    link = victim.node.link
    present = link.phase
    victim.node.register()
    victim.node.hello()  # a rekey, under the present phase
    victim.node.finish()
    link.phase = present + 1
    victim.node.configure()
    assert victim.is_alive()


def test_hubs_do_not_answer_each_others_echoes(victim: Victim) -> None:
    """One spoofed registration would have two of them talk for ever."""
    echoes = victim.counter("echoes")
    with victim.socket() as sock:
        sock.send(frame(forged.MAC, CONTROL, tag=os.urandom(16)))
        sock.settimeout(0.3)
        with pytest.raises(TimeoutError):
            sock.recv(2048)
        sock.send(frame(forged.MAC, CONTROL))
        cookie = sock.recv(2048)[18:34]
        time.sleep(0.15)  # ten a second
        sock.send(frame(forged.MAC, CONTROL, tag=cookie))
        assert sock.recv(2048)[18:34] == cookie
    assert victim.counter("echoes") == echoes + 2
