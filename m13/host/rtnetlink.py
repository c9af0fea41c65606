"""Questions and orders to the kernel's network: rtnetlink(7), without a library.

pyroute2 has all of this and far more, and takes 100 ms to load, longer than all else that a node
does before its first packet. What M13 asks is a dozen messages, so the frame around them is here
and each message beside what uses it (link.py, route_table.py, neighbour.py).

Bytes are as in linux/netlink.h and linux/rtnetlink.h: host order, attributes padded to four.
"""

import errno
import os
import socket
import struct
from collections.abc import Iterator
from typing import Self

HEADER = struct.Struct("=IHHII")  # struct nlmsghdr: length, kind, flags, sequence, port
ATTRIBUTE = struct.Struct("=HH")  # struct nlattr: length, kind
ERROR = struct.Struct("=i")  # struct nlmsgerr begins with it, 0 for an acknowledgement

# linux/netlink.h
NLMSG_ERROR, NLMSG_DONE = 2, 3
NLM_F_REQUEST, NLM_F_ACK, NLM_F_DUMP_INTR, NLM_F_DUMP = 0x01, 0x04, 0x10, 0x300
REPLACE, EXCLUSIVE, CREATE = 0x100, 0x200, 0x400  # flags of an order
NLA_F_NESTED, NLA_TYPE_MASK = 0x8000, 0x3FFF

READ_BYTES = 1 << 16  # a dump's pieces are at most 32 KiB (netlink_dump, af_netlink.c)
DUMPS_MAX = 5  # of one that is interrupted by a change, each from its beginning

Attributes = dict[int, bytes]


class RtNetlink:
    """A socket in the caller's network namespace, for one thread, with `with`."""

    def __init__(self) -> None:
        mode = socket.SOCK_RAW | socket.SOCK_CLOEXEC
        self._socket = socket.socket(socket.AF_NETLINK, mode, socket.NETLINK_ROUTE)
        self._sequence = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._socket.close()

    def order(self, kind: int, message: bytes, flags: int = 0) -> None:
        """Done when it returns; OSError with the kernel's reason when it was refused."""
        self._exchange(kind, message, NLM_F_ACK | flags)

    def ask(self, kind: int, message: bytes) -> bytes:
        """The one answer; OSError when there is none."""
        answers, _ = self._exchange(kind, message, NLM_F_ACK)
        if not answers:
            raise OSError(errno.ENODATA, os.strerror(errno.ENODATA))
        return answers[0]

    def dump(self, kind: int, message: bytes) -> list[bytes]:
        """Every entry of a table. One that changed under all our looks is as the last one saw it:
        who depends on it hears of the change by an event of its own."""
        for _ in range(DUMPS_MAX):
            entries, was_interrupted = self._exchange(kind, message, NLM_F_DUMP)
            if not was_interrupted:
                break
        return entries

    def _exchange(self, kind: int, message: bytes, flags: int) -> tuple[list[bytes], bool]:
        """Until the message that ends the answer, which an acknowledgement does as well."""
        self._sequence += 1
        length = HEADER.size + len(message)
        header = HEADER.pack(length, kind, NLM_F_REQUEST | flags, self._sequence, 0)
        self._socket.send(header + message)
        answers: list[bytes] = []
        was_interrupted = False
        while True:
            for got, got_flags, sequence, body in messages(self._socket.recv(READ_BYTES)):
                if sequence != self._sequence:
                    continue
                was_interrupted |= bool(got_flags & NLM_F_DUMP_INTR)
                if got in (NLMSG_ERROR, NLMSG_DONE):
                    _check(body)
                    return answers, was_interrupted
                answers.append(body)


def messages(data: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    """Kind, flags, sequence and body of each message of a datagram."""
    offset = 0
    while offset + HEADER.size <= len(data):
        length, kind, flags, sequence, _ = HEADER.unpack_from(data, offset)
        yield kind, flags, sequence, data[offset + HEADER.size : offset + length]
        offset += max(_padded(length), HEADER.size)


def attribute(kind: int, value: bytes | int | str) -> bytes:
    """An integer is one of 32 bits, and text ends with a zero, as most are. Text that came as bytes
    of no encoding, such as an argument, goes as these."""
    if isinstance(value, int):
        value = struct.pack("=I", value)
    elif isinstance(value, str):
        value = os.fsencode(value) + b"\0"
    length = ATTRIBUTE.size + len(value)
    return ATTRIBUTE.pack(length, kind) + value + bytes(_padded(length) - length)


def nested(kind: int, *attributes: bytes) -> bytes:
    return attribute(kind | NLA_F_NESTED, b"".join(attributes))


def attributes(data: bytes) -> Attributes:
    """Values by kind, of what follows a message's structure or is nested in an attribute."""
    found: Attributes = {}
    offset = 0
    while offset + ATTRIBUTE.size <= len(data):
        length, kind = ATTRIBUTE.unpack_from(data, offset)
        found[kind & NLA_TYPE_MASK] = data[offset + ATTRIBUTE.size : offset + length]
        offset += max(_padded(length), ATTRIBUTE.size)
    return found


def number(value: bytes | None) -> int | None:
    """Of 32 bits."""
    return None if value is None else int(struct.unpack("=I", value)[0])


def text(value: bytes) -> str:
    return value.partition(b"\0")[0].decode(errors="replace")


def address_family(address: str) -> int:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def pack_address(address: str) -> bytes:
    return socket.inet_pton(address_family(address), address)


def address(family: int, value: bytes | None) -> str | None:
    return None if value is None else socket.inet_ntop(family, value)


def _check(body: bytes) -> None:
    """A dump's end has a code as well, where the kernel is new enough."""
    code = -ERROR.unpack_from(body)[0] if len(body) >= ERROR.size else 0
    if code:
        raise OSError(code, os.strerror(code))


def _padded(length: int) -> int:
    return (length + 3) & ~3
