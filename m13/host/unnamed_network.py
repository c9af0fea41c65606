"""Two network namespaces without a name, joined by veth pairs, for the time of one function.

Nothing else on the machine sees them, and nothing has to be taken down: a namespace ends with its
last thread, descriptor and socket, whatever ended those, and its links end with it.
"""

import ctypes
import os
import socket
import threading
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Literal, TypeVar

from m13.host import link, neighbour, nic

CLONE_NEWNET = 0x40000000  # linux/sched.h
MTU_LEAST = 68  # RFC 791; longer packets end in the driver
PREFIX_BITS = 24
LIBC = ctypes.CDLL(None, use_errno=True)
OURS = "/proc/thread-self/ns/net"

Side = Literal["near", "far"]
T = TypeVar("T")


@dataclass(frozen=True)
class Lane:
    """A veth pair with an address on either end; addresses are RFC 2544's."""

    number: int
    source_side: Side

    @property
    def target_side(self) -> Side:
        return "near" if self.source_side == "far" else "far"

    @property
    def source(self) -> str:
        return f"source{self.number}"

    @property
    def target(self) -> str:
        return f"target{self.number}"

    @property
    def source_address(self) -> str:
        return f"198.18.{self.number}.1"

    @property
    def target_address(self) -> str:
        return f"198.18.{self.number}.2"

    def mac(self, which: int) -> bytes:
        """1 the source's, 2 the target's, 3 nobody's"""
        return bytes((2, 0, 0, 0, self.number, which))


class UnnamedNetwork:
    """Made by `run`, for the thread it works in."""

    def __init__(self, stack: ExitStack) -> None:
        self._namespaces: dict[Side, int] = {}
        sides: tuple[Side, Side] = ("near", "far")
        for side in sides:
            _check(LIBC.unshare(CLONE_NEWNET), "no network namespace of our own")
            descriptor = os.open(OURS, os.O_RDONLY | os.O_CLOEXEC)
            stack.callback(os.close, descriptor)
            self._namespaces[side] = descriptor

    def enter(self, side: Side) -> None:
        """What this thread opens from now on is there, and stays there."""
        _check(LIBC.setns(self._namespaces[side], CLONE_NEWNET), "namespace")

    def lay(
        self,
        lane: Lane,
        mtu: int,
        source_features: dict[str, bool],
        target_features: dict[str, bool],
        is_heard: bool = True,
    ) -> None:
        """A pair that is up. One that is not heard takes packets for `mtu` and drops them on the
        other side as early as a driver would be done with them: those of the link's size for their
        length, those the kernel never cut for their address."""
        self.enter(lane.source_side)
        link.make_veth(
            link.description(lane.source, lane.mac(1), mtu),
            link.description(lane.target, lane.mac(2), mtu if is_heard else MTU_LEAST),
            self._namespaces[lane.target_side],
        )
        self.enter(lane.target_side)
        nic.set_features(lane.target, target_features)
        _bring_up(lane.target, lane.target_address)
        self.enter(lane.source_side)
        nic.set_features(lane.source, source_features)
        index = _bring_up(lane.source, lane.source_address)
        neighbour.set_permanent(index, lane.target_address, lane.mac(2 if is_heard else 3))


def run(work: Callable[[UnnamedNetwork, ExitStack], T]) -> T:
    """Work's answer. It has a thread of its own, which belongs to no namespace of ours any more:
    what it opens goes to the stack. Raises what it raises, and OSError when this cannot be had."""
    answers: list[T] = []
    errors: list[BaseException] = []

    def body() -> None:
        try:
            with ExitStack() as stack:
                answers.append(work(UnnamedNetwork(stack), stack))
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=body, name="m13-measure")
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return answers[0]


def _bring_up(name: str, address: str) -> int:
    index = socket.if_nametoindex(name)
    link.add_address(index, address, PREFIX_BITS)
    link.set_up(index)
    return index


def _check(result: int, what: str) -> None:
    if result != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"{what}: {os.strerror(error)}")
