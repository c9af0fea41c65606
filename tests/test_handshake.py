"""The handshake without I/O: both roles against each other, against an independent recomputation
with hashlib and hmac, and against everything that must be refused."""

import hashlib
import hmac

import pytest

from m13 import handshake, pqc
from m13.handshake import PROFILES, Established, Hello, HubHandshake, NodeHandshake, Refused
from native import channel
from native.channel import ASK_CLIENT_HELLO, ASK_FINISHED, ASK_FORGET, ASK_SERVER_HELLO, ASK_START

PROVIDER = pqc.choose()
HUB_SEED, NODE_SEED, STRANGER_SEED = (bytes([number]) * 32 for number in (1, 2, 3))
HUB_KEY, NODE_KEY, STRANGER_KEY = (
    PROVIDER.sign_load(seed)[1] for seed in (HUB_SEED, NODE_SEED, STRANGER_SEED)
)
HUB_PRINT, NODE_PRINT, STRANGER_PRINT = (
    hashlib.sha256(key).digest() for key in (HUB_KEY, NODE_KEY, STRANGER_KEY)
)
MEMBER = handshake.Member("alpha", NODE_PRINT, bytes([10, 13, 0, 2]), 24)
EACH_PROFILE = pytest.mark.parametrize("profile", PROFILES.values(), ids=PROFILES)


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


def make_hub(*names, provider=PROVIDER, clock=None, seed=HUB_SEED):
    profiles = [PROFILES[name] for name in names or ("v1", "v2")]
    return HubHandshake(provider, seed, profiles, [MEMBER], clock or Clock())


def make_node(name="v2", seed=NODE_SEED, pins=(HUB_PRINT,), clock=None):
    return NodeHandshake(PROVIDER, seed, PROFILES[name], pins, clock or Clock())


def start(node, peer=0, generation=0, version=2):
    return node.feed(ASK_START, peer, generation, bytes([version])).message


def answer(hub, client_hello, peer=0, generation=0):
    return hub.feed(ASK_CLIENT_HELLO, peer, generation, client_hello).message


def flip(message, at):
    return message[:at] + bytes([message[at] ^ 1]) + message[at + 1 :]


def hkdf_by_hand(salt, secret, info):
    extracted = hmac.digest(salt, secret, hashlib.sha512)
    return hmac.digest(extracted, info + b"\x01", hashlib.sha512)[:32]


# Messages of fixed bytes, with the transcripts and keys that PROTOCOL.md's table gives for them.
GOLDEN_CLIENT_HELLO = bytes([1, 2]) + bytes(range(32)) + b"\xe5" * 1568 + b"\x0d" * 2592
GOLDEN_SERVER_HELLO = b"\x02" + b"\xc7" * 1568 + b"\x1b" * 2592 + b"\x5a" * 4627
GOLDEN_SECRET = b"\x11" * 32


def sha(*parts):
    return hashlib.sha512(b"".join(parts)).digest()


def golden(name):
    """(hub transcript, node transcript, hub to node key, node to hub key), spelled out."""
    hello, reply = GOLDEN_CLIENT_HELLO, GOLDEN_SERVER_HELLO
    nonce, ciphertext, hub_key = bytes(range(32)), b"\xc7" * 1568, b"\x1b" * 2592
    one_key = hkdf_by_hand(nonce, GOLDEN_SECRET, b"M13-PQC-SESSION-KEY-v1")
    if name == "v1":
        both = sha(nonce, ciphertext, hub_key)
        return both, both, one_key, one_key
    if name == "v1-full":
        return sha(hello, ciphertext), sha(hello, reply), one_key, one_key
    salt = sha(hello, reply)
    keys = [
        hkdf_by_hand(salt, GOLDEN_SECRET, b"M13-PQC-SESSION-KEY-v2 " + way)
        for way in (b"hub->node", b"node->hub")
    ]
    return sha(hello, b"\x02", ciphertext, hub_key), sha(hello, reply), *keys


