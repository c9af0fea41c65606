"""The Internet checksum against scapy's."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.utils import checksum as scapy_checksum

from native.checksum import checksum


@given(st.binary(max_size=2000))
def test_checksum_agrees_with_scapy(data):
    assert checksum(data) == scapy_checksum(data).to_bytes(2, "big")


@given(st.lists(st.binary(max_size=40).map(lambda piece: piece * 2), max_size=6), st.binary())
def test_pieces_add_up_to_the_whole(pieces, last):
    assert checksum(*pieces, last) == checksum(b"".join(pieces) + last)


@pytest.mark.parametrize("data", [b"", b"\0" * 20, b"\xff" * 65535, b"\xff" * 65534, b"\x80" * 3])
def test_extremes_agree_with_scapy(data):
    assert checksum(data) == scapy_checksum(data).to_bytes(2, "big")


@given(st.binary(min_size=2, max_size=64).filter(lambda data: len(data) % 2 == 0))
def test_a_message_with_its_checksum_sums_to_nothing(data):
    assert checksum(data, checksum(data)) == b"\0\0"
