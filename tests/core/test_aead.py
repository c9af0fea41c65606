"""Every AEAD backend against the known answers, against each other and against `cryptography`."""

import struct

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given, settings
from hypothesis import strategies as st

from native import wire
from native.aead import BACKENDS, VECTOR, Aead

KEY = b"\x42" * 32
SOURCE = bytes.fromhex("020000000001")
PLAIN = bytes.fromhex(
    "ffffffffffff02000000000188b5d1010000000000000000000000000000000000000000000000000000000000"
    "0007000000000000002014000000000000000102030405060708090a0b0c0d0e0f10111213"
)
# docs/PROTOCOL.md §1: counter, direction, tag, the encrypted region
KNOWN_ANSWERS = [
    (
        7,
        1,
        "a6c30b399bc2dd587f801dcd89dc862b",
        "7325aba0d4698e10dcd3c8e4193d973f7c1b923ad74bc442c63e289d625e220fe371be19",
    ),
    (
        8,
        0,
        "431fd2c0c02aab19893413007add6365",
        "6fd7753b991af74a6b7e70c96e995ff049de2cc5e4b0f01d9e15405032e25895ca6a21ee",
    ),
]
TAG, NONCE, SEALED = slice(18, 34), slice(34, 46), slice(46, None)


@pytest.fixture(params=BACKENDS)
def aead(request):
    with Aead(request.param) as backend:
        yield backend


@pytest.fixture(scope="module")
def all_backends():
    backends = [Aead(name) for name in BACKENDS]
    yield backends
    for backend in backends:
        backend.close()


def plain_frame(counter, direction, payload=bytes(range(20)), phase=0):
    frame = bytearray(62) + payload
    wire.stamp(frame, SOURCE, wire.FLAGS["TUNNEL"], len(payload), counter)
    frame[17] = phase
    frame[NONCE] = struct.pack("<QB3x", counter, direction)
    return frame


def sealed_by_cryptography(key, frame):
    frame = bytearray(frame)
    frame[16] = wire.AEAD
    text = AESGCM(key).encrypt(bytes(frame[NONCE]), bytes(frame[SEALED]), bytes(frame[14:18]))
    frame[SEALED], frame[TAG] = text[:-16], text[-16:]
    return frame


def test_plain_known_answer():
    frame = plain_frame(7, 0)
    frame[NONCE] = bytes(12)
    assert frame == PLAIN


@pytest.mark.parametrize(("counter", "direction", "tag", "text"), KNOWN_ANSWERS)
def test_known_answers_seal_and_open(aead, counter, direction, tag, text):
    frame = plain_frame(counter, direction)
    before = bytes(frame)
    aead.seal(KEY, [frame])
    assert frame[16] == wire.AEAD
    assert (frame[TAG].hex(), frame[SEALED].hex()) == (tag, text)
    assert frame[:16] == before[:16]
    assert aead.open(KEY, [frame]) == [True]
    assert frame[SEALED] == before[SEALED]


@settings(max_examples=150, deadline=None)
@given(
    key=st.binary(min_size=32, max_size=32),
    counter=st.integers(0, 2**48 - 1),
    phase=st.integers(0, 255),
    sizes=st.lists(st.integers(0, 3400), min_size=1, max_size=VECTOR),
    seed=st.randoms(use_true_random=False),
)
def test_backends_and_cryptography_agree(all_backends, key, counter, phase, sizes, seed):
    plain = [plain_frame(counter + i, i % 2, seed.randbytes(n), phase) for i, n in enumerate(sizes)]
    expected = [sealed_by_cryptography(key, frame) for frame in plain]
    for sealer, opener in zip(all_backends, reversed(all_backends), strict=True):
        frames = [bytearray(frame) for frame in plain]
        sealer.seal(key, frames)
        assert frames == expected, sealer.name
        assert opener.open(key, frames) == [True] * len(frames)
        assert [f[SEALED] for f in frames] == [f[SEALED] for f in plain], opener.name


@pytest.mark.parametrize("position", [14, 15, 16, 17, 18, 33, 34, 41, 42, 45, 46, 54, 62, 81])
def test_one_flipped_bit_is_refused_wherever_it_is(aead, position):
    for bit in range(8):
        frame = plain_frame(7, 1)
        aead.seal(KEY, [frame])
        frame[position] ^= 1 << bit
        assert aead.open(KEY, [frame]) == [False]


@pytest.mark.parametrize("position", [0, 6, 12])
def test_the_inner_ethernet_header_is_not_authenticated(aead, position):
    frame = plain_frame(7, 1)
    aead.seal(KEY, [frame])
    frame[position] ^= 1
    assert aead.open(KEY, [frame]) == [True]


def test_truncated_frame_and_wrong_key_are_refused(aead):
    frame = plain_frame(7, 1)
    aead.seal(KEY, [frame])
    assert aead.open(KEY, [frame[:-1]]) == [False]
    assert aead.open(b"\x43" * 32, [bytearray(frame)]) == [False]


def test_each_frame_of_a_vector_is_judged_for_itself(aead):
    frames = [plain_frame(counter, 1) for counter in range(VECTOR)]
    aead.seal(KEY, frames)
    for frame in frames[::3]:
        frame[70] ^= 1
    assert aead.open(KEY, frames) == [bool(i % 3) for i in range(VECTOR)]


def test_auto_takes_the_best_backend_and_unknown_names_are_refused():
    with Aead("auto") as backend:
        assert backend.name == BACKENDS[0]
    with pytest.raises(FileNotFoundError, match="rot13"):
        Aead("rot13")


def test_malformed_calls_are_refused(aead):
    with pytest.raises(ValueError, match="62 bytes"):
        aead.seal(KEY, [bytearray(61)])
    with pytest.raises(ValueError, match="at most 64"):
        aead.seal(KEY, [bytearray(62)] * (VECTOR + 1))
    with pytest.raises(ValueError, match="32 bytes"):
        aead.open(KEY[:-1], [bytearray(62)])
    assert aead.open(KEY, []) == []


def test_closed_backend_refuses_work():
    backend = Aead()
    backend.close()
    backend.close()
    with pytest.raises(ValueError, match="closed"):
        backend.seal(KEY, [bytearray(62)])


def test_measure_answers_plausible_times(aead):
    seal_ns, open_ns = aead.measure(1462, 20)
    assert 1 < seal_ns < 1e6
    assert 1 < open_ns < 1e6
