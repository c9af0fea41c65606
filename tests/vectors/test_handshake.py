"""The project's handshake against one written from the specification alone (generate.py).

Each side of ours meets the golden messages of the other. Where the protocol draws randomness, the
golden one is given: a provider draws the golden key pair, ciphertext or signature instead of its
own, and everything else about it is the real one.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA87PrivateKey
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM1024PrivateKey

from m13 import handshake, pqc
from m13.handshake import PROFILES, Established, Hello, HubHandshake, Member, NodeHandshake, Refused
from native import channel
from native.channel import ASK_CLIENT_HELLO, ASK_FINISHED, ASK_SERVER_HELLO, ASK_START
from tests.vectors import generate

GOLDEN = json.loads(generate.GOLDEN.read_text())
KNOWN = json.loads(Path(__file__).with_name("ml_kem_1024.json").read_text())["knownAnswers"][0]
HUB_SEED, NODE_SEED, NONCE = (
    bytes.fromhex(GOLDEN["inputs"][name]) for name in ("hub_seed", "node_seed", "nonce")
)
STRANGER_SEED = bytes(32)
EACH_PROFILE = pytest.mark.parametrize("name", PROFILES)


@dataclass(frozen=True)
class Vector:
    client_hello: bytes
    server_hello: bytes
    finished: bytes
    hub_transcript: bytes
    node_transcript: bytes
    hub_to_node_key: bytes
    node_to_hub_key: bytes


VECTORS = {
    name: Vector(**{field: bytes.fromhex(value) for field, value in GOLDEN[name].items()})
    for name in PROFILES
}


def drawing(base, signature=b""):
    """A provider that draws what the golden handshake drew; signatures only when one is given."""

    class Golden(base):
        def kem_generate(self):
            if base is pqc.PqcryptoProvider:  # whose decapsulation keys are expanded ones
                return bytes.fromhex(KNOWN["sk"]), bytes.fromhex(KNOWN["pk"])
            key = MLKEM1024PrivateKey.from_seed_bytes(bytes.fromhex(KNOWN["d"] + KNOWN["z"]))
            return key, key.public_key().public_bytes_raw()

        def kem_encapsulate(self, encapsulation_key):
            assert encapsulation_key == bytes.fromhex(KNOWN["pk"])
            return bytes.fromhex(KNOWN["ss"]), bytes.fromhex(KNOWN["ct"])

        def sign(self, signing_key, message, context):
            return signature or super().sign(signing_key, message, context)

    return Golden()


PROVIDERS = pytest.mark.parametrize("base", pqc.PROVIDERS.values(), ids=pqc.PROVIDERS)


def fingerprint(seed):
    key = MLDSA87PrivateKey.from_seed_bytes(seed).public_key()
    return hashlib.sha256(key.public_bytes_raw()).digest()


def make_hub(*names, base=pqc.CryptographyProvider, signature=b""):
    member = Member("alpha", fingerprint(NODE_SEED), bytes([10, 13, 0, 2]), 24)
    profiles = [PROFILES[name] for name in names]
    return HubHandshake(drawing(base, signature), HUB_SEED, profiles, [member])


@pytest.fixture
def make_node(monkeypatch):
    """A node whose ClientHello is the golden one, already sent."""
    monkeypatch.setattr(handshake.secrets, "token_bytes", lambda _: NONCE)

    def make(name, base=pqc.CryptographyProvider, signature=b"", pin=HUB_SEED):
        profile = PROFILES[name]
        pins = [fingerprint(pin)]
        node = NodeHandshake(drawing(base, signature), NODE_SEED, profile, pins)
        hello = node.feed(ASK_START, 0, 0, bytes([profile.version]))
        assert hello == Hello(VECTORS[name].client_hello)
        return node

    return make


def test_the_file_is_what_the_specification_gives():
    assert generate.document(GOLDEN) == GOLDEN


@PROVIDERS
@EACH_PROFILE
def test_our_node_finishes_the_golden_handshake(name, base, make_node):
    vector = VECTORS[name]
    node = make_node(name, base, vector.finished[1:])
    established = node.feed(ASK_SERVER_HELLO, 0, 0, vector.server_hello)
    assert isinstance(established, Established)
    assert established.finished == vector.finished
    assert established.send_key == vector.node_to_hub_key
    assert established.receive_key == vector.hub_to_node_key


@PROVIDERS
@EACH_PROFILE
def test_our_hub_answers_the_golden_handshake(name, base):
    vector = VECTORS[name]
    hub = make_hub(name, base=base, signature=vector.server_hello[4161:])
    reply = hub.feed(ASK_CLIENT_HELLO, 0, 0, vector.client_hello)
    assert reply == Hello(vector.server_hello)
    established = hub.feed(ASK_FINISHED, 0, 0, vector.finished)
    assert isinstance(established, Established)
    assert established.send_key == vector.hub_to_node_key
    assert established.receive_key == vector.node_to_hub_key


@PROVIDERS
@EACH_PROFILE
def test_what_we_sign_verifies_over_the_golden_transcripts(name, base, make_node):
    vector, context = VECTORS[name], PROFILES[name].context
    reply = make_hub(name, base=base).feed(ASK_CLIENT_HELLO, 0, 0, vector.client_hello).message
    assert reply[:4161] == vector.server_hello[:4161]
    hub_key, node_key = (
        MLDSA87PrivateKey.from_seed_bytes(seed).public_key() for seed in (HUB_SEED, NODE_SEED)
    )
    hub_key.verify(reply[4161:], vector.hub_transcript, context)
    finished = make_node(name, base).feed(ASK_SERVER_HELLO, 0, 0, vector.server_hello).finished
    node_key.verify(finished[1:], vector.node_transcript, context)


def signed(name, seed, transcript, context):
    """A signature made outside, over a transcript of the golden handshake."""
    key = MLDSA87PrivateKey.from_seed_bytes(seed)
    return key.sign(getattr(VECTORS[name], transcript), context)


def server_hello(name, seed=HUB_SEED, transcript="hub_transcript", context=None):
    made = signed(name, seed, transcript, context or PROFILES[name].context)
    return VECTORS[name].server_hello[:4161] + made


def finished(name, seed=NODE_SEED, transcript="node_transcript", context=None):
    return b"\x03" + signed(name, seed, transcript, context or PROFILES[name].context)


def flipped(message, at):
    return message[:at] + bytes([message[at] ^ 1]) + message[at + 1 :]


OTHER_CONTEXT = {"v1": b"M13-HS-v2", "v1-full": b"M13-HS-v2", "v2": b"M13-HS-v1"}
REFUSED_BY_BOTH = [
    ("empty", lambda message: message[:0], channel.MALFORMED),
    ("a byte short", lambda message: message[:-1], channel.MALFORMED),
    ("a byte long", lambda message: message + b"\0", channel.MALFORMED),
    ("type 0", lambda message: b"\0" + message[1:], channel.MALFORMED),
    ("type of the next message", lambda m: bytes([m[0] + 1]) + m[1:], channel.MALFORMED),
    ("signature, first bit", lambda m: flipped(m, len(m) - 4627), channel.BAD_SIGNATURE),
    ("signature, last bit", lambda m: flipped(m, len(m) - 1), channel.BAD_SIGNATURE),
    ("signature of nothing", lambda m: m[:-4627] + bytes(4627), channel.BAD_SIGNATURE),
]


@EACH_PROFILE
@pytest.mark.parametrize(
    ("change", "reason"), [row[1:] for row in REFUSED_BY_BOTH], ids=[r[0] for r in REFUSED_BY_BOTH]
)
def test_a_changed_message_is_refused_and_the_golden_one_still_taken(
    name, change, reason, make_node
):
    vector = VECTORS[name]
    node, hub = make_node(name), make_hub(name, signature=vector.server_hello[4161:])
    assert node.feed(ASK_SERVER_HELLO, 0, 0, change(vector.server_hello)).reason == reason
    assert isinstance(node.feed(ASK_SERVER_HELLO, 0, 0, vector.server_hello), Established)
    hub.feed(ASK_CLIENT_HELLO, 0, 0, vector.client_hello)
    assert hub.feed(ASK_FINISHED, 0, 0, change(vector.finished)).reason == reason
    assert isinstance(hub.feed(ASK_FINISHED, 0, 0, vector.finished), Established)


@EACH_PROFILE
def test_signatures_of_others_over_others_and_for_others_are_refused(name, make_node):
    for changed in (
        {"context": OTHER_CONTEXT[name]},
        {"context": b"M13-HS-v"},
        {"seed": STRANGER_SEED},
        {"seed": NODE_SEED},  # a reflected key
    ):
        node = make_node(name)
        refused = node.feed(ASK_SERVER_HELLO, 0, 0, server_hello(name, **changed))
        assert refused == Refused(channel.BAD_SIGNATURE, fingerprint(HUB_SEED)), changed
        if changed.get("seed") == NODE_SEED:
            changed = {"seed": HUB_SEED}
        hub = make_hub(name, signature=VECTORS[name].server_hello[4161:])
        hub.feed(ASK_CLIENT_HELLO, 0, 0, VECTORS[name].client_hello)
        refused = hub.feed(ASK_FINISHED, 0, 0, finished(name, **changed))
        assert refused == Refused(channel.BAD_SIGNATURE), changed


@EACH_PROFILE
@pytest.mark.parametrize("other", PROFILES)
def test_messages_of_one_profile_mean_nothing_in_another(name, other, make_node):
    """The golden ServerHellos differ in their signature alone, and so do the Finisheds."""
    node = make_node(name)
    answer = node.feed(ASK_SERVER_HELLO, 0, 0, VECTORS[other].server_hello)
    assert isinstance(answer, Established) == (name == other)
    hub = make_hub(name, signature=VECTORS[name].server_hello[4161:])
    hub.feed(ASK_CLIENT_HELLO, 0, 0, VECTORS[name].client_hello)
    answer = hub.feed(ASK_FINISHED, 0, 0, VECTORS[other].finished)
    assert isinstance(answer, Established) == (name == other)


CLIENT_HELLOS = [
    ("version 0", lambda m: b"\1\0" + m[2:], channel.VERSION_REFUSED),
    ("version 3", lambda m: b"\1\3" + m[2:], channel.VERSION_REFUSED),
    ("a stranger's key", lambda m: flipped(m, 1602), channel.NOT_ADMITTED),
    ("end of the key", lambda m: flipped(m, 4193), channel.NOT_ADMITTED),
    ("empty", lambda m: m[:0], channel.MALFORMED),
    ("a byte short", lambda m: m[:-1], channel.MALFORMED),
    ("a byte long", lambda m: m + b"\0", channel.MALFORMED),
    ("type of ServerHello", lambda m: b"\2" + m[1:], channel.MALFORMED),
]


@EACH_PROFILE
@pytest.mark.parametrize(
    ("change", "reason"), [row[1:] for row in CLIENT_HELLOS], ids=[row[0] for row in CLIENT_HELLOS]
)
def test_a_changed_client_hello_is_refused_and_leaves_no_state(name, change, reason):
    vector = VECTORS[name]
    hub = make_hub(name)
    assert hub.feed(ASK_CLIENT_HELLO, 0, 0, change(vector.client_hello)).reason == reason
    refused = hub.feed(ASK_FINISHED, 0, 0, vector.finished)
    assert refused == Refused(channel.NO_STATE)


@pytest.mark.parametrize(("name", "other"), [("v1", "v2"), ("v1-full", "v2"), ("v2", "v1")])
def test_a_hub_of_one_version_refuses_the_hello_of_the_other(name, other):
    answer = make_hub(name).feed(ASK_CLIENT_HELLO, 0, 0, VECTORS[other].client_hello)
    assert answer == Refused(channel.VERSION_REFUSED)


@EACH_PROFILE
def test_a_node_with_another_pin_refuses_the_golden_hub(name, make_node):
    node = make_node(name, pin=STRANGER_SEED)
    refused = node.feed(ASK_SERVER_HELLO, 0, 0, VECTORS[name].server_hello)
    assert refused == Refused(channel.HUB_KEY_MISMATCH, fingerprint(HUB_SEED))