FROZEN = {
    "v1": "43b1e58f1816b26bdee099f53361be0ec45ede0b90cdbfb700f7495553f63a21",
    "v1-full": "88133d4885a401ce9fdd1a9015cafb9908b743d8923756199b77a47ea33bf499",
    "v2": "6743f284301bfe8d221cf22a93c37c33d9e9b2bb77cfeb169ed9326a855f0b8c",
}


@EACH_PROFILE
def test_transcripts_and_keys_are_those_of_the_table(profile):
    hello, reply = GOLDEN_CLIENT_HELLO, GOLDEN_SERVER_HELLO
    transcripts = profile.transcripts(hello)
    of_hub, of_node = transcripts.of_hub(reply[:4161]), transcripts.of_node(reply[4161:])
    keys = handshake.derive(profile, hello[2:34], of_node, GOLDEN_SECRET)
    computed = (of_hub, of_node, *keys)
    assert computed == golden(profile.name)
    assert hashlib.sha256(b"".join(computed)).hexdigest() == FROZEN[profile.name]


def test_lengths_versions_and_contexts_are_those_of_the_table():
    lengths = handshake.CLIENT_HELLO_BYTES, handshake.SERVER_HELLO_BYTES, handshake.FINISHED_BYTES
    assert lengths == (4194, 8788, 4628)
    assert {name: (p.version, p.context) for name, p in PROFILES.items()} == {
        "v1": (1, b"M13-HS-v1"),
        "v1-full": (1, b"M13-HS-v1"),
        "v2": (2, b"M13-HS-v2"),
    }


@EACH_PROFILE
def test_both_sides_establish_the_same_keys(profile):
    hub, node = make_hub(profile.name), make_node(profile.name)
    client_hello = start(node, version=profile.version)
    assert client_hello[:2] == bytes([1, profile.version])
    assert client_hello[1602:] == NODE_KEY
    server_hello = answer(hub, client_hello)
    assert server_hello[:1] == b"\2"
    assert server_hello[1569:4161] == HUB_KEY
    ours = node.feed(ASK_SERVER_HELLO, 0, 0, server_hello)
    theirs = hub.feed(ASK_FINISHED, 0, 0, ours.finished)
    assert isinstance(ours, Established)
    assert isinstance(theirs, Established)
    assert (ours.send_key, ours.receive_key) == (theirs.receive_key, theirs.send_key)
    assert (ours.send_key == ours.receive_key) == (profile.version == 1)
    assert (ours.fingerprint, theirs.fingerprint) == (HUB_PRINT, NODE_PRINT)
    assert (ours.name, ours.address, ours.prefix_bits) == ("", bytes(4), 0)
    assert (theirs.name, theirs.address, theirs.prefix_bits) == ("alpha", MEMBER.address, 24)
    assert theirs.version == ours.version == profile.version


@EACH_PROFILE
def test_signatures_are_over_the_documented_bytes(profile):
    """A hub and a node written here from the table, each against ours."""
    node = make_node(profile.name)
    hello = start(node, version=profile.version)
    reply = answer(make_hub(profile.name), hello)
    signed = {
        "v1": sha(hello[2:34], reply[1:1569], reply[1569:4161]),
        "v1-full": sha(hello, reply[1:1569]),
        "v2": sha(hello, reply[:4161]),
    }[profile.name]
    context = b"M13-HS-v%d" % profile.version
    assert PROVIDER.verify(HUB_KEY, signed, context, reply[4161:])
    finished = node.feed(ASK_SERVER_HELLO, 0, 0, reply).finished
    last = signed if profile.name == "v1" else sha(hello, reply)
    assert PROVIDER.verify(NODE_KEY, last, context, finished[1:])


