"""A hub's data plane on one interface: through AF_XDP, or through a UDP socket.

Both take the same frames through the same stages. XDP sees every packet before the kernel's own
network does and builds the outer headers itself; the socket leaves them to the kernel, which in
turn moves many datagrams at once. Which is better on this machine, hub/receive.py measures.
"""

import contextlib
import logging
import socket
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any, Protocol

from hub.steering import Steering
from m13 import endpoint
from m13.errors import HostError, UsageError
from m13.host import nic, packet_socket, udp_socket
from m13.host.cpu import CorePlan
from m13.host.neighbour import NeighbourWatch
from m13.service import Service
from m13.telemetry import TelemetryPage
from native.channel import Channel
from native.endpoint import L2
from native.event import MOVED, Event
from native.hub import FRAMES, XDP_RING_SLOTS, Hub, Share
from native.hub import UMEM_BYTES as XDP_BYTES
from native.reactor import ARENA_BYTES, BUFFERS, Reactor
from native.stats import PEERS_WORKER
from native.umem import Umem
from native.xdp import Socket

SO_BINDTODEVICE = 25  # asm-generic/socket.h

log = logging.getLogger("m13.hub")


class Plane(Protocol):
    """What the control process needs of either. Everything it holds hangs from the stack it was
    made with; `end` comes before that is unwound, when the service's threads are to stop."""

    mode: str  # for people
    memory: str
    aead_backend: str
    notes: list[str]

    def start(self, service: Service, handle_events: Callable[[], None]) -> None:
        """Threads, and what the control loop watches."""

    def events(self) -> list[Event]: ...

    def follow(self, event: Event) -> None:
        """A peer is at the event's address now."""

    def forget(self, slot: int) -> None:
        """The peer is gone."""

    def expel(self, slot: int, generation: int) -> bool:
        """Ends that peer's session within a tick; false when too much waits to be done."""

    def renew(self, slot: int, generation: int, configure: bool = False) -> bool:
        """Asks the peer for new keys, which bring its settings, or repeats those in CONFIG; false
        likewise."""

    def end(self, service: Service) -> tuple[int, int]:
        """Stops the threads; how many buffers are missing, and how many there are."""


@dataclass(frozen=True)
class Lane:
    """What one worker has of its own."""

    channel: Channel
    tun_fd: int
    cores: CorePlan


