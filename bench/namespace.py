"""A network namespace of our own: made, entered by a thread, pictured and removed, by netlink."""

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pyroute2 import IPRoute, netns

from m13.host import firewall

RT_TABLE_LOCAL = 255  # rtnetlink(7)
RTM_F_CLONED = 0x200  # rtnetlink(7)
IFA_F_NODAD, IFA_F_TENTATIVE = 0x02, 0x40  # rtnetlink(7)

CLONE_NEWNET = 0x40000000
STOP_S = 5
DIRECTORY = Path("/run/netns")
LIBC = ctypes.CDLL(None, use_errno=True)
PATIENCE_S = 2

# What changes by itself: counters, ages and caches are no part of a picture.
FLEETING_ATTRIBUTES = {
    "IFLA_STATS",
    "IFLA_STATS64",
    "IFLA_AF_SPEC",
    "IFLA_CARRIER_CHANGES",
    "IFLA_CARRIER_UP_COUNT",
    "IFLA_CARRIER_DOWN_COUNT",
    "IFA_CACHEINFO",
    "RTA_CACHEINFO",
    "TCA_STATS",
    "TCA_STATS2",
}
FLEETING_SETTINGS = {"nf_conntrack_count", "stable_secret", "fib_multipath_hash_seed"}


class Namespace:
    def __init__(self, name: str) -> None:
        self.name = name
        netns.create(name)
        self._descriptor = os.open(DIRECTORY / name, os.O_RDONLY | os.O_CLOEXEC)
        self.inode = os.fstat(self._descriptor).st_ino
        self.children: list[subprocess.Popen[bytes]] = []
        self.commands: list[Sequence[str]] = []  # of every child there ever was
        # Addresses are usable at once, and a picture does not change while they settle.
        with self.inside():
            Path("/proc/sys/net/ipv6/conf/default/accept_dad").write_text("0")
        self.set_up("lo")

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        """This thread is in the namespace; what it opens or starts there stays there."""
        before = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            _enter(self._descriptor)
            yield
        finally:
            _enter(before)
            os.close(before)

    @contextlib.contextmanager
    def netlink(self) -> Iterator[IPRoute]:
        with self.inside(), IPRoute() as netlink:
            yield netlink

    def spawn(self, argv: Sequence[str], **options: Any) -> subprocess.Popen[bytes]:
        """A process in the namespace, ended at the latest when the namespace is removed."""
        with self.inside():
            child = subprocess.Popen(argv, start_new_session=True, **options)
        self.children.append(child)
        self.commands.append(argv)
        return child

    def veth(
        self, interface: str, other: "Namespace", other_interface: str, queues: int = 1
    ) -> None:
        """A pair that is up; `queues` each way."""
        many = {"num_tx_queues": queues, "num_rx_queues": queues} if queues > 1 else {}
        peer = {"ifname": other_interface, "net_ns_fd": other.name, **many}
        with self.netlink() as netlink:
            netlink.link("add", ifname=interface, kind="veth", peer=peer, **many)
        other.set_up(other_interface)
        self.set_up(interface)

    def set_up(self, interface: str, is_up: bool = True) -> None:
        with self.netlink() as netlink:
            state = "up" if is_up else "down"
            netlink.link("set", index=_index(netlink, interface), state=state)

    def address(self, interface: str, address: str) -> None:
        """An address with its prefix length; IPv6 without waiting for duplicates to answer."""
        host, _, bits = address.partition("/")
        options = {"flags": IFA_F_NODAD} if ":" in host else {}
        with self.netlink() as netlink:
            index = _index(netlink, interface)
            netlink.addr("add", index=index, address=host, prefixlen=int(bits), **options)
            if ":" in host:
                _await_own_route(netlink, host)

    def route(self, destination: str, gateway: str) -> None:
        with self.netlink() as netlink:
            netlink.route("add", dst=destination, gateway=gateway)

    def forward(self) -> None:
        with self.inside():
            Path("/proc/sys/net/ipv4/ip_forward").write_text("1")

    def interface_index(self, interface: str) -> int:
        with self.netlink() as netlink:
            return _index(netlink, interface)

    def picture(self) -> dict[str, Any]:
        """Everything a tunnel may change in here, in a form to compare."""
        with self.netlink() as netlink:
            _await_addresses(netlink)
            return {
                "links": {m.get_attr("IFLA_IFNAME"): _plain(m) for m in netlink.get_links()},
                "addresses": _sorted(netlink.get_addr()),
                "routes": _sorted(m for m in netlink.get_routes() if not _is_cached(m)),
                "rules": _sorted(netlink.get_rules()),
                "queueing": _sorted(netlink.get_qdiscs()),
                "firewall": firewall.run("list ruleset"),
                "settings": _settings(),
            }

    def processes(self) -> list[int]:
        """Who is in here, whoever started it."""
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if (entry / "ns/net").stat().st_ino == self.inode:
                    found.append(int(entry.name))
        return [pid for pid in found if pid != os.getpid()]

    def stop_children(self) -> None:
        """Ask, wait, then insist; each child is ended by its own id."""
        for child in self.children:
            if child.poll() is None:
                child.send_signal(signal.SIGTERM)
        until = time.monotonic() + STOP_S
        for child in self.children:
            try:
                child.wait(max(0.0, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
        self.children.clear()

    def remove(self) -> None:
        if self._descriptor < 0:
            return
        self.stop_children()
        os.close(self._descriptor)
        self._descriptor = -1
        with contextlib.suppress(OSError):
            netns.remove(self.name)


def difference(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """What changed between two pictures, a line a thing."""
    lines = []
    for topic, old in before.items():
        new = after[topic]
        if isinstance(old, dict):
            keys = sorted(old.keys() | new.keys())
            changed = [key for key in keys if old.get(key) != new.get(key)]
            lines += [f"{topic} {key}: {old.get(key)} -> {new.get(key)}" for key in changed]
        elif isinstance(old, list):
            lines += [f"{topic} gone: {entry}" for entry in old if entry not in new]
            lines += [f"{topic} left: {entry}" for entry in new if entry not in old]
        elif old != new:
            lines.append(f"{topic}: {old!r} -> {new!r}")
    return lines


def settled_difference(namespace: Namespace, before: dict[str, Any]) -> list[str]:
    """The kernel takes links down in its own time: look again for a moment before accusing."""
    until = time.monotonic() + PATIENCE_S
    while (lines := difference(before, namespace.picture())) and time.monotonic() < until:
        time.sleep(0.05)
    return lines


def move_link(interface: str, source: Namespace | None, target: Namespace | None) -> None:
    """A real NIC goes into a namespace or comes back; None is where this thread lives."""
    path = DIRECTORY / target.name if target else Path("/proc/thread-self/ns/net")
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        with source.netlink() if source else IPRoute() as netlink:
            netlink.link("set", index=_index(netlink, interface), net_ns_fd=descriptor)
    finally:
        os.close(descriptor)


def _enter(descriptor: int) -> None:
    if LIBC.setns(descriptor, CLONE_NEWNET) != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"cannot enter a namespace: {os.strerror(error)}")


def _index(netlink: IPRoute, interface: str) -> int:
    found: list[int] = netlink.link_lookup(ifname=interface)
    if not found:
        raise LookupError(f"no interface {interface} here")
    return found[0]


def _plain(message: Any) -> str:
    """A netlink message as text, without its envelope and without what moves by itself."""
    fields = {k: v for k, v in message.items() if k not in ("attrs", "header", "event")}
    attributes = {
        name: value for name, value in message.get("attrs", []) if name not in FLEETING_ATTRIBUTES
    }
    return repr((sorted(fields.items(), key=str), sorted(attributes.items(), key=str)))


def _is_cached(route: Any) -> bool:
    """What the kernel learned by ICMP, such as a path MTU, and forgets by itself."""
    return bool(route["flags"] & RTM_F_CLONED)


def _sorted(messages: Any) -> list[str]:
    return sorted(_plain(message) for message in messages)


def _settings() -> dict[str, str]:
    found = {}
    for root, _, files in os.walk("/proc/sys/net"):
        for name in set(files) - FLEETING_SETTINGS:
            with contextlib.suppress(OSError):
                found[f"{root}/{name}"] = Path(root, name).read_text(errors="replace").strip()
    return found


def _await_addresses(netlink: IPRoute) -> None:
    """The kernel finishes IPv6 addresses in its own time, though it looks for no duplicates."""
    until = time.monotonic() + PATIENCE_S
    while any(m["flags"] & IFA_F_TENTATIVE for m in netlink.get_addr(family=socket.AF_INET6)):
        if time.monotonic() > until:
            return
        time.sleep(0.01)


def _await_own_route(netlink: IPRoute, host: str) -> None:
    """The kernel enters an IPv6 address of ours in its own time; pictures are taken after that."""
    for _ in range(200):
        own = netlink.get_routes(family=socket.AF_INET6, table=RT_TABLE_LOCAL)
        if any(route.get_attr("RTA_DST") == host for route in own):
            return
        time.sleep(0.01)
    raise TimeoutError(f"{host} did not come up")
