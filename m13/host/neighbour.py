"""Destination MACs for packets the kernel does not send for us (AF_XDP), and their changes.

Next hops come from the route lookup, MACs from the kernel's neighbour table. NTF_USE makes the
kernel resolve or re-check an entry as if it had a packet to send.
"""

import errno
import select
import socket
import struct
import time
from dataclasses import dataclass

from m13.errors import HostError
from m13.host import netlink_events, routes, rtnetlink
from m13.host.netlink_events import NetlinkEvents
from m13.host.rtnetlink import RtNetlink, attribute

# linux/rtnetlink.h, linux/neighbour.h
RTM_NEWNEIGH, RTM_GETNEIGH = 28, 30
NDA_DST, NDA_LLADDR = 1, 2
NTF_USE, NUD_PERMANENT = 0x01, 0x80
ENTRY = struct.Struct("=B3xiHBB")  # struct ndmsg: family, index, state, flags, type
# REACHABLE, STALE, DELAY, PROBE, NOARP, PERMANENT: states whose MAC may be used.
USABLE = 0x02 | 0x04 | 0x08 | 0x10 | 0x40 | 0x80
RESOLVE_TIMEOUT_S = 1.0


@dataclass(frozen=True)
class Neighbour:
    """`mac` is None while nobody has answered for `next_hop`; both while there is no route."""

    ip: str
    next_hop: str | None
    mac: bytes | None


def resolve(ip: str, interface: int, timeout_s: float = RESOLVE_TIMEOUT_S) -> Neighbour:
    """Wait up to `timeout_s` for the MAC that packets to `ip` out of `interface` need."""
    watch = NeighbourWatch(interface)
    try:
        watch.watch(ip)
        deadline = time.monotonic() + timeout_s
        while watch.current(ip).mac is None:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([watch], [], [], left)[0]:
                break
            watch.handle()
        return watch.current(ip)
    finally:
        watch.close()


class NeighbourWatch:
    """For a poll loop: when `fileno()` is readable, `handle()` returns what changed. Nothing here
    waits. Call `refresh()` every 30 s or so: the kernel does not see our packets, and so would
    neither re-check a neighbour nor keep it."""

    def __init__(self, interface: int) -> None:
        self._interface = interface
        groups = netlink_events.NEIGHBOUR | netlink_events.ROUTE
        self._events = NetlinkEvents(groups | netlink_events.LINK | netlink_events.ADDRESS)
        self._watched: dict[str, Neighbour] = {}

    def fileno(self) -> int:
        return self._events.fileno()

    def close(self) -> None:
        self._events.close()

    def watch(self, ip: str) -> Neighbour:
        """Begin to watch; the MAC is None when it has to be asked for first."""
        if ip not in self._watched:
            next_hop = _next_hop(ip, self._interface)
            mac = _usable_macs(self._interface).get(next_hop) if next_hop else None
            self._watched[ip] = Neighbour(ip, next_hop, mac)
            if mac is None:
                self._use(next_hop)
        return self._watched[ip]

    def forget(self, ip: str) -> None:
        self._watched.pop(ip, None)

    def current(self, ip: str) -> Neighbour:
        return self._watched[ip]

    def refresh(self) -> None:
        for next_hop in {neighbour.next_hop for neighbour in self._watched.values()}:
            self._use(next_hop)

    def handle(self) -> list[Neighbour]:
        """A MAC that is only being looked for again is not reported: the old one stays in use."""
        changed = self._events.drain()
        if not changed or not self._watched:
            return []
        macs = _usable_macs(self._interface)
        news = []
        for ip, old in list(self._watched.items()):
            moved = changed & ~netlink_events.NEIGHBOUR
            next_hop = _next_hop(ip, self._interface) if moved else old.next_hop
            mac = macs.get(next_hop) if next_hop else None
            if next_hop != old.next_hop and mac is None:
                self._use(next_hop)
            if mac is None and next_hop == old.next_hop:
                mac = old.mac
            new = Neighbour(ip, next_hop, mac)
            if new != old:
                self._watched[ip] = new
                news.append(new)
        return news

    def _use(self, next_hop: str | None) -> None:
        if next_hop is None:
            return
        try:
            _write(self._interface, next_hop, flags=NTF_USE)
        except OSError as error:
            if error.errno not in (errno.ENETDOWN, errno.ENODEV, errno.EINVAL, errno.ENOBUFS):
                raise HostError(
                    f"cannot ask for the MAC of {next_hop}: {error.strerror}"
                ) from error


def set_permanent(interface: int, ip: str, mac: bytes) -> None:
    _write(interface, ip, attribute(NDA_LLADDR, mac), state=NUD_PERMANENT)


def _write(interface: int, ip: str, more: bytes = b"", state: int = 0, flags: int = 0) -> None:
    message = ENTRY.pack(rtnetlink.address_family(ip), interface, state, flags, 0)
    message += attribute(NDA_DST, rtnetlink.pack_address(ip)) + more
    with RtNetlink() as netlink:
        netlink.order(RTM_NEWNEIGH, message, rtnetlink.CREATE | rtnetlink.REPLACE)


def _next_hop(ip: str, interface: int) -> str | None:
    try:
        way = routes.lookup(ip, interface)
    except HostError:
        return None
    return None if way.is_local or way.interface != interface else way.gateway or ip


def _usable_macs(interface: int) -> dict[str, bytes]:
    macs = {}
    with RtNetlink() as netlink:
        for family in (socket.AF_INET, socket.AF_INET6):
            for body in netlink.dump(RTM_GETNEIGH, ENTRY.pack(family, 0, 0, 0, 0)):
                _, index, state, _, _ = ENTRY.unpack_from(body)
                found = rtnetlink.attributes(body[ENTRY.size :])
                ip, mac = rtnetlink.address(family, found.get(NDA_DST)), found.get(NDA_LLADDR)
                if index == interface and ip and mac and state & USABLE:
                    macs[ip] = mac
    return macs
