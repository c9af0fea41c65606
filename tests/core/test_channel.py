"""The handshake channel: what one end sends the other receives, and no nonsense in the shared page
harms the end that reads it."""

import errno
import mmap
import os
import random
import select
import struct

import pytest

from native import channel
from native.channel import ANSWERS, PAYLOAD_BYTES, REQUESTS, SLOTS, Channel

# The shared page, written down a second time: header, then per ring tail, head, slots.
SLOT_BYTES = 16 + PAYLOAD_BYTES
RING_BYTES = 128 + SLOTS * SLOT_BYTES
MEMORY_BYTES = 64 + 2 * RING_BYTES
KIND_OF = {REQUESTS: channel.ASK_CLIENT_HELLO, ANSWERS: channel.SAY_SERVER_HELLO}
DIRECTIONS = pytest.mark.parametrize("direction", [REQUESTS, ANSWERS])


def tail_at(direction):
    return 64 + direction * RING_BYTES


def head_at(direction):
    return tail_at(direction) + 64


def slot_at(direction, index):
    return tail_at(direction) + 128 + index * SLOT_BYTES


@pytest.fixture
def link():
    with Channel.create() as created:
        yield created


@pytest.fixture
def memory(link):
    with mmap.mmap(link.memory_fd, MEMORY_BYTES) as mapped:
        yield mapped


def send(link, direction, generation=0, payload=b"x"):
    return link.send(direction, KIND_OF[direction], 7, generation, payload)


def attach(link):
    return Channel.attach(*map(os.dup, (link.memory_fd, link.request_fd, link.answer_fd)))


def descriptors():
    return set(os.listdir("/proc/self/fd"))


@DIRECTIONS
def test_messages_arrive_in_order_and_whole(link, direction):
    with attach(link) as other:
        for generation, size in enumerate((0, 1, 4194, 8788, PAYLOAD_BYTES)):
            assert send(link, direction, generation, bytes([generation]) * size)
        for generation, size in enumerate((0, 1, 4194, 8788, PAYLOAD_BYTES)):
            expected = (KIND_OF[direction], 7, generation, bytes([generation]) * size)
            assert other.receive(direction) == expected
        assert other.receive(direction) is None


@DIRECTIONS
def test_full_ring_refuses_and_takes_again_after_a_receive(link, direction):
    for round_ in range(3):
        assert [send(link, direction, i) for i in range(SLOTS + 1)] == [True] * SLOTS + [False]
        received = [link.receive(direction).generation for _ in range(SLOTS)]
        assert received == list(range(SLOTS)), round_
    assert link.malformed_count == 0


@DIRECTIONS
def test_every_push_wakes_the_reader(link, direction):
    descriptor = link.request_fd if direction == REQUESTS else link.answer_fd
    assert select.select([descriptor], [], [], 0)[0] == []
    send(link, direction)
    send(link, direction)
    assert select.select([descriptor], [], [], 0)[0] == [descriptor]
    assert os.eventfd_read(descriptor) == 2


def test_too_long_a_payload_is_an_error(link):
    with pytest.raises(ValueError, match="longer"):
        send(link, REQUESTS, payload=bytes(PAYLOAD_BYTES + 1))


@DIRECTIONS
def test_slot_is_wiped_when_taken(link, memory, direction):
    send(link, direction, payload=b"session key")
    assert memory.find(b"session key") == slot_at(direction, 0) + 16
    assert link.receive(direction).payload == b"session key"
    assert memory.find(b"session key") == -1


@pytest.mark.parametrize(
    ("direction", "field", "value"),
    [
        (REQUESTS, 0, 0),
        (REQUESTS, 0, 6),
        (REQUESTS, 0, channel.SAY_ESTABLISHED),
        (ANSWERS, 0, channel.ASK_FINISHED),
        (ANSWERS, 0, 20),
        (ANSWERS, 0, 0xFFFFFFFF),
        (REQUESTS, 12, PAYLOAD_BYTES + 1),
        (ANSWERS, 12, 0xFFFFFFFF),
    ],
)
def test_malformed_slot_is_skipped_and_counted(link, memory, direction, field, value):
    send(link, direction, 1)
    send(link, direction, 2)
    struct.pack_into("<I", memory, slot_at(direction, 0) + field, value)
    assert link.receive(direction).generation == 2
    assert link.receive(direction) is None
    assert link.malformed_count == 1


@DIRECTIONS
@pytest.mark.parametrize("tail", [SLOTS + 1, 0x7FFFFFFF, 0xFFFFFFFF])
def test_tail_out_of_range_yields_nothing_and_heals(link, memory, direction, tail):
    struct.pack_into("<I", memory, tail_at(direction), tail)
    assert link.receive(direction) is None
    assert link.malformed_count == 1
    for generation in (1, 2):  # an honest producer publishes its own tail again, then all is well
        send(link, direction, generation)
        link.receive(direction)
    assert send(link, direction, 3)
    assert link.receive(direction).generation == 3


@DIRECTIONS
@pytest.mark.parametrize("head", [1, SLOTS + 1, 0x80000000])
def test_head_ahead_of_the_tail_reads_as_full_until_the_reader_polls(link, memory, direction, head):
    struct.pack_into("<I", memory, head_at(direction), head)
    assert not send(link, direction)
    assert link.malformed_count == 1
    assert link.receive(direction) is None
    assert send(link, direction, 3)
    assert link.receive(direction).generation == 3


