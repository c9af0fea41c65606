"""Keys are where they must be and nowhere else, and gone when they are done with.

    reference node (Python) 192.0.2.2 up0 ─── wan0 192.0.2.1 m13-hub ─── internet
    m13-node                192.0.2.2 up0 ─── wan0 192.0.2.1 reference hub (Python)

The reference peers derive every key by themselves; all readable memory of the real processes is
then searched for them. That the present keys are found is the proof that the search works.
"""

import base64
import hmac
import os
import time
from pathlib import Path

from bench.bed import Bed
from bench.tunnel import Keys, Program, start_hub, start_node
from tests.netns import memory
from tests.netns.reference import ReferenceHub, ReferenceNode, Transcript, load_identity
from tests.netns.test_wire import HUB, NODE, hub_socket, node_socket
from tests.scapy_m13 import HUB_TO_NODE, NODE_TO_HUB, Config, ServerHello

BACKENDS = {"xdp": "auto", "udp": "libcrypto"}
OVERLAP_S = 5
WAIT_S = 10


def of_session(name: str, keys: dict[int, bytes]) -> dict[str, bytes]:
    """What names a session's keys: themselves, which are round keys 0 and 1, and round key 2."""
    found = {}
    for direction, word in ((HUB_TO_NODE, "down"), (NODE_TO_HUB, "up")):
        found[f"{name} {word}"] = keys[direction]
        found[f"{name} {word} expanded"] = memory.first_expanded(keys[direction])
    return found


def on_the_way(name: str, secret: bytes, transcript: Transcript) -> dict[str, bytes]:
    """The shared secret, and what HKDF extracts from it."""
    salt = transcript.of_node
    extracted = hmac.digest(salt, secret, "sha512")
    return {f"{name} shared secret": secret, f"{name} extracted": extracted}


def processes(program: Program) -> tuple[int, int]:
    """The one that moves packets, and its handshake worker."""
    pid = program.process.pid
    (worker,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return pid, int(worker)


def present(pid: int, needles: dict[str, bytes]) -> list[str]:
    return [name for name, count in memory.find(pid, needles).items() if count]


def wait_absent(pid: int, needles: dict[str, bytes]) -> None:
    until = time.monotonic() + WAIT_S
    while left := present(pid, needles):
        assert time.monotonic() < until, f"still there: {left}"
        time.sleep(0.2)


def secret_of(node: ReferenceNode) -> bytes:
    return node._decapsulation_key.decapsulate(ServerHello(node.server_hello).ciphertext)


def transcript_of(node: ReferenceNode) -> Transcript:
    return Transcript("v2", node.client_hello, node.server_hello)


def assert_seed_is_kept_once(program: Program, identity: Path) -> None:
    """In the parent, for the next worker; in the worker OpenSSL's key has it."""
    text = identity.read_text().split("\n")[1].encode()
    seed = {"seed": base64.b64decode(text), "seed as text": text}
    parent, worker = processes(program)
    assert memory.find(parent, seed) == {"seed": 1, "seed as text": 0}
    assert memory.find(worker, seed)["seed as text"] == 0


def test_a_hub_has_the_present_keys_only(bed: Bed, keys: Keys, rx: str) -> None:
    options = ("--rx", rx, "--aead", BACKENDS[rx], "--keepalive-ms", "1000")
    hub = start_hub(bed, keys, *options)
    parent, worker = processes(hub)
    with node_socket(bed) as sock:
        node = ReferenceNode(sock, load_identity(keys.identity("node")), "v2")
        node.connect()
        first = of_session("first", node.link.keys)
        passed = on_the_way("first", secret_of(node), transcript_of(node))
        assert present(parent, {**first, **passed}) == list(first)
        assert present(worker, {**first, **passed}) == []

        node.rekey()
        second = of_session("second", node.link.keys)
        passed.update(on_the_way("second", secret_of(node), transcript_of(node)))
        assert present(parent, {**second, **passed}) == list(second)
        assert present(worker, {**first, **second, **passed}) == []
        until = time.monotonic() + OVERLAP_S + 0.5
        while time.monotonic() < until:
            node.link.send_packet(b"")  # keeps the session from being lost
            time.sleep(0.2)
        assert present(parent, {**first, **second}) == list(second)
    hub.wait_log("E_PEER_TIMEOUT node")
    wait_absent(parent, {**first, **second, **passed})
    assert_seed_is_kept_once(hub, keys.identity("hub"))
    assert hub.stop() == 0


def test_a_node_has_the_present_keys_only(bed: Bed, keys: Keys) -> None:
    with hub_socket(bed) as sock:
        hub = ReferenceHub(sock, load_identity(keys.identity("hub")), "v2")
        node = start_node(bed, keys, wait=False)
        hub.welcome()
        hub.answer()
        hub.confirm(Config(node=NODE, prefix=24, hub=HUB, mtu=1300, keepalive_ms=1000))
        node.wait_log(r"tunnel 10.13.0.2/24, MTU 1300")
        parent, worker = processes(node)
        session = of_session("session", hub.link.keys)
        passed = on_the_way("session", hub._secret, hub.transcript)
        assert present(parent, {**session, **passed}) == list(session)
        assert present(worker, {**session, **passed}) == []
    node.wait_log("E_PEER_TIMEOUT hub")
    wait_absent(parent, {**session, **passed})
    assert_seed_is_kept_once(node, keys.identity("node"))
    assert node.stop() == 0


def test_the_search_finds_also_across_what_is_read_at_once() -> None:
    pattern = os.urandom(32)  # itself, its copy, and not what was never made
    copies = bytearray(3 * memory.CHUNK_BYTES)
    for place in range(memory.CHUNK_BYTES - 40, len(copies) - 40, memory.CHUNK_BYTES - 5):
        copies[place : place + 32] = pattern
    absent = bytes(byte ^ 0xA5 for byte in pattern[:16])
    counts = memory.find(os.getpid(), {"pattern": pattern, "longer": pattern + absent})
    assert counts["pattern"] >= 1 + 2
    assert counts["longer"] <= 1  # what we look for is itself here
