"""Reassembly: every refusal of docs/PROTOCOL.md §3 as a row, and a slow model for the rest."""

import itertools
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from native.frag import COMPLETE, INCOMPLETE, REFUSED, SLOTS, STALE_NS, Frag

HANDSHAKE = 0x83
BUFFER = 9216


def fragment(index, total, offset, chunk, message_id=1, length=None):
    length = len(chunk) if length is None else length
    return struct.pack("<HBBHH", message_id, index, total, offset, length) + chunk


def split(message, message_id=1, chunk=1402):
    pieces = [message[at : at + chunk] for at in range(0, len(message), chunk)]
    return [fragment(i, len(pieces), i * chunk, p, message_id) for i, p in enumerate(pieces)]


def feed(frag, *payloads, now=0, flags=HANDSHAKE):
    """The answer to the last of them."""
    answers = [frag.feed(flags, payload, now) for payload in payloads]
    return answers[-1]


FIRST = fragment(1, 3, 10, b"b" * 10)

# name: (fragments accepted before, the one refused)
REFUSALS = {
    "shorter than its header": ([], b"1234567"),
    "empty": ([], b""),
    "total 0": ([], fragment(0, 0, 0, b"x")),
    "total 33": ([], fragment(0, 33, 0, b"x")),
    "index is total": ([], fragment(3, 3, 30, b"x")),
    "index beyond total": ([], fragment(255, 3, 30, b"x")),
    "no bytes": ([], fragment(0, 3, 0, b"")),
    "length beyond the frame": ([], fragment(0, 3, 0, b"xy", length=3)),
    "length far beyond the frame": ([], fragment(0, 3, 0, b"xy", length=65535)),
    "end beyond the buffer": ([], fragment(1, 3, BUFFER, b"x")),
    "end far beyond the buffer": ([], fragment(1, 3, 65535, b"x" * 10)),
    "first index with an offset": ([], fragment(0, 3, 1, b"x")),
    "total contradicts": ([FIRST], fragment(0, 4, 0, b"a" * 10)),
    "total contradicts, smaller": ([FIRST], fragment(0, 2, 0, b"a" * 10)),
    "same index, other offset": ([FIRST], fragment(1, 3, 11, b"b" * 10)),
    "same index, other length": ([FIRST], fragment(1, 3, 10, b"b" * 9)),
    "overlaps the next": ([FIRST], fragment(0, 3, 0, b"a" * 11)),
    "gap before the next": ([FIRST], fragment(0, 3, 0, b"a" * 9)),
    "overlaps the previous": ([FIRST], fragment(2, 3, 19, b"c" * 10)),
    "gap after the previous": ([FIRST], fragment(2, 3, 21, b"c" * 10)),
    "later index before an earlier one": (
        [fragment(3, 4, 10, b"d" * 10)],
        fragment(1, 4, 15, b"b"),
    ),
    "earlier bytes for a later index": ([fragment(1, 4, 10, b"b" * 10)], fragment(3, 4, 15, b"d")),
}


@pytest.mark.parametrize(("accepted", "refused"), REFUSALS.values(), ids=REFUSALS)
def test_refused_and_the_message_still_completes(accepted, refused):
    frag = Frag()
    for payload in accepted:
        assert feed(frag, payload) == (INCOMPLETE, None)
    assert feed(frag, refused) == (REFUSED, None)
    if accepted == [FIRST]:
        first, last = fragment(0, 3, 0, b"a" * 10), fragment(2, 3, 20, b"c" * 5)
        assert feed(frag, first, last) == (COMPLETE, b"a" * 10 + b"b" * 10 + b"c" * 5)


@pytest.mark.parametrize(
    "refused", [row for accepted, row in REFUSALS.values() if not accepted], ids=repr
)
def test_refused_fragments_evict_nothing(refused):
    frag = Frag()
    begun = [split(b"m" * 2000, message_id=100 + n) for n in range(SLOTS)]
    for first, _ in begun:
        assert feed(frag, first) == (INCOMPLETE, None)
    for _ in range(SLOTS):
        assert feed(frag, refused) == (REFUSED, None)
    for _, last in begun:
        assert feed(frag, last)[0] == COMPLETE


@pytest.mark.parametrize("size", [1, 1401, 1402, 1403, 4194, 8788, 4628, BUFFER])
def test_messages_of_every_size_arrive_in_any_order(size):
    message = bytes(i * 7 % 251 for i in range(size))
    for pieces in (split(message), split(message)[::-1]):
        frag = Frag()
        assert [feed(frag, piece)[0] for piece in pieces[:-1]] == [INCOMPLETE] * (len(pieces) - 1)
        assert feed(frag, pieces[-1]) == (COMPLETE, message)


def test_thirty_two_fragments_are_the_most():
    pieces = split(bytes(320), chunk=10)
    assert len(pieces) == 32
    assert feed(Frag(), *pieces) == (COMPLETE, bytes(320))