@pytest.mark.parametrize(("ours", "theirs"), [("v1", "v1-full"), ("v1-full", "v1")])
def test_profiles_of_one_version_do_not_verify_each_other(ours, theirs):
    node = make_node(ours)
    reply = answer(make_hub(theirs), start(node, version=1))
    refused = node.feed(ASK_SERVER_HELLO, 0, 0, reply)
    assert refused == Refused(channel.BAD_SIGNATURE, HUB_PRINT)


def test_hub_takes_v1_and_v2_by_the_version_byte_and_only_what_it_accepts():
    hub, strict = make_hub("v1", "v2"), make_hub("v2")
    for name, version in (("v1", 1), ("v2", 2)):
        hello = start(make_node(name), version=version)
        assert isinstance(hub.feed(ASK_CLIENT_HELLO, version, 0, hello), Hello)
    v1_hello = start(make_node("v1"), version=1)
    assert strict.feed(ASK_CLIENT_HELLO, 0, 0, v1_hello) == Refused(channel.VERSION_REFUSED)
    for version in (0, 3, 255):
        hello = bytes([1, version]) + v1_hello[2:]
        assert hub.feed(ASK_CLIENT_HELLO, 0, 0, hello) == Refused(channel.VERSION_REFUSED)


def test_node_that_offers_v2_never_speaks_another_version():
    node = make_node("v2")
    assert node.feed(ASK_START, 0, 0, b"\1") == Refused(channel.VERSION_REFUSED)
    hello = start(node)
    v1_reply = answer(make_hub("v1"), bytes([1, 1]) + hello[2:])
    refused = node.feed(ASK_SERVER_HELLO, 0, 0, v1_reply)
    assert refused == Refused(channel.BAD_SIGNATURE, HUB_PRINT)


def test_unlisted_key_is_refused_with_its_fingerprint_before_any_lattice_work():
    class NoLattices(pqc.CryptographyProvider):
        def kem_encapsulate(self, *_):
            raise AssertionError("lattice work for a stranger")

        sign = verify = kem_encapsulate

    hub = make_hub(provider=NoLattices())
    hello = start(make_node(seed=STRANGER_SEED))
    refused = Refused(channel.NOT_ADMITTED, STRANGER_PRINT)
    assert hub.feed(ASK_CLIENT_HELLO, 0, 0, hello) == refused


@pytest.mark.parametrize(
    ("pins", "reason"),
    [((), channel.HUB_KEY_UNKNOWN), ((STRANGER_PRINT,), channel.HUB_KEY_MISMATCH)],
)
def test_hub_that_is_not_pinned_is_refused_with_the_fingerprint_seen(pins, reason):
    node = make_node(pins=pins)
    reply = answer(make_hub(), start(node))
    assert node.feed(ASK_SERVER_HELLO, 0, 0, reply) == Refused(reason, HUB_PRINT)


def test_any_of_several_pins_will_do():
    node = make_node(pins=(STRANGER_PRINT, HUB_PRINT))
    reply = answer(make_hub(), start(node))
    assert isinstance(node.feed(ASK_SERVER_HELLO, 0, 0, reply), Established)


@EACH_PROFILE
def test_no_changed_byte_passes_and_the_genuine_message_still_does(profile):
    """v1 leaves parts of the ClientHello unsigned, so only the later messages are tried there."""
    hub, node = make_hub(profile.name), make_node(profile.name)
    hello = start(node, version=profile.version)
    reply = answer(hub, hello)
    for at in (0, 1, 1568, 1569, 4160, 4161, 8787):
        assert isinstance(node.feed(ASK_SERVER_HELLO, 0, 0, flip(reply, at)), Refused), at
    established = node.feed(ASK_SERVER_HELLO, 0, 0, reply)
    for at in (0, 1, 2000, 4627):
        assert isinstance(hub.feed(ASK_FINISHED, 0, 0, flip(established.finished, at)), Refused), at
    assert isinstance(hub.feed(ASK_FINISHED, 0, 0, established.finished), Established)


