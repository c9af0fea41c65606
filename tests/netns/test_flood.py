"""A flood from spoofed addresses leaves a hub no state, asks no lattice work, and lets nodes in.

node and flood up0 192.0.2.2 (and 100.64.0.0/10) ─── 192.0.2.1 wan0 hub

What it costs a tunnel that is up is measured: python -m bench.flood, and below as a soak test.
"""

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM1024PrivateKey

from bench import flood, measure
from bench.bed import Bed
from bench.traffic import ping
from bench.tunnel import Keys, Program, start_hub, start_node
from tests.netns.conftest import assert_all_frames_accounted
from tests.netns.forged import MAC, Spoofer
from tests.netns.reference import load_identity
from tests.scapy_m13 import ClientHello, fragments

RATE, FLOOD_S = 5000, 1.5
NO_COOKIE_MAX = 8  # §9, and as many handshakes a second
GROWTH_BYTES_MAX = 1 << 20


@pytest.fixture(scope="module", autouse=True)
def _generators() -> None:
    measure.build()


def data_bytes(program: Program) -> int:
    """Writable memory it asked the kernel for (proc_pid_statm(5), "data"). Not what of it is
    resident: a flood also reaches buffers that were there from the start and unused till then."""
    return int(Path(f"/proc/{program.process.pid}/statm").read_text().split()[5]) * 4096


def pending_during(hub: Program, seconds: float) -> list[int]:
    found = []
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        found.append(int(hub.snapshot()["gauges"]["peers_pending"]))
        time.sleep(0.05)
    return found


FLOODS = [
    (kind, accepted, rx)
    for kind in flood.KINDS
    for accepted in ("both", "v2")
    for rx in ("xdp", "udp")
    if (kind, accepted) != ("registration", "v2")  # it has no version
]
BRIEF = [("hello", "both", "xdp"), ("bare", "v2", "udp")]


@pytest.mark.parametrize(
    ("kind", "accepted", "rx"),
    [pytest.param(*row, marks=[] if row in BRIEF else pytest.mark.soak) for row in FLOODS],
)
def test_no_more_than_the_budget_is_kept_of_spoofed_sources(
    bed: Bed, keys: Keys, rx: str, kind: str, accepted: str
) -> None:
    hub = start_hub(bed, keys, "--rx", rx, "--handshake", accepted)
    assert start_node(bed, keys).stop() == 0  # a hub loads what it needs for its first node
    hub.wait_log(r"(?s:Up:\d+s.*Up:\d+s)")  # and for its reports
    with flood.flood(bed.node, kind, RATE, 10):
        time.sleep(0.2)
        before, memory = hub.snapshot()["counters"], data_bytes(hub)
        kept = pending_during(hub, FLOOD_S)
        node = start_node(bed, keys)  # among them
        assert ping(bed.node, "10.13.0.1")
        assert node.stop() == 0
    after = hub.snapshot()
    assert max(kept) <= (NO_COOKIE_MAX if kind != "registration" and accepted == "both" else 0)
    assert after["counters"]["handshakes_started"] - before["handshakes_started"] == 1
    assert after["counters"]["handshakes_done"] == 2
    assert data_bytes(hub) - memory < GROWTH_BYTES_MAX
    assert hub.log.count("refused") == 0
    assert hub.stop() == 0
    assert_all_frames_accounted(hub)


def hellos(keys: Keys) -> Iterator[bytes]:
    """Of a listed node, whose key anybody can read on the wire, each with another nonce."""
    node_key = load_identity(keys.identity("node")).public_key().public_bytes_raw()
    encapsulation_key = MLKEM1024PrivateKey.generate().public_key().public_bytes_raw()
    for number in range(1 << 16):
        nonce = number.to_bytes(32, "big")
        yield bytes(
            ClientHello(
                version=1, nonce=nonce, encapsulation_key=encapsulation_key, node_key=node_key
            )
        )


def test_spoofed_v1_handshakes_get_eight_answers_a_second(bed: Bed, keys: Keys, rx: str) -> None:
    """Whole ClientHellos as v1 has them, without cookie, every one from another address."""
    hub = start_hub(bed, keys, "--rx", rx)
    begin = time.monotonic()
    with Spoofer(bed.node) as spoofer:
        for number, hello in zip(range(400), hellos(keys), strict=False):
            source = f"100.64.{number // 200}.{1 + number % 200}", 5000
            for data in fragments(MAC, hello, 3 * number):
                spoofer.send(data, source)
    elapsed = time.monotonic() - begin
    time.sleep(0.3)
    counters = hub.snapshot()["counters"]
    assert 1 <= counters["handshakes_started"] <= NO_COOKIE_MAX * (2 + elapsed)
    assert hub.snapshot()["gauges"]["peers_pending"] <= NO_COOKIE_MAX
    node = start_node(bed, keys)
    assert (node.stop(), hub.stop()) == (0, 0)
    assert_all_frames_accounted(hub)


def test_spoofed_ports_of_a_nodes_address_displace_no_handshake_with_a_cookie(
    bed: Bed, keys: Keys
) -> None:
    """Eight handshakes may be pending from one address: others' without cookie are not counted."""
    hub = start_hub(bed, keys, "--rx", "udp")
    hello = fragments(MAC, b"\x01\x01" + bytes(4192), 1)[0]
    with Spoofer(bed.node) as spoofer:
        node = start_node(bed, keys, wait=False)
        until = time.monotonic() + 10
        sent = 0
        while "tunnel 10.13.0.2/24" not in node.log and time.monotonic() < until:
            for _ in range(20):
                port = 10000 + sent % 50000
                with contextlib.suppress(OSError):  # the node's routes are about to change
                    spoofer.send(hello, ("192.0.2.2", port))
                    sent += 1
    assert "tunnel 10.13.0.2/24" in node.log
    assert sent > 10 * NO_COOKIE_MAX
    assert hub.snapshot()["counters"]["handshakes_started"] == 1
    assert (node.stop(), hub.stop()) == (0, 0)


@pytest.mark.soak
def test_a_tunnel_keeps_its_throughput_and_nodes_connect(rx: str) -> None:
    for kind in flood.KINDS:
        found = flood.throughput(rx, kind, flood.ROUNDS)
        slowest = max(flood.connects(rx, kind, flood.CONNECTS))
        print(f"{rx} {kind}: {found['kept']:.1%} kept, connected within {slowest:.2f} s")
        assert found["kept"] >= flood.KEPT_MIN
        assert slowest <= flood.CONNECT_S_MAX
