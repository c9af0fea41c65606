"""Three network namespaces joined by veth, as a user's machines would be joined by networks.

    node up0 192.0.2.2 ─── 192.0.2.1 wan0 hub net0 198.51.100.1 ─── 198.51.100.2 eth0 internet

With two nodes a router stands between them and the hub, so the hub's peers are off-link:

    node  up0 203.0.113.2   ─┐
                             router 192.0.2.254 ─── 192.0.2.1 wan0 hub ─── internet
    node2 up0 203.0.113.130 ─┘

The internet knows the way to the tunnel's subnet, so a node can be reached from there. Real NICs
take the place of the veth between node and hub when they are named, and go back afterwards.
"""

import contextlib
import os
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Self

from pyroute2 import IPRoute

from bench.namespace import PATIENCE_S, Namespace, move_link, settled_difference
from m13.host.journal import Journal

HUB_ADDRESS = "192.0.2.1"
INTERNET_ADDRESS = "198.51.100.2"
TUNNEL_SUBNET = "10.13.0.0/24"
NODE_ADDRESS6, HUB_ADDRESS6 = "2001:db8:1::2", "2001:db8:1::1"


class Bed:
    """With `with`. `role` builds only one side of two machines: "hub" (and internet) or "node".
    `queues` are those of the hub's veth, each way."""

    def __init__(
        self,
        nodes: int = 1,
        *,
        hub_nic: str | None = None,
        node_nic: str | None = None,
        role: str | None = None,
        queues: int = 1,
    ) -> None:
        if nodes not in (1, 2) or (nodes == 2 and (hub_nic or node_nic)):
            raise ValueError("one node, or two on veth")
        self.node_count = nodes
        self.queues = queues
        self.sides = {role} if role else {"hub", "node"}
        self.hub_interface = hub_nic or "wan0"
        self.node_interface = node_nic or "up0"
        self._nics = {"hub": hub_nic, "node": node_nic}
        self._moved: list[tuple[str, Namespace, list[tuple[str, int]], bool]] = []
        self._handlers: dict[int, Any] = {}
        self._before: dict[str, dict[str, Any]] = {}
        self._pages: set[str] = set()
        self._huge_pages = huge_pages()
        self.namespaces: dict[str, Namespace] = {}
        self.directory = Path()

    def __enter__(self) -> Self:
        self.directory = Path(tempfile.mkdtemp(prefix="m13-bed-"))
        if threading.current_thread() is threading.main_thread():
            self._handlers = {signal.SIGTERM: signal.signal(signal.SIGTERM, _interrupt)}
        try:
            self._lay_out()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __getattr__(self, word: str) -> Namespace:
        """bed.node, bed.node2, bed.hub, bed.internet, bed.router"""
        try:
            return self.__dict__["namespaces"][word]
        except KeyError:
            raise AttributeError(word) from None

    @property
    def run_directory(self) -> Path:
        """Where the journals of this bed's hub and node are kept."""
        return self.directory / "run"

    @property
    def nodes(self) -> list[Namespace]:
        return [self.namespaces[word] for word in ("node", "node2") if word in self.namespaces]

    def close(self) -> None:
        """Idempotent; an interrupt meanwhile waits until everything is down."""
        held = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
        try:
            for namespace in self.namespaces.values():
                namespace.stop_children()
            self._undo_for_the_killed()
            while self._moved:
                self._give_back(*self._moved.pop())
            for namespace in self.namespaces.values():
                for page in _pages(namespace) - self._pages:
                    Path(page).unlink(missing_ok=True)
                namespace.remove()
            self.namespaces.clear()
            shutil.rmtree(self.directory, ignore_errors=True)
            for number, handler in self._handlers.items():
                signal.signal(number, handler)
            self._handlers.clear()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, held)

    def changes(self) -> list[str]:
        """What hub and node left behind after they ended, a line a thing; empty is right."""
        found = []
        for word, namespace in self.namespaces.items():
            lines = settled_difference(namespace, self._before[word])
            lines += [f"process {pid}" for pid in namespace.processes()]
            lines += sorted(_pages(namespace) - self._pages)
            found += [f"{word}: {line}" for line in lines]
        found += self._huge_pages_left()
        return found + [str(path) for path in self.run_directory.glob("*.journal")]

    def _huge_pages_left(self) -> list[str]:
        """More than before, if a hub in here may have had any, and none outside has. Of one that
        just ended the pages go in the kernel's own time."""
        namespaces = self.namespaces.values()
        if not any(_may_reserve(argv) for each in namespaces for argv in each.commands):
            return []
        inodes = {namespace.inode for namespace in namespaces}
        until = time.monotonic() + PATIENCE_S
        while (count := huge_pages()) > self._huge_pages and not _hubs_outside(inodes):
            if time.monotonic() > until:
                return [f"huge pages: {self._huge_pages} -> {count}"]
            time.sleep(0.05)
        return []

    def _undo_for_the_killed(self) -> None:
        """What a killed program changed beyond its namespace, the next start puts back wherever it
        is: nobody will start in this bed's namespaces again, so that start is here."""
        if not any(self.run_directory.glob("*.journal")):
            return
        before = os.environ.get("M13_RUN_DIR")
        os.environ["M13_RUN_DIR"] = str(self.run_directory)
        try:
            Journal.open("bed", "none").close()
        finally:
            del os.environ["M13_RUN_DIR"]
            if before is not None:
                os.environ["M13_RUN_DIR"] = before

    def _lay_out(self) -> None:
        words = ["node"] if "node" in self.sides else []
        words += ["hub", "internet"] if "hub" in self.sides else []
        words += ["node2", "router"] if self.node_count == 2 else []
        for word in words:
            self.namespaces[word] = Namespace(f"m13-{word}-{os.getpid()}")
        if "hub" in self.sides:
            self._lay_internet()
        if self.node_count == 2:
            self._lay_router()
        else:
            self._lay_direct()
        if "hub" in self.sides:
            self.hub.route("default", INTERNET_ADDRESS)
        self._before = {word: space.picture() for word, space in self.namespaces.items()}
        # inode numbers come back: a page may be left from somebody's namespace of the same number
        self._pages = set().union(*map(_pages, self.namespaces.values()))

    def _lay_internet(self) -> None:
        self.hub.veth("net0", self.internet, "eth0")
        self.hub.address("net0", "198.51.100.1/24")
        self.internet.address("eth0", f"{INTERNET_ADDRESS}/24")
        self.internet.route(TUNNEL_SUBNET, "198.51.100.1")

    def _lay_direct(self) -> None:
        if any(self._nics.values()):
            for word, nic in self._nics.items():
                if nic and word in self.sides:
                    self._take(nic, self.namespaces[word])
        else:
            self.node.veth("up0", self.hub, "wan0", self.queues)
        if "hub" in self.sides:
            self.hub.address(self.hub_interface, f"{HUB_ADDRESS}/24")
            self.hub.address(self.hub_interface, f"{HUB_ADDRESS6}/64")
        if "node" in self.sides:
            self.node.address(self.node_interface, "192.0.2.2/24")
            self.node.route("default", HUB_ADDRESS)
            self.node.address(self.node_interface, f"{NODE_ADDRESS6}/64")
            self.node.route("::/0", HUB_ADDRESS6)

    def _lay_router(self) -> None:
        self.router.forward()
        self.router.veth("hub0", self.hub, "wan0", self.queues)
        self.router.address("hub0", "192.0.2.254/24")
        self.hub.address("wan0", f"{HUB_ADDRESS}/24")
        self.hub.route("203.0.113.0/24", "192.0.2.254")
        for index, namespace in enumerate(self.nodes):
            first = 128 * index
            self.router.veth(f"node{index}", namespace, "up0")
            self.router.address(f"node{index}", f"203.0.113.{first + 1}/25")
            namespace.address("up0", f"203.0.113.{first + 2}/25")
            namespace.route("default", f"203.0.113.{first + 1}")

    def _take(self, nic: str, namespace: Namespace) -> None:
        with IPRoute() as netlink:
            index = netlink.link_lookup(ifname=nic)[0]
            was_up = bool(netlink.get_links(index)[0]["flags"] & 1)
            addresses = [
                (message.get_attr("IFA_ADDRESS"), message["prefixlen"])
                for message in netlink.get_addr(index=index)
                if message["scope"] == 0
            ]
        move_link(nic, None, namespace)
        self._moved.append((nic, namespace, addresses, was_up))
        namespace.set_up(nic)

    def _give_back(
        self, nic: str, namespace: Namespace, addresses: list[tuple[str, int]], was_up: bool
    ) -> None:
        move_link(nic, namespace, None)
        with IPRoute() as netlink:
            index = netlink.link_lookup(ifname=nic)[0]
            for address, bits in addresses:
                with contextlib.suppress(Exception):
                    netlink.addr("add", index=index, address=address, prefixlen=bits)
            netlink.link("set", index=index, state="up" if was_up else "down")


def _pages(namespace: Namespace) -> set[str]:
    return {str(path) for path in Path("/dev/shm").glob(f"m13.*.{namespace.inode}")}


def huge_pages() -> int:
    """How many the machine reserves, of 2 MiB each; none where the kernel knows none."""
    with contextlib.suppress(FileNotFoundError):
        return int(Path("/proc/sys/vm/nr_hugepages").read_text())
    return 0


def _may_reserve(argv: Iterable[str]) -> bool:
    """Huge pages: every hub but one that was told to serve on sockets."""
    text = " ".join(argv)
    return "m13-hub" in text and "--rx udp" not in text


def _hubs_outside(inodes: set[int]) -> list[int]:
    """Hubs that run in other network namespaces than these, and may have huge pages."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            argv = (entry / "cmdline").read_text(errors="replace").split("\0")
            if _may_reserve(argv) and (entry / "ns/net").stat().st_ino not in inodes:
                found.append(int(entry.name))
    return found


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
