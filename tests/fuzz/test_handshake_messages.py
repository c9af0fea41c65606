"""The worker's handshake parsers under random damage: an answer or a refusal, never an exception,
and never a session from a message that was changed."""

import hashlib
import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from m13 import pqc
from m13.handshake import PROFILES, Established, Hello, HubHandshake, Member, NodeHandshake, Refused
from native import channel

PROVIDER = pqc.choose()
HUB_SEED, NODE_SEED = bytes([1]) * 32, bytes([2]) * 32
HUB_PRINT, NODE_PRINT = (
    hashlib.sha256(PROVIDER.sign_load(seed)[1]).digest() for seed in (HUB_SEED, NODE_SEED)
)
MEMBER = Member("alpha", NODE_PRINT, bytes([10, 13, 0, 2]), 24)
KINDS = st.sampled_from([*range(8), 16, 17, 18, 19, 255])
ATTEMPTS = itertools.count()
LIMITS = settings(max_examples=100, deadline=None)

# What may happen to a message: bytes changed, cut off, put in, swapped for noise.
damages = st.one_of(
    st.tuples(st.just("flip"), st.integers(0, 9000), st.integers(1, 255)),
    st.tuples(st.just("flip"), st.integers(0, 40), st.integers(1, 255)),
    st.tuples(st.just("cut"), st.integers(0, 9000), st.integers(1, 64)),
    st.tuples(st.just("insert"), st.integers(0, 9000), st.integers(0, 255)),
    st.tuples(st.just("fill"), st.integers(0, 9000), st.integers(1, 4000)),
)


def damaged(message, steps):
    changed = bytearray(message)
    for verb, at, amount in steps:
        at %= len(changed) or 1
        if verb == "flip" and changed:
            changed[at] ^= amount
        elif verb == "cut":
            del changed[at : at + amount]
        elif verb == "insert":
            changed.insert(at, amount)
        elif verb == "fill":
            changed[at : at + amount] = b"\xff" * len(changed[at : at + amount])
    return bytes(changed)


@pytest.fixture(scope="module")
def ends():
    profiles = list(PROFILES.values())
    hub = HubHandshake(PROVIDER, HUB_SEED, profiles[::2], [MEMBER], lambda: 0.0)
    return hub, NodeHandshake(PROVIDER, NODE_SEED, PROFILES["v2"], (HUB_PRINT,), lambda: 0.0)


def begin(node):
    attempt = next(ATTEMPTS)
    return attempt, node.feed(channel.ASK_START, 0, attempt, b"\2").message


@LIMITS
@given(kind=KINDS, payload=st.binary(max_size=9216))
def test_noise_of_any_kind_is_answered(ends, kind, payload):
    for end in ends:
        assert not isinstance(end.feed(kind, 0, next(ATTEMPTS), payload), Established)


@LIMITS
@given(steps=st.lists(damages, min_size=1, max_size=3))
def test_damaged_client_hello_is_answered(ends, steps):
    hub, node = ends
    attempt, hello = begin(node)
    answer = hub.feed(channel.ASK_CLIENT_HELLO, 0, attempt, damaged(hello, steps))
    assert isinstance(answer, Hello | Refused)
    for end in ends:
        end.feed(channel.ASK_FORGET, 0, attempt, b"")


@LIMITS
@given(steps=st.lists(damages, min_size=1, max_size=3))
def test_damaged_server_hello_is_refused_and_the_true_one_still_accepted(ends, steps):
    hub, node = ends
    attempt, hello = begin(node)
    reply = hub.feed(channel.ASK_CLIENT_HELLO, 0, attempt, hello).message
    if (wrong := damaged(reply, steps)) != reply:
        assert isinstance(node.feed(channel.ASK_SERVER_HELLO, 0, attempt, wrong), Refused)
    assert isinstance(node.feed(channel.ASK_SERVER_HELLO, 0, attempt, reply), Established)
    for end in ends:
        end.feed(channel.ASK_FORGET, 0, attempt, b"")


@LIMITS
@given(steps=st.lists(damages, min_size=1, max_size=3))
def test_damaged_finished_is_refused_and_the_true_one_still_accepted(ends, steps):
    hub, node = ends
    attempt, hello = begin(node)
    reply = hub.feed(channel.ASK_CLIENT_HELLO, 0, attempt, hello).message
    finished = bytes(node.feed(channel.ASK_SERVER_HELLO, 0, attempt, reply).finished)
    if (wrong := damaged(finished, steps)) != finished:
        assert isinstance(hub.feed(channel.ASK_FINISHED, 0, attempt, wrong), Refused)
    assert isinstance(hub.feed(channel.ASK_FINISHED, 0, attempt, finished), Established)
    for end in ends:
        end.feed(channel.ASK_FORGET, 0, attempt, b"")
