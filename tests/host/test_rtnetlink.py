"""Netlink's frame: bytes written by hand, scapy's messages, answers by a script, and the kernel's.

In a namespace: lo with a thousand addresses, more than a dump has in its first pieces.
"""

import errno
import itertools
import os
import socket
import struct
import subprocess
from contextlib import ExitStack

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scapy.arch.linux.rtnetlink import ifinfomsg, ifinfomsg_rtattr, rtmsghdr, rtmsghdrs

from m13.host import link, rtnetlink, unnamed_network
from m13.host.rtnetlink import RtNetlink
from m13.host.unnamed_network import UnnamedNetwork

ERROR, DONE, ENTRY = 2, 3, 16  # kinds of messages; an entry is any other
MULTI, INTERRUPTED = 0x02, 0x10
LIMITS = settings(deadline=None)
KINDS = st.integers(100, 0x3FFF)  # of which scapy knows no form of their own
PARTS = st.dictionaries(KINDS, st.binary(max_size=40), max_size=5)
# Noise, and noise that begins with a length that is near to right.
LENGTHS = st.integers(0, 40) | st.integers(0, 0xFFFFFFFF)
NEAR = st.builds(lambda length, rest: struct.pack("=I", length) + rest, LENGTHS, st.binary())
NOISE = st.binary() | st.lists(NEAR).map(b"".join)


class Script:
    """In the place of a socket: gives datagrams, one after the other, and keeps what is sent."""

    def __init__(self, *datagrams: bytes) -> None:
        self.sent: list[bytes] = []
        self._datagrams = list(datagrams)

    def send(self, data: bytes) -> None:
        self.sent.append(data)

    def recv(self, _size: int) -> bytes:
        return self._datagrams.pop(0)

    def close(self) -> None:
        assert not self._datagrams, "an answer was not read"


def by_script(*datagrams: bytes) -> tuple[RtNetlink, Script]:
    netlink, script = RtNetlink(), Script(*datagrams)
    netlink._socket.close()
    netlink._socket = script  # type: ignore[assignment]
    return netlink, script


def frame(kind: int, body: bytes = b"", sequence: int = 1, flags: int = MULTI) -> bytes:
    header = struct.pack("=IHHII", 16 + len(body), kind, flags, sequence, 4711)
    return header + body + bytes(-len(body) % 4)


def code(error: int) -> bytes:
    """As an error has it, with the refused request's header behind it."""
    return struct.pack("=i", -error) + bytes(16)


@pytest.mark.parametrize(
    ("value", "kept", "data"),
    [
        (b"", b"", "0400 0300"),
        (b"a", b"a", "0500 0300 61000000"),
        (b"abc", b"abc", "0700 0300 61626300"),
        (b"abcd", b"abcd", "0800 0300 61626364"),
        (b"abcde", b"abcde", "0900 0300 6162636465000000"),
        ("", b"\0", "0500 0300 00000000"),
        ("lo", b"lo\0", "0700 0300 6c6f0000"),
        ("eth0", b"eth0\0", "0900 0300 6574683000000000"),
        # little endian, as every machine that M13 runs on
        (1500, b"\xdc\x05\0\0", "0800 0300 dc050000"),
        (0xFFFFFFFF, b"\xff" * 4, "0800 0300 ffffffff"),
    ],
)
def test_an_attribute_is_padded_and_its_length_is_not(
    value: bytes | str | int, kept: bytes, data: str
) -> None:
    assert rtnetlink.attribute(3, value) == bytes.fromhex(data)
    assert rtnetlink.attributes(bytes.fromhex(data)) == {3: kept}
    without_padding = bytes.fromhex(data)[: 4 + len(kept)]
    assert rtnetlink.attributes(without_padding) == {3: kept}