class XdpPlane:
    """AF_XDP: of each worker a receive queue, a thread on it, and a thread on a queue of the TUN;
    next hops from the neighbour table. Peers are named over all workers: each has its range."""

    def __init__(
        self,
        stack: ExitStack,
        settings: Any,
        facts: nic.Nic,
        lanes: list[Lane],
        page: TelemetryPage,
    ) -> None:
        stack.enter_context(_reserve_port(settings.port))
        self._steering = stack.enter_context(
            Steering(settings.interface, settings.port, settings.xdp)
        )
        if self._steering.mode == "generic" and facts.driver == "veth":
            raise HostError(
                f"{settings.interface} is a veth that takes no native XDP, as when its other end"
                " sends by more queues than are left here, and generic XDP loses trains of frames:"
                " serve with --rx udp"
            )
        umem = stack.enter_context(Umem(XDP_BYTES * len(lanes)))
        self._neighbours = NeighbourWatch(facts.index)
        stack.callback(self._neighbours.close)
        self._endpoints: dict[int, tuple[int, str]] = {}  # peer -> generation, outer address
        self._places: dict[bytes, tuple[int, int]] = {}  # fingerprint -> peer, generation
        self._hubs: list[Hub] = []
        self._sockets: list[Socket] = []
        share = Share(len(lanes)) if len(lanes) > 1 else None
        first: Socket | None = None
        for worker, lane in enumerate(lanes):
            queue = (settings.single_queue or 0) + worker
            socket = stack.enter_context(self._socket(umem, settings.interface, queue, first))
            first = first or socket
            self._sockets.append(socket)
            own = replace(settings, worker_core=lane.cores.worker, tun_core=lane.cores.tun)
            self._hubs.append(
                Hub(own, socket, lane.channel, page, lane.tun_fd, facts.mac, worker, share)
            )
            stack.callback(self._hubs[-1].close)
        assert first
        copying = "zero-copy" if first.zero_copy else "copy"
        self.mode = f"{self._steering.mode} XDP, {copying}"
        if len(lanes) > 1:
            self.mode += f", {len(lanes)} workers"
        self.memory = "huge pages" if umem.huge else "normal pages"
        self.aead_backend = self._hubs[0].aead_backend
        why = self._steering.why_not_native
        self.notes = [f"native XDP was not had: {why}"] if why else []

    def _socket(self, umem: Umem, interface: str, queue: int, first: Socket | None) -> Socket:
        share = len(self._hubs) * XDP_BYTES
        generic = self._steering.mode == "generic"
        try:
            socket = Socket(
                umem,
                interface,
                queue,
                slots=XDP_RING_SLOTS,
                generic=generic,
                sharing=first,
                first_byte=share,
            )
        except OSError as error:
            raise HostError(f"no AF_XDP socket on {interface}: {error.strerror}") from error
        self._steering.register(queue, socket.fileno())
        return socket

    def start(self, service: Service, handle_events: Callable[[], None]) -> None:
        for hub in self._hubs:
            service.on_readable(hub.event_fd, handle_events)
        service.on_readable(self._steering, self._steering.follow_addresses)
        service.on_readable(self._neighbours, self._handle_neighbours)
        service.every(30.0, self._neighbours.refresh)
        for hub in self._hubs:
            service.start_thread("m13-worker", hub.run_worker)
            service.start_thread("m13-tun", hub.run_tun)

    def events(self) -> list[Event]:
        return [event for hub in self._hubs for event in hub.events()]

    def follow(self, event: Event) -> None:
        """The worker knows the MAC the peer's frames came from; the neighbour table knows best. A
        node that another worker had before is this one's now."""
        place = event.peer, event.generation
        before = self._places.get(event.fingerprint)
        if event.kind == MOVED and before != place:
            return  # of a session that another worker's has replaced meanwhile
        self.forget(event.peer)
        if event.endpoint_kind != L2:  # there its address is the MAC
            address = endpoint.host(event.endpoint_kind, event.address)
            self._endpoints[event.peer] = (event.generation, address)
            self._tell_worker(address, self._neighbours.watch(address).mac)
        self._places[event.fingerprint] = place
        if before and before[0] // PEERS_WORKER != event.peer // PEERS_WORKER:
            self.expel(*before)

    def forget(self, peer: int) -> None:
        _, address = self._endpoints.pop(peer, (0, ""))
        if address and all(other != address for _, other in self._endpoints.values()):
            self._neighbours.forget(address)

    def expel(self, peer: int, generation: int) -> bool:
        worker, slot = divmod(peer, PEERS_WORKER)
        return self._hubs[worker].expel(slot, generation)

    def renew(self, peer: int, generation: int, configure: bool = False) -> bool:
        worker, slot = divmod(peer, PEERS_WORKER)
        return self._hubs[worker].renew(slot, generation, configure)

    def _handle_neighbours(self) -> None:
        for neighbour in self._neighbours.handle():
            self._tell_worker(neighbour.ip, neighbour.mac)

    def _tell_worker(self, address: str, mac: bytes | None) -> None:
        if mac is None:
            return
        for peer, (generation, known) in self._endpoints.items():
            if known == address:
                worker, slot = divmod(peer, PEERS_WORKER)
                self._hubs[worker].set_next_hop(slot, generation, endpoint.pack(address), mac)

    def _say_statistics(self) -> None:
        """What the kernel counted on its side of our rings, which no counter of ours knows."""
        for worker, held in enumerate(self._sockets):
            with contextlib.suppress(OSError):  # the end goes on
                seen = [f"{what} {count}" for what, count in held.statistics().items() if count]
                log.info("AF_XDP of worker %d: %s", worker, ", ".join(seen) or "nothing lost")

    def end(self, service: Service) -> tuple[int, int]:
        for hub in self._hubs:
            hub.stop()
        service.join_threads()
        self._say_statistics()
        return sum(hub.settle() for hub in self._hubs), FRAMES * len(self._hubs)