def test_slots_and_their_size_are_the_owners_choice():
    frag = Frag(slots=2, message_bytes=16)
    begun = [split(bytes(12), message_id=n, chunk=8) for n in range(3)]
    for age, (first, _) in enumerate(begun):
        assert feed(frag, first, now=age) == (INCOMPLETE, None)
    lasts = [last for _, last in begun[::-1]]
    assert [feed(frag, last, now=9)[0] for last in lasts] == [COMPLETE, COMPLETE, INCOMPLETE]
    assert feed(Frag(slots=2, message_bytes=16), fragment(0, 1, 0, bytes(17))) == (REFUSED, None)


def test_an_id_in_another_context_is_another_message():
    frag = Frag()
    (first, last), (_, other) = split(b"a" * 2000), split(b"b" * 2000)
    assert frag.feed(1 << 48 | 7, first, 0) == (INCOMPLETE, None)
    assert frag.feed(1 << 49 | 7, other, 0) == (INCOMPLETE, None)
    assert frag.feed(1 << 48 | 7, last, 0) == (COMPLETE, b"a" * 2000)


def test_ids_that_collide_modulo_the_slots_do_not_stall_each_other():
    frag = Frag()
    messages = {SLOTS * n: bytes([n]) * 3000 for n in range(SLOTS)}
    pieces = [split(message, message_id) for message_id, message in messages.items()]
    for column in zip(*pieces, strict=True):
        answers = [feed(frag, piece) for piece in column]
    assert answers == [(COMPLETE, message) for message in messages.values()]


def test_the_same_id_under_other_flags_is_another_message():
    frag = Frag()
    for flags in (HANDSHAKE, 0x21):
        assert feed(frag, split(b"a" * 2000)[0], flags=flags) == (INCOMPLETE, None)
    assert feed(frag, split(b"b" * 2000)[1], flags=0x21) == (COMPLETE, b"a" * 1402 + b"b" * 598)


def test_what_is_not_complete_after_five_seconds_is_forgotten():
    first, last = split(b"a" * 2000)
    for late, verdict in ((STALE_NS, COMPLETE), (STALE_NS + 1, INCOMPLETE)):
        frag = Frag()
        feed(frag, first, now=7)
        assert feed(frag, last, now=7 + late)[0] == verdict
    assert STALE_NS == 5 * 10**9


def test_the_oldest_message_gives_way_to_a_ninth():
    frag = Frag()
    begun = [split(bytes([n]) * 2000, message_id=n) for n in range(SLOTS + 1)]
    for age, (first, _) in enumerate(begun):
        feed(frag, first, now=age)
    assert all(feed(frag, last, now=SLOTS)[0] == COMPLETE for _, last in begun[1:])
    assert feed(frag, begun[0][1], now=SLOTS) == (INCOMPLETE, None)


def test_reset_forgets_everything():
    frag = Frag()
    first, last = split(b"a" * 2000)
    feed(frag, first)
    frag.reset()
    assert feed(frag, last) == (INCOMPLETE, None)


class Model:
    """Keeps chunks in dictionaries and looks at every byte; no eviction (few ids are used)."""

    def __init__(self):
        self.messages = {}

    def feed(self, message_id, index, total, offset, chunk):
        if not (0 < total <= 32 and index < total and chunk and offset + len(chunk) <= BUFFER):
            return REFUSED, None
        if index == 0 and offset:
            return REFUSED, None
        known = self.messages.setdefault(message_id, (total, {}))
        chunks = known[1]
        if known[0] != total:
            return REFUSED, None
        if index in chunks:
            same = chunks[index][0] == offset and len(chunks[index][1]) == len(chunk)
            return (INCOMPLETE if same else REFUSED), None
        if not self.fits({**chunks, index: (offset, chunk)}):
            return REFUSED, None
        chunks[index] = (offset, chunk)
        if len(chunks) < total:
            return INCOMPLETE, None
        del self.messages[message_id]
        return COMPLETE, b"".join(chunks[i][1] for i in range(total))

    @staticmethod
    def fits(chunks):
        rows = sorted(
            (index, offset, offset + len(chunk)) for index, (offset, chunk) in chunks.items()
        )
        for (index, _, end), (later, start, _) in itertools.pairwise(rows):
            if start < end or (later == index + 1 and start != end):
                return False
        return True


@st.composite
def traffic(draw):
    """True fragments of a few messages, shuffled and doubled, among forged ones."""
    rows = []
    for message_id in range(draw(st.integers(1, 4))):
        sizes = draw(st.lists(st.integers(1, 40), min_size=1, max_size=32))
        offset = 0
        for index, size in enumerate(sizes):
            rows.append((message_id, index, len(sizes), offset, bytes([65 + index]) * size))
            offset += size
    forged = st.tuples(
        st.integers(0, 3), st.integers(0, 33), st.integers(0, 33), st.integers(0, 200),
        st.binary(max_size=30),
    )  # fmt: skip
    rows += draw(st.lists(st.sampled_from(rows), max_size=10))
    rows += draw(st.lists(forged, max_size=10))
    return draw(st.permutations(rows))


@settings(max_examples=500, deadline=None)
@given(traffic())
def test_reassembly_agrees_with_a_slow_model(rows):
    frag, model = Frag(), Model()
    for message_id, index, total, offset, chunk in rows:
        payload = fragment(index, total, offset, chunk, message_id)
        assert frag.feed(HANDSHAKE, payload, 0) == model.feed(
            message_id, index, total, offset, chunk
        )