def test_nested_attributes_are_marked_and_found_by_their_kind() -> None:
    data = bytes.fromhex("1800 1280 0900 0100 7665746800000000 0500 0200 78000000")
    inner = [rtnetlink.attribute(1, "veth"), rtnetlink.attribute(2, b"x")]
    assert rtnetlink.nested(18, *inner) == data
    assert rtnetlink.attributes(rtnetlink.attributes(data)[18]) == {1: b"veth\0", 2: b"x"}


@given(st.lists(PARTS, max_size=4))
@LIMITS
def test_what_scapy_writes_is_read(entries: list[dict[int, bytes]]) -> None:
    packets = []
    for number, parts in enumerate(entries):
        data = [ifinfomsg_rtattr(rta_type=kind, rta_data=part) for kind, part in parts.items()]
        header = rtmsghdr(nlmsg_type=16, nlmsg_flags=MULTI, nlmsg_seq=number)
        packets.append(header / ifinfomsg(ifi_index=number, data=data))
    found = list(rtnetlink.messages(bytes(rtmsghdrs(msgs=packets))))
    assert [head[:3] for head in found] == [(16, MULTI, number) for number in range(len(entries))]
    assert [rtnetlink.attributes(body[16:]) for *_, body in found] == entries


@given(PARTS)
@LIMITS
def test_what_is_written_scapy_reads(parts: dict[int, bytes]) -> None:
    netlink, script = by_script(frame(ERROR, code(0)))
    written = b"".join(itertools.starmap(rtnetlink.attribute, parts.items()))
    with netlink:
        netlink.order(16, link.LINK.pack(0, 0, 7, 0, 0) + written)
    (request,) = rtmsghdrs(script.sent[0]).msgs
    assert (request.nlmsg_len, request.nlmsg_type) == (len(script.sent[0]), 16)
    assert request[ifinfomsg].ifi_index == 7
    assert {part.rta_type: part.rta_data for part in request[ifinfomsg].data} == parts


@given(NOISE)
@example(bytes(64))
@example(struct.pack("=I", 17) + bytes(13))
@LIMITS
def test_any_bytes_come_to_an_end_and_to_pieces_of_themselves(data: bytes) -> None:
    bodies = [body for *_, body in itertools.islice(rtnetlink.messages(data), len(data) + 1)]
    assert len(bodies) <= len(data) // 16
    assert all(body in data for body in bodies)
    assert all(value in data for value in rtnetlink.attributes(data).values())
    assert "\0" not in rtnetlink.text(data)


def test_numbers_text_and_addresses_are_read() -> None:
    assert rtnetlink.number(None) is rtnetlink.address(socket.AF_INET, None) is None
    assert rtnetlink.number(b"\xfe\xff\xff\xff") == 0xFFFFFFFE
    texts = {b"lo\0\0x": "lo", b"lo": "lo", b"": "", b"\xff\0": "\N{REPLACEMENT CHARACTER}"}
    assert {data: rtnetlink.text(data) for data in texts} == texts
    packed = {"192.0.2.1": bytes((192, 0, 2, 1)), "::1": bytes(15) + b"\1"}
    for address, data in packed.items():
        assert rtnetlink.pack_address(address) == data
        assert rtnetlink.address(rtnetlink.address_family(address), data) == address


def test_answers_to_another_request_are_passed_over() -> None:
    old = [frame(ENTRY, b"old.", sequence=99), frame(ERROR, code(errno.EPERM), sequence=99)]
    first = b"".join([*old, frame(ENTRY, b"odd"), frame(ENTRY, b"even")])
    end = frame(DONE, bytes(4), sequence=0) + frame(DONE, bytes(4))
    netlink, script = by_script(old[1], first, frame(ENTRY, b"three"), end)
    with netlink:
        assert netlink.dump(ENTRY, b"") == [b"odd", b"even", b"three"]
    assert script.sent == [struct.pack("=IHHII", 16, ENTRY, 0x301, 1, 0)]