@pytest.mark.parametrize("name", ["v1-full", "v2"])
@pytest.mark.parametrize("at", [2, 33, 34, 1601])
def test_client_hello_changed_on_its_way_fails_at_the_node(name, at):
    version = PROFILES[name].version
    node = make_node(name)
    hello = start(node, version=version)
    fed = make_hub(name).feed(ASK_CLIENT_HELLO, 0, 0, flip(hello, at))
    if isinstance(fed, Hello):  # a changed encapsulation key may be no key at all
        assert isinstance(node.feed(ASK_SERVER_HELLO, 0, 0, fed.message), Refused)
    else:
        assert fed.reason == channel.MALFORMED


def test_signature_under_the_other_versions_context_is_refused():
    class OtherContext(pqc.CryptographyProvider):
        def sign(self, signing_key, message, _):
            return super().sign(signing_key, message, b"M13-HS-v1")

    node = make_node()
    reply = answer(make_hub(provider=OtherContext()), start(node))
    refused = node.feed(ASK_SERVER_HELLO, 0, 0, reply)
    assert refused == Refused(channel.BAD_SIGNATURE, HUB_PRINT)


def test_every_wrong_length_type_and_kind_is_malformed():
    hub, node = make_hub(), make_node()
    hello = start(node)
    reply = answer(hub, hello)
    finished = b"\3" + bytes(4627)
    malformed = Refused(channel.MALFORMED)
    for kind, side, message in (
        (ASK_CLIENT_HELLO, hub, hello),
        (ASK_SERVER_HELLO, node, reply),
        (ASK_FINISHED, hub, finished),
    ):
        wrong = [b"", message[:1], message[:-1], message + b"\0", bytes([9]) + message[1:]]
        assert [side.feed(kind, 0, 0, data) for data in wrong] == [malformed] * len(wrong)
    for payload in (b"", b"\2\2"):
        assert node.feed(ASK_START, 0, 0, payload) == malformed
    for side, kinds in ((hub, (0, ASK_START, ASK_SERVER_HELLO, 99)), (node, (ASK_FINISHED, 99))):
        assert {side.feed(kind, 0, 0, reply) for kind in kinds} == {malformed}


def test_bad_encapsulation_key_is_malformed_and_leaves_no_state():
    hub = make_hub()
    hello = start(make_node())
    bad = hello[:34] + b"\xff" * 1568 + hello[1602:]
    assert hub.feed(ASK_CLIENT_HELLO, 0, 0, bad) == Refused(channel.MALFORMED, NODE_PRINT)
    assert hub.feed(ASK_FINISHED, 0, 0, b"\3" + bytes(4627)) == Refused(channel.NO_STATE)


def test_duplicates_repeat_the_answer_and_late_ones_are_ignored():
    hub, node = make_hub(), make_node()
    hello = start(node)
    assert start(node) == hello
    reply = answer(hub, hello)
    assert answer(hub, hello) == reply
    established = node.feed(ASK_SERVER_HELLO, 0, 0, reply)
    assert node.feed(ASK_SERVER_HELLO, 0, 0, reply) is None
    assert isinstance(hub.feed(ASK_FINISHED, 0, 0, established.finished), Established)
    assert hub.feed(ASK_FINISHED, 0, 0, established.finished) is None
    assert hub.feed(ASK_CLIENT_HELLO, 0, 0, hello) is None
    assert start(node) != hello  # established: a new attempt is a new hello


def test_states_of_other_peers_and_generations_are_apart():
    hub, node = make_hub(), make_node()
    reply = answer(hub, start(node, 3, 7), 3, 7)
    finished = node.feed(ASK_SERVER_HELLO, 3, 7, reply).finished
    for peer, generation in ((3, 8), (4, 7)):
        refused = Refused(channel.NO_STATE)
        assert hub.feed(ASK_FINISHED, peer, generation, finished) == refused
        assert node.feed(ASK_SERVER_HELLO, peer, generation, reply) == refused
    assert isinstance(hub.feed(ASK_FINISHED, 3, 7, finished), Established)


