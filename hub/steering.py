"""Steering on one interface: attached on entry, gone on exit, following this host's addresses."""

import contextlib
import errno
import ipaddress
import logging
import os
import socket
from collections.abc import Iterable
from pathlib import Path
from typing import Self

from m13 import endpoint
from m13.errors import HostError
from m13.host import link
from native.steer import ADDRESSES_MAX, VERDICTS, Steer

OBJECT = Path(__file__).with_name("steer.bpf.o")
RTMGRP_IPV4_IFADDR, RTMGRP_IPV6_IFADDR = 0x10, 0x100
IFA_F_DADFAILED, IFA_F_TENTATIVE = 0x08, 0x40  # linux/if_addr.h
STRANGER = bytes(60)  # the shortest Ethernet frame, of no protocol
log = logging.getLogger("m13.hub")

HINTS = {
    errno.EPERM: "run as root, or with CAP_NET_ADMIN and CAP_BPF",
    errno.ENOENT: "run 'make' to build it",
    errno.EBUSY: "another XDP program is attached: see 'ip -d link show dev {0}', stop its owner,"
    " or 'ip link set dev {0} xdp off' ('xdpgeneric off' if it is generic)",
    errno.ENODEV: "no such interface",
    errno.EOPNOTSUPP: "the driver of {} has no such XDP mode",
}

__all__ = ["OBJECT", "VERDICTS", "Steering"]


def own_addresses(interface: str) -> list[str]:
    """This host's addresses of both families but loopback and link-local, those of the interface
    first. One that duplicate address detection has not passed is not ours yet."""
    index = socket.if_nametoindex(interface)
    ours = sorted(link.addresses(), key=lambda own: own.interface != index)
    ordered = [
        ipaddress.ip_address(own.address)
        for own in ours
        if not own.flags & (IFA_F_TENTATIVE | IFA_F_DADFAILED)
    ]
    return [
        str(address)
        for address in dict.fromkeys(ordered)
        if not address.is_loopback and not (address.version == 6 and address.is_link_local)
    ]


class Steering:
    """`mode` says how the program is attached; `fileno()` is readable when addresses changed."""

    def __init__(self, interface: str, port: int, mode: str = "auto") -> None:
        self.interface = interface
        self.mode = ""
        self.why_not_native = ""
        self._wanted_mode = mode
        self._is_attached = False
        self._addresses: set[str] = set()
        try:
            self._steer = Steer(str(OBJECT), port)
        except OSError as error:
            raise self._refused(error) from error
        self._changes = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)

    def __enter__(self) -> Self:
        """Addresses before the program: from its first packet on, the verdicts are right."""
        try:
            self._changes.bind((0, RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR))
            self._changes.setblocking(False)
            self.follow_addresses()
            self._try_program()
            index = socket.if_nametoindex(self.interface)
            self.mode = self._steer.attach(index, self._wanted_mode)
        except HostError:
            self.close()
            raise
        except OSError as error:
            self.close()
            raise self._refused(error) from error
        self._is_attached = True
        if self._steer.native_error:
            self.why_not_native = os.strerror(self._steer.native_error)
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        if self._is_attached:
            self._is_attached = False
            with contextlib.suppress(OSError):  # closing goes on
                seen = [f"{verdict} {count}" for verdict, count in self.counters().items() if count]
                log.info("XDP verdicts: %s", ", ".join(seen) or "no packet came")
        self._steer.close()
        self._changes.close()

    def fileno(self) -> int:
        return self._changes.fileno()

    def register(self, queue: int, descriptor: int) -> None:
        """From now on the packets of this receive queue go to this AF_XDP socket."""
        try:
            self._steer.set_socket(queue, descriptor)
        except OSError as error:
            raise self._refused(error) from error

    def follow_addresses(self) -> set[str]:
        """Steers for the addresses this host has now; answers them."""
        try:
            self._discard_notices()
            addresses = own_addresses(self.interface)
            if len(addresses) > ADDRESSES_MAX:
                log.warning("steering for %d of %d addresses", ADDRESSES_MAX, len(addresses))
            self.set_addresses(addresses[:ADDRESSES_MAX])
        except OSError as error:
            raise self._refused(error) from error
        return self._addresses

    def set_addresses(self, addresses: Iterable[str]) -> None:
        """Removes before it adds, so that a full table can be exchanged."""
        wanted = set(addresses)
        for address in self._addresses - wanted:
            self._steer.remove_address(endpoint.pack(address))
        for address in wanted - self._addresses:
            self._steer.add_address(endpoint.pack(address))
        self._addresses = wanted

    def counters(self) -> dict[str, int]:
        return self._steer.counters()

    def _try_program(self) -> None:
        """Before it meets anyone's packets: what is not M13's must pass."""
        if self._steer.test(STRANGER):
            raise HostError("the steering program takes what is not M13's: build it anew ('make')")

    def _discard_notices(self) -> None:
        """What changed is asked anew, so a lost notice (ENOBUFS) is as good as a received one."""
        for _ in range(1024):
            try:
                self._changes.recv(65536)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise

    def _refused(self, error: OSError) -> HostError:
        hint = HINTS.get(error.errno or 0, "see 'm13 doctor'").format(self.interface)
        return HostError(f"XDP steering on {self.interface}: {error.strerror or error}: {hint}")
