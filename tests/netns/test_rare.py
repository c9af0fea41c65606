"""What seldom happens to a tunnel, and the options that few use.

node up0 192.0.2.2 ─── 192.0.2.1 wan0 hub
"""

import re
import shutil
import subprocess
import time

import pytest

from bench.bed import Bed
from bench.traffic import ping
from bench.tunnel import SCRIPTS, START_S, Keys, start_hub, start_node
from tests.netns.conftest import assert_all_frames_accounted

ROAMED, SECOND = "192.0.2.77", "192.0.2.9"
HUB_INNER, NODE_INNER = "10.13.0.1", "10.13.0.2"
FOLLOW_S = 10


def change_address(bed: Bed, side: str, interface: str, action: str, address: str) -> None:
    namespace = bed.namespaces[side]
    index = namespace.interface_index(interface)
    with namespace.netlink() as netlink:
        netlink.addr(action, index=index, address=address, prefixlen=24)


def exchange_address(bed: Bed, before: str, after: str) -> None:
    """As another network's DHCP would: with the old address its routes go."""
    change_address(bed, "node", "up0", "del", before)
    change_address(bed, "node", "up0", "add", after)
    bed.node.route("default", "192.0.2.1")


def test_a_node_that_changes_its_address_keeps_its_session(bed: Bed, keys: Keys, rx: str) -> None:
    hub = start_hub(bed, keys, "--rx", rx)
    node = start_node(bed, keys)
    exchange_address(bed, "192.0.2.2", ROAMED)
    hub.wait_log(rf"moved to {re.escape(ROAMED)}", FOLLOW_S)
    assert ping(bed.node, HUB_INNER)
    until = time.monotonic() + FOLLOW_S
    while not hub.snapshot()["peers"][0]["endpoint"].startswith(f"{ROAMED}:"):
        assert time.monotonic() < until
        time.sleep(0.05)
    assert hub.snapshot()["counters"]["handshakes_done"] == 1
    exchange_address(bed, ROAMED, "192.0.2.2")
    assert (node.stop(), hub.stop()) == (0, 0)
    assert_all_frames_accounted(hub)


def test_a_hub_serves_on_while_its_addresses_come_and_go(bed: Bed, keys: Keys, rx: str) -> None:
    hub = start_hub(bed, keys, "--rx", rx)
    node = start_node(bed, keys)
    for action in ("add", "del"):
        change_address(bed, "hub", "wan0", action, SECOND)
        time.sleep(0.3)
        assert ping(bed.node, HUB_INNER)
    assert (node.stop(), hub.stop()) == (0, 0)
    if rx == "xdp":
        hub.wait_log("AF_XDP of worker 0: ")
        assert int(hub.wait_log(r"XDP verdicts: .*redirect_udp (\d+)")[1]) >= 5


def test_a_node_of_a_version_that_the_hub_refuses_is_told_to_the_operator(
    bed: Bed, keys: Keys, rx: str
) -> None:
    hub = start_hub(bed, keys, "--rx", rx, "--handshake", "v1")
    node = start_node(bed, keys, "--handshake", "v2", wait=False)
    hub.wait_log("handshake version not accepted")
    assert hub.snapshot()["counters"]["handshakes_done"] == 0
    node.stop()
    assert hub.stop() == 0


def test_a_node_that_echoes_sends_back_what_it_is_asked(bed: Bed, keys: Keys) -> None:
    start_hub(bed, keys)
    node = start_node(bed, keys, "--echo")
    before = node.snapshot()["counters"]["tun_written_packets"]
    # the request comes back as the node's own, the answer to it as the answer asked for
    assert len(ping(bed.hub, NODE_INNER, 5)) == 5
    assert node.snapshot()["counters"]["tun_written_packets"] == before


@pytest.mark.parametrize("backend", ["libcrypto", "ipsec-mb"])
def test_either_library_seals_for_the_other(bed: Bed, keys: Keys, rx: str, backend: str) -> None:
    other = {"libcrypto": "auto", "ipsec-mb": "libcrypto"}[backend]
    hub = start_hub(bed, keys, "--rx", rx, "--aead", backend)
    start_node(bed, keys, "--aead", other)
    assert hub.snapshot()["aead"] == backend
    assert len(ping(bed.node, HUB_INNER, 10)) == 10


def test_frames_are_dumped_as_they_are_on_the_wire(bed: Bed, keys: Keys, rx: str) -> None:
    hub = start_hub(bed, keys, "--rx", rx, "--hexdump")
    node = start_node(bed, keys, "--hexdump")
    for program in (hub, node):
        for kind in ("received from", "sent to"):
            program.wait_log(rf"\d+ B {kind} .*: clear, handshake fragment, flags 0x83")
            program.wait_log(rf"\d+ B {kind} .*: sealed, key phase 0")
        program.wait_log(r"0000  (?:[0-9a-f]{2} ){14}d1 01")  # Ethernet, magic, version


@pytest.mark.skipif(not shutil.which("setpriv"), reason="needs setpriv")
def test_a_hub_that_may_not_load_xdp_says_what_the_kernel_said(bed: Bed, keys: Keys) -> None:
    without = ["setpriv", "--bounding-set=-bpf,-sys_admin", str(SCRIPTS / "m13-hub")]
    files = ["--identity", str(keys.identity("hub")), "--nodes", str(keys.roster)]
    argv = [*without, "wan0", "--tunnel", "--rx", "xdp", *files]
    hub = bed.hub.spawn(argv, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
    _, said = hub.communicate(timeout=START_S)
    assert hub.returncode
    assert re.search(r"error: .*(?:steering|XDP).*[Pp]ermit", said.decode()), said.decode()
    assert "Traceback" not in said.decode()