def test_replayed_hellos_do_not_displace_the_one_in_flight():
    hub, node = make_hub(), make_node()
    reply = answer(hub, start(node))
    for generation in range(1, handshake.CANDIDATES_MAX):
        answer(
            hub, start(make_node(), generation=generation)
        )  # same peer and generation at the hub
    finished = node.feed(ASK_SERVER_HELLO, 0, 0, reply).finished
    assert isinstance(hub.feed(ASK_FINISHED, 0, 0, finished), Established)


def test_a_second_handshake_of_one_generation_is_a_rekey():
    hub, node = make_hub(), make_node()
    keys = set()
    for _ in range(2):
        ours = node.feed(ASK_SERVER_HELLO, 0, 0, answer(hub, start(node)))
        theirs = hub.feed(ASK_FINISHED, 0, 0, ours.finished)
        assert theirs.send_key == ours.receive_key
        keys.add(bytes(theirs.send_key))
    assert len(keys) == 2


def test_forget_drops_the_state_and_says_nothing():
    hub, node = make_hub(), make_node()
    reply = answer(hub, start(node))
    finished = node.feed(ASK_SERVER_HELLO, 0, 0, reply).finished
    assert hub.feed(ASK_FORGET, 0, 0, b"") is None
    assert node.feed(ASK_FORGET, 0, 0, b"") is None
    assert hub.feed(ASK_FINISHED, 0, 0, finished) == Refused(channel.NO_STATE)
    assert node.feed(ASK_SERVER_HELLO, 0, 0, reply) == Refused(channel.NO_STATE)


def test_states_expire_and_say_when():
    clock = Clock()
    hub, node = make_hub(clock=clock), make_node(clock=clock)
    assert hub.expire() is None
    reply = answer(hub, start(node))
    clock.now += 59
    assert hub.expire() == pytest.approx(1)
    clock.now += 1
    assert hub.expire() is None
    assert node.feed(ASK_SERVER_HELLO, 0, 0, reply) == Refused(channel.NO_STATE)


def test_states_are_bounded_and_wiped_when_they_go():
    states = handshake.States()
    keys = [(bytearray(b"k" * 32), bytearray(b"k" * 32)) for _ in range(handshake.STATES_MAX + 1)]
    for number, pair in enumerate(keys):
        pending = handshake.Pending(b"", 0.0, PROFILES["v2"], keys=pair)
        states.add((number,), pending)
    assert len(states) == handshake.STATES_MAX
    assert (0,) not in states
    assert [any(key) for key in keys[0]] == [False, False]
    assert all(map(any, keys[1]))


def test_keys_are_not_shown():
    hub, node = make_hub(), make_node()
    established = node.feed(ASK_SERVER_HELLO, 0, 0, answer(hub, start(node)))
    pending = next(iter(hub._states.values()))
    for holder, secret in ((established, established.send_key), (pending, pending.keys[0])):
        assert repr(bytes(secret))[2:-1] not in repr(holder)


def test_states_are_found_by_attempt_until_they_are_gone():
    states = handshake.States()
    keys = [
        (peer, generation, bytes([n])) for peer in (1, 2) for generation in (7, 8) for n in b"ab"
    ]
    for key in keys:
        states.add(key, handshake.Pending(b"", 0.0, PROFILES["v2"]))
    assert states.of_attempt(1, 8) == keys[2:4]
    assert states.of_attempt(3, 8) == []
    states.add(keys[2], handshake.Pending(b"", 0.0, PROFILES["v2"]))  # again: the youngest now
    assert states.of_attempt(1, 8) == [keys[3], keys[2]]
    states.discard(keys[3])
    assert states.of_attempt(1, 8) == [keys[2]]
    assert states.expire(1.0) is None
    assert [states.of_attempt(*key[:2]) for key in keys] == [[]] * len(keys)