def test_random_memory_never_yields_more_than_a_ring(link, memory):
    chance = random.Random(13)
    for _ in range(60):
        at = 64  # the header is read once, at attach
        memory[at:MEMORY_BYTES] = chance.randbytes(MEMORY_BYTES - at)
        for direction in (REQUESTS, ANSWERS):
            for _ in range(chance.randrange(3)):
                struct.pack_into("<I", memory, tail_at(direction), chance.randrange(2 * SLOTS))
            taken = 0
            while message := link.receive(direction):
                assert len(message.payload) <= PAYLOAD_BYTES
                taken += 1
            assert taken <= SLOTS
            send(link, direction)


def test_new_worker_finds_the_requests_its_predecessor_left(link):
    for generation in range(3):
        send(link, REQUESTS, generation)
    with attach(link) as first:
        assert first.receive(REQUESTS).generation == 0
        assert send(first, ANSWERS, 0)
    with attach(link) as second:
        assert second.receive(REQUESTS).generation == 1
        assert send(second, ANSWERS, 1)
    assert [link.receive(ANSWERS).generation for _ in range(2)] == [0, 1]


def test_memory_cannot_be_resized(link):
    for size in (0, MEMORY_BYTES - 1, MEMORY_BYTES + 1):
        with pytest.raises(PermissionError):
            os.ftruncate(link.memory_fd, size)


@pytest.mark.parametrize("offset", [0, 8, 12])
def test_attach_refuses_a_foreign_header(link, memory, offset):
    memory[offset] ^= 1
    before = descriptors()
    with pytest.raises(OSError, match="channel attach") as caught:
        Channel.attach(link.memory_fd, link.request_fd, link.answer_fd)
    assert caught.value.errno == errno.EPROTO
    assert descriptors() == before


def test_attach_refuses_memory_that_is_not_sealed_or_not_ours(link):
    unsealed = os.memfd_create("unsealed", os.MFD_ALLOW_SEALING)
    os.ftruncate(unsealed, MEMORY_BYTES)
    reader, writer = os.pipe()
    try:
        for descriptor, expected in ((unsealed, errno.EPROTO), (reader, errno.EINVAL)):
            with pytest.raises(OSError, match="channel attach") as caught:
                Channel.attach(descriptor, link.request_fd, link.answer_fd)
            assert caught.value.errno == expected
    finally:
        for descriptor in (unsealed, reader, writer):
            os.close(descriptor)


def test_close_is_idempotent_and_gives_every_descriptor_back():
    before = descriptors()
    link = Channel.create()
    assert link.pointer
    assert len(descriptors() - before) == 3
    link.close()
    link.close()
    assert descriptors() == before
    for use in (lambda: link.pointer, lambda: link.receive(ANSWERS), lambda: send(link, ANSWERS)):
        with pytest.raises(ValueError, match="closed"):
            use()


def test_two_processes_exchange_twenty_thousand_messages(link):
    count = 20_000
    child = os.fork()
    if child == 0:
        with attach(link) as other:
            for generation in range(count):
                while not (message := other.receive(REQUESTS)):
                    os.sched_yield()
                good = message.generation == generation and len(set(message.payload)) <= 1
                while not send(other, ANSWERS, generation, message.payload if good else b"bad"):
                    os.sched_yield()
        os._exit(0)
    sent = received = 0
    while received < count:
        payload = bytes([sent % 251]) * (sent * 37 % 700)
        if sent < count and send(link, REQUESTS, sent, payload):
            sent += 1
        while answer := link.receive(ANSWERS):
            expected = bytes([received % 251]) * (received * 37 % 700)
            assert (answer.generation, answer.payload) == (received, expected)
            received += 1
    assert os.waitpid(child, 0)[1] == 0
    assert link.malformed_count == 0


def test_established_and_refused_survive_packing():
    fields = (2, 24, bytes([10, 13, 0, 2]), bytes(32), b"s" * 32, b"r" * 32, "alpha", b"\3" * 4628)
    networks = ((bytes([10, 7, 0, 0]), 16), (b"\xfd" + bytes(15), 8))
    fields += (b"\xfd" + bytes(14) + b"\2", networks)
    packed = channel.pack_established(*fields)
    assert channel.unpack_established(packed) == fields
    assert len(packed) == 440 + 4628
    assert struct.unpack_from("4B4s32s32s32s32s", packed)[4] == fields[2]
    refused = channel.pack_refused(channel.NOT_ADMITTED, b"f" * 32)
    assert refused == bytes([2]) + b"f" * 32
    assert channel.unpack_refused(refused) == (channel.NOT_ADMITTED, b"f" * 32)


@pytest.mark.parametrize("field", [2, 3, 4, 5, 6])
def test_established_refuses_fields_of_the_wrong_size(field):
    fields = [2, 24, bytes(4), bytes(32), bytes(32), bytes(32), "alpha", b""]
    fields[field] = "x" * 33 if field == 6 else bytes(31)
    with pytest.raises(ValueError, match="bytes"):
        channel.pack_established(*fields)


def test_established_refuses_more_prefixes_than_it_has_room_for():
    fields = (2, 24, bytes(4), bytes(32), bytes(32), bytes(32), "alpha", b"", bytes(16))
    networks = [(bytes([10, n, 0, 0]), 16) for n in range(channel.PREFIXES_MAX + 1)]
    assert len(channel.unpack_established(channel.pack_established(*fields, networks[1:]))[9]) == 16
    with pytest.raises(ValueError, match="prefixes"):
        channel.pack_established(*fields, networks)