def test_every_request_has_a_sequence_of_its_own() -> None:
    first = [frame(ENTRY, b"fact"), frame(ERROR, code(0))]
    netlink, script = by_script(*first, first[0] + frame(ERROR, code(0), sequence=2))
    with netlink:
        assert netlink.ask(ENTRY, b"") == b"fact"
        netlink.order(ENTRY, b"odd", rtnetlink.CREATE | rtnetlink.EXCLUSIVE)
    assert script.sent[0] == struct.pack("=IHHII", 16, ENTRY, 0x05, 1, 0)
    assert script.sent[1] == struct.pack("=IHHII", 19, ENTRY, 0x605, 2, 0) + b"odd"


@pytest.mark.parametrize("verb", ["order", "ask", "dump"])
@pytest.mark.parametrize("kind", [ERROR, DONE])
def test_an_error_is_raised_with_its_number_and_meaning(verb: str, kind: int) -> None:
    netlink, _ = by_script(frame(ENTRY, b"part"), frame(kind, code(errno.ENODEV)))
    with netlink, pytest.raises(OSError, match="No such device") as refused:
        getattr(netlink, verb)(ENTRY, b"")
    assert refused.value.errno == errno.ENODEV


def test_a_dump_that_only_its_end_says_was_interrupted_is_repeated() -> None:
    first = frame(ENTRY, b"old.") + frame(DONE, bytes(4), flags=MULTI | INTERRUPTED)
    netlink, script = by_script(first, frame(ENTRY, b"new.", 2), frame(DONE, sequence=2))
    with netlink:
        assert netlink.dump(ENTRY, b"") == [b"new."]
    assert len(script.sent) == 2


class Disturbed:
    """The kernel's socket, and an address more after every piece that is read of first dumps."""

    def __init__(self, inner: socket.socket, dumps: int) -> None:
        self._inner, self._dumps, self._made, self.sent = inner, dumps, 0, 0
        self.close = inner.close

    def send(self, data: bytes) -> None:
        self.sent += 1
        self._inner.send(data)

    def recv(self, size: int) -> bytes:
        data = self._inner.recv(size)
        if self.sent <= self._dumps:
            link.add_address(1, f"198.19.0.{self._made}", 32)
            self._made += 1
        return data


@pytest.mark.parametrize("dumps", [0, 1, rtnetlink.DUMPS_MAX + 1])
def test_a_table_that_changes_under_the_look_is_looked_at_again(dumps: int) -> None:
    listed = [f"198.18.{number >> 8}.{number & 255}" for number in range(1000)]
    batch = "".join(f"address add {address}/32 dev lo\n" for address in listed)

    def work(_network: UnnamedNetwork, _stack: ExitStack) -> tuple[int, list[bytes]]:
        subprocess.run(["ip", "-batch", "-"], input=batch, text=True, check=True)
        with RtNetlink() as netlink:
            netlink._socket = disturbed = Disturbed(netlink._socket, dumps)  # type: ignore
            wanted = link.ADDRESS.pack(socket.AF_INET, 0, 0, 0, 0)
            bodies = netlink.dump(link.RTM_GETADDR, wanted)
        return disturbed.sent, bodies

    sent, bodies = unnamed_network.run(work)
    assert sent == min(dumps + 1, rtnetlink.DUMPS_MAX)
    found = [rtnetlink.attributes(body[8:])[link.IFA_LOCAL] for body in bodies]
    assert found[: len(listed)] == [socket.inet_aton(address) for address in listed]


def test_what_the_kernel_refuses_has_its_reason_and_leaves_no_descriptor() -> None:
    before = os.listdir("/proc/self/fd")
    with pytest.raises(OSError, match="not supported") as refused, RtNetlink() as netlink:
        netlink.order(0x7FFF, bytes(16))  # a kind of message that there is not
    assert refused.value.errno == errno.EOPNOTSUPP
    assert os.listdir("/proc/self/fd") == before  # while `netlink` is not forgotten yet