class SocketPlane:
    """A UDP socket bound to the interface: one thread, the reactor that a node has too."""

    def __init__(
        self,
        stack: ExitStack,
        settings: Any,
        facts: nic.Nic,
        lanes: list[Lane],
        page: TelemetryPage,
    ) -> None:
        (lane,) = lanes
        udp = stack.enter_context(_served_socket(settings.interface, settings.port))
        arena = stack.enter_context(Umem(ARENA_BYTES))
        arena.populate()
        self._reactor = Reactor(
            replace(settings, worker_core=lane.cores.worker),
            arena,
            lane.channel,
            page,
            lane.tun_fd,
            udp.fileno(),
            facts.mac,
            family=udp.family,
            l2_fd=_l2_descriptor(stack, settings),
        )
        stack.callback(self._reactor.close)
        self.mode = "UDP and packet sockets" if settings.l2 else "UDP socket"
        self.memory = "huge pages" if arena.huge else "normal pages"
        self.aead_backend = self._reactor.aead_backend
        self.events = self._reactor.events
        self.notes: list[str] = []

    def start(self, service: Service, handle_events: Callable[[], None]) -> None:
        service.on_readable(self._reactor.event_fd, handle_events)
        service.start_thread("m13-reactor", self._reactor.run)

    def follow(self, event: Event) -> None:
        """The kernel knows the way."""

    def forget(self, slot: int) -> None:
        """Nothing is kept here."""

    def expel(self, slot: int, generation: int) -> bool:
        return self._reactor.expel(slot, generation)

    def renew(self, slot: int, generation: int, configure: bool = False) -> bool:
        return self._reactor.renew(slot, generation, configure)

    def end(self, service: Service) -> tuple[int, int]:
        self._reactor.stop()
        service.join_threads()
        return self._reactor.settle(), BUFFERS


def _bind(udp: socket.socket, port: int) -> None:
    try:
        udp.bind(("::" if udp.family == socket.AF_INET6 else "0.0.0.0", port))
    except OSError as error:
        raise UsageError(f"UDP port {port} cannot be had: {error.strerror}") from error


def _reserve_port(port: int) -> socket.socket:
    """Holds the UDP port in the kernel: nobody else gets it, and stray packets that steering
    passes are not answered with port-unreachable."""
    holder = udp_socket.open_serving()
    try:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 0)
        _bind(holder, port)
    except BaseException:
        holder.close()
        raise
    return holder


def _l2_descriptor(stack: ExitStack, settings: Any) -> int:
    if not settings.l2:
        return -1
    try:
        return stack.enter_context(packet_socket.open_bound(settings.interface)).fileno()
    except OSError as error:
        where = settings.interface
        raise HostError(f"no packet socket on {where}: {error.strerror}") from error


def _served_socket(interface: str, port: int) -> socket.socket:
    """Like steering, serves what comes by this interface only, at any of our addresses."""
    udp = udp_socket.open_serving()
    try:
        udp.setsockopt(socket.SOL_SOCKET, SO_BINDTODEVICE, interface.encode() + b"\0")
        udp_socket.tell_local_address(udp)
        udp_socket.prepare(udp)
        _bind(udp, port)
    except OSError as error:
        udp.close()
        raise HostError(f"no UDP socket on {interface}: {error.strerror}") from error
    except BaseException:
        udp.close()
        raise
    return udp
