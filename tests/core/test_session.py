"""Sessions: numbers never repeat, stop below 2^48, and keys are gone afterwards."""

import struct

import pytest

from native import wire
from native.aead import BACKENDS, Aead
from native.session import Session

SEND, RECEIVE = b"\x11" * 32, b"\x22" * 32


@pytest.fixture(params=BACKENDS)
def aead(request):
    with Aead(request.param) as backend:
        yield backend


def numbered(session, direction=wire.NODE_TO_HUB):
    frame = bytearray(b"\xaa" * 62)
    session.number(frame, direction)
    return frame


def test_numbers_count_from_zero_and_stand_in_nonce_and_sequence(aead):
    session = Session(aead, 2, 5, SEND, RECEIVE)
    for counter in range(3):
        frame = numbered(session)
        assert frame[34:46] == struct.pack("<QB3x", counter, 1)
        assert frame[46:54] == struct.pack("<Q", counter)
        assert frame[17] == 5
    assert numbered(session, wire.HUB_TO_NODE)[42] == 0
    session.close()


def test_no_number_reaches_2_to_the_48th(aead):
    session = Session(aead, 2, 0, SEND, RECEIVE)
    session.send_counter = 2**48 - 1
    assert not session.exhausted
    assert numbered(session)[34:42] == struct.pack("<Q", 2**48 - 1)
    assert session.exhausted
    with pytest.raises(ValueError, match="number left"):
        numbered(session)
    session.close()


def test_closing_wipes_the_keys_and_again_is_fine(aead):
    def longest_run(memory):
        return max(map(len, memory.split(b"\0")), default=0)

    session = Session(aead, 2, 0, SEND, RECEIVE)
    assert session.valid
    if aead.name != "libcrypto":  # its schedule lies behind a pointer
        assert longest_run(session.memory()) >= 32
    session.close()
    session.close()
    assert not session.valid
    assert longest_run(session.memory()) <= 8
    assert SEND[:16] not in session.memory()


def test_keys_must_have_32_bytes(aead):
    with pytest.raises(ValueError, match="32"):
        Session(aead, 2, 0, SEND[:-1], RECEIVE)
    with pytest.raises(ValueError, match="32"):
        Session(aead, 2, 0, SEND, RECEIVE + b"\0")
