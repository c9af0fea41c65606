"""Hexdumps of a tunnel in use: both directions, the right offsets, and never what was inside.

node up0 192.0.2.2 ─── 192.0.2.1 wan0 hub ─── 198.51.100.2 internet
"""

import re
import socket

import pytest
from scapy.layers.l2 import Ether

from bench import traffic
from bench.bed import INTERNET_ADDRESS, Bed
from bench.tunnel import Keys, Program, start_hub, start_node
from tests.scapy_m13 import FRAME, M13

CANARY = b"CANARY-in-a-coal-mine"
HEAD = re.compile(r"(\d+) B (sent to|received from) (\S+|the hub): (sealed|clear), (.*)$")
ROW = re.compile(r"  ([0-9a-f]{4})  ((?:[0-9a-f]{2} ?)+)  ")


def dumps(log: str) -> list[tuple[re.Match[str], bytes]]:
    """Each head with the bytes below it."""
    found: list[tuple[re.Match[str], bytes]] = []
    for line in log.splitlines():
        if head := HEAD.search(line):
            found.append((head, b""))
        elif (row := ROW.search(line)) and found:
            head, data = found[-1]
            assert int(row[1], 16) == len(data)
            found[-1] = head, data + bytes.fromhex(row[2])
    return found


@pytest.mark.parametrize("how", ["option", "environment"])
def test_dumps_show_headers_of_both_ways_and_never_a_payload(
    bed: Bed, keys: Keys, rx: str, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    option = ["--hexdump"] if how == "option" else []
    if how == "environment":
        monkeypatch.setenv("M13_HEXDUMP", "1")
    hub = start_hub(bed, keys, "--rx", rx, *option)
    node = start_node(bed, keys, *option)
    for _ in range(5):
        send_canary(bed)
    assert len(traffic.ping(bed.node, INTERNET_ADDRESS, 2)) == 2
    assert (node.stop(), hub.stop()) == (0, 0), node.log + hub.log
    for program in (hub, node):
        assert_true_and_silent(program)


def send_canary(bed: Bed) -> None:
    """To the internet and back through the tunnel: an echo carries its payload both ways."""
    request = traffic.echo_request(7, 7, CANARY * 8)
    with bed.node.inside():
        sock = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
    with sock:
        sock.settimeout(5)
        sock.sendto(request, (INTERNET_ADDRESS, 0))
        while CANARY not in sock.recv(65536):
            pass


def assert_true_and_silent(program: Program) -> None:
    found = dumps(program.log)
    ways = {(head[2], head[4]) for head, _ in found}
    assert ways == {(way, kind) for way in ("sent to", "received from")
                    for kind in ("sealed", "clear")}  # fmt: skip
    for head, data in found:
        header = Ether(data)[M13]
        assert (header.magic, header.version) == (0xD1, 1)
        assert len(data) == min(int(head[1]), 96)
        if head[4] == "sealed":
            assert header.crypto == 1
            shown = re.fullmatch(r"key phase (\d+), counter (\d+), direction (\d)", head[5])
            assert shown, head[0]
            seen = (header.phase, header.counter, header.nonce_direction)
            assert tuple(map(int, shown.groups())) == seen
        else:
            assert f"flags 0x{int(header.flags):02x}" in head[5]
            assert int(header.flags) in (0x00, 0x80, 0x83)
    seconds = 1 + len(re.findall(r"RX:\d+ TX:", program.log))
    for way in ("sent to", "received from"):
        assert sum(head[2] == way for head, _ in found) <= 20 + 20 * (seconds + 1)
    # not as text, not as bytes, not with what a row's end cuts off
    everything = b"".join(data[FRAME:] for _, data in found)
    text = program.log.encode()
    assert CANARY not in text
    for start in range(len(CANARY) - 5):
        assert CANARY[start : start + 6] not in everything + text
    assert CANARY.hex(" ")[:17].encode() not in text
