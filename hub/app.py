"""A serving hub: bring-up in order, the control loop, and teardown in reverse."""

import ipaddress
import logging
import math
import socket
import time
from contextlib import ExitStack
from dataclasses import dataclass, replace
from ipaddress import ip_address
from pathlib import Path

from hub import nat, roster
from hub.steering import Steering, own_addresses
from m13 import hexdump, identity, pqc
from m13.errors import HostError, UsageError
from m13.handshake_process import HandshakeWorker, hub_configuration
from m13.host import cpu, hugepages, irq, nic, sysctl, tun
from m13.host.journal import Journal
from m13.host.neighbour import NeighbourWatch
from m13.identity import format_fingerprint
from m13.monitor import log_line
from m13.service import Service, Stopped, check_tun
from m13.telemetry import TelemetryPage, TelemetryReader
from native import event as events
from native.channel import Channel
from native.event import Event
from native.hub import FRAMES, UMEM_BYTES, XDP_RING_SLOTS, Hub
from native.umem import Umem
from native.xdp import Socket

log = logging.getLogger("m13.hub")
HUGE_PAGE_BYTES = 2 << 20
REFUSAL_SECONDS = 60.0
REFUSALS_KEPT = 1024

REFUSALS = {
    1: "malformed message",
    2: "not in the list of nodes",
    3: "signature does not verify",
    6: "handshake version not accepted",
    7: "handshake worker was restarted",
    8: "internal error",
}


@dataclass(frozen=True)
class Settings:
    interface: str
    tun_name: str
    subnet: ipaddress.IPv4Interface
    identity: Path
    nodes: Path
    port: int
    single_queue: int | None
    mtu: int
    keepalive_ms: int
    handshake_versions: tuple[int, ...]
    v1_profile: str
    xdp: str
    aead: str
    pqc: str
    hexdump: bool
    worker_core: int = -1
    tun_core: int = -1
    large_udp: bool = False
    rekey_seconds: int = 3660  # nodes ask by themselves at 3600


def reserve_port(port: int) -> socket.socket:
    """Holds the UDP port in the kernel: nobody else gets it, and stray packets that steering
    passes are not answered with port-unreachable."""
    holder = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
    try:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 0)
        holder.bind(("0.0.0.0", port))
    except OSError as error:
        holder.close()
        raise UsageError(f"UDP port {port} cannot be had: {error.strerror}") from error
    return holder


def check_interface(settings: Settings) -> nic.Nic:
    facts = nic.inspect(settings.interface)
    if not facts.is_up:
        raise UsageError(
            f"{settings.interface} is down; bring it up: ip link set {settings.interface} up"
        )
    if not facts.addresses:
        raise UsageError(f"{settings.interface} has no IPv4 address that nodes could come to")
    if settings.single_queue is not None and settings.single_queue >= facts.rx_queues:
        raise UsageError(f"{settings.interface} has no receive queue {settings.single_queue}")
    if facts.mtu < settings.mtu + 90:
        raise UsageError(
            f"--mtu {settings.mtu} does not fit {settings.interface}, whose MTU {facts.mtu} leaves"
            f" {facts.mtu - 90}"
        )
    return facts


def check_subnet(settings: Settings) -> None:
    """After the journal said that no hub of ours is here: its TUN would hold the address too."""
    subnet = settings.subnet.network
    taken = [a for a in own_addresses(settings.interface) if ip_address(a) in subnet]
    if taken:
        raise UsageError(f"--subnet {settings.subnet} holds {taken[0]}, an address of this machine")


def serve(settings: Settings) -> None:
    """Until a signal. Raises M13Error; whatever was changed is put back in any case."""
    provider = pqc.choose(settings.pqc)
    me = identity.load(settings.identity, provider)
    nodes = roster.load(settings.nodes, settings.subnet)
    tun.check_name(settings.tun_name)
    facts = check_interface(settings)
    with Service() as service, ExitStack() as stack:
        configuration = hub_configuration(
            me,
            [node.entry() for node in nodes],
            settings.handshake_versions,
            settings.v1_profile,
            provider.name,
        )
        try:
            running = RunningHub(stack, service, settings, facts, configuration)
            running.announce(len(nodes), me.fingerprint, provider.name)
            service.run()
        except Stopped:
            log.info("stopped while coming up")


class RunningHub:
    """Everything a hub holds; the stack takes it down in reverse order of what is built here."""

    def __init__(
        self,
        stack: ExitStack,
        service: Service,
        settings: Settings,
        facts: nic.Nic,
        configuration: dict,
    ) -> None:
        self.service = service
        self.facts = facts
        self.endpoints: dict[int, tuple[int, str]] = {}  # slot -> generation, outer address
        self.previous: dict | None = None
        self.refusals: dict[tuple[bytes, bytes, int], tuple[float, int]] = {}
        journal = stack.enter_context(Journal.open("hub", settings.tun_name))
        check_subnet(settings)
        stack.enter_context(reserve_port(settings.port))
        self.settings = settings = self._prepare_machine(journal, settings)
        self.page = stack.enter_context(TelemetryPage.create("hub", settings.tun_name))
        self.reader = stack.enter_context(TelemetryReader(self.page.path))
        channel = stack.enter_context(Channel.create())
        self.worker = stack.enter_context(HandshakeWorker(channel, configuration))
        service.checkpoint()
        self.device = device = self._bring_up_tun(stack, journal)
        service.checkpoint()
        self.socket = self._bring_up_xdp(stack)
        service.checkpoint()
        self.neighbours = NeighbourWatch(facts.index)
        stack.callback(self.neighbours.close)
        self.hub = Hub(
            self.settings,
            self.socket,
            channel,
            self.page,
            device.fd,
            facts.mac,
            settings.subnet.ip.packed,
        )
        stack.callback(self.hub.close)
        stack.callback(self._end_threads)
        self._listen()
        service.start_thread("m13-worker", self.hub.run_worker)
        service.start_thread("m13-tun", self.hub.run_tun)

    # --- bring-up ---------------------------------------------------------------------------

    def _prepare_machine(self, journal: Journal, settings: Settings) -> Settings:
        notes = sysctl.raise_buffer_limits(journal)
        reservation = hugepages.reserve(journal, UMEM_BYTES // HUGE_PAGE_BYTES)
        cores = cpu.plan()
        if cores.isolated:
            moved, unmovable = irq.move_off(journal, cores.isolated)
            log.info("%d interrupts moved off the isolated cores, %d stay", moved, unmovable)
        if settings.single_queue is None:
            notes += nic.prepare(journal, settings.interface)
        self._say(*notes, reservation.note, cores.note)
        self.service.checkpoint()
        return replace(settings, worker_core=cores.worker, tun_core=cores.tun)

    def _bring_up_tun(self, stack: ExitStack, journal: Journal) -> tun.Tun:
        settings = self.settings
        device = stack.enter_context(
            tun.Tun(settings.tun_name, settings.mtu, flags=tun.IFF_VNET_HDR, blocking=False)
        )
        self._say(device.use_offloads())
        self.settings = replace(settings, large_udp=device.takes_large_udp)
        device.add_address(str(settings.subnet.ip), settings.subnet.network.prefixlen)
        device.up()
        self._say(device.use_fair_queueing())
        nat.enable(journal, settings.tun_name, settings.subnet.network)
        return device

    def _bring_up_xdp(self, stack: ExitStack) -> Socket:
        settings = self.settings
        queue = settings.single_queue or 0
        self.steering = Steering(settings.interface, settings.port, settings.xdp)
        stack.enter_context(self.steering)
        umem = stack.enter_context(Umem(UMEM_BYTES))
        try:
            xsk = Socket(
                umem,
                settings.interface,
                queue,
                slots=XDP_RING_SLOTS,
                generic=self.steering.mode == "generic",
            )
        except OSError as error:
            raise HostError(
                f"no AF_XDP socket on {settings.interface}: {error.strerror}"
            ) from error
        stack.enter_context(xsk)
        self.steering.register(queue, xsk.fileno())
        return xsk

    def _say(self, *notes: str | None) -> None:
        for note in notes:
            if note:
                log.info("%s", note)

    def announce(self, admitted: int, fingerprint: str, provider: str) -> None:
        settings = self.settings
        copying = "zero-copy" if self.socket.zero_copy else "copy"
        mode = f"{self.steering.mode} XDP, {copying}"
        memory = "huge pages" if self.socket.umem.huge else "normal pages"
        if self.steering.why_not_native:
            log.info("native XDP was not had: %s", self.steering.why_not_native)
        fields: dict[str, int | str] = {
            "interface_name": settings.interface,
            "receive_mode": mode,
            "aead_backend": self.hub.aead_backend,
            "pqc_provider": provider,
            "memory": memory,
            "keepalive_ms": settings.keepalive_ms,
        }
        for name, value in fields.items():
            self.page.fields[name] = value
        log.info(
            "ready: %s port %d (%s), %s on %s, %d nodes admitted, AEAD %s, PQC %s, %s",
            settings.interface,
            settings.port,
            mode,
            settings.subnet,
            settings.tun_name,
            admitted,
            self.hub.aead_backend,
            provider,
            memory,
        )
        log.info("this hub's key: %s", fingerprint)

    # --- service ----------------------------------------------------------------------------

    def _listen(self) -> None:
        service = self.service
        service.on_readable(self.hub.event_fd, self._handle_events)
        service.on_readable(self.steering, self.steering.follow_addresses)
        service.on_readable(self.neighbours, self._handle_neighbours)
        service.every(1.0, self._each_second)
        service.every(2.0, self._keep_what_is_ours)
        service.every(30.0, self.neighbours.refresh)

    def _each_second(self) -> None:
        self.worker.poll()
        snapshot = self.reader.snapshot()
        log.info("%s", log_line(self.previous, snapshot))
        self.previous = snapshot

    def _keep_what_is_ours(self) -> None:
        """What others may take away while we run: the TUN cannot be had back, the table can."""
        check_tun(self.device)
        if nat.keep(self.settings.tun_name, self.settings.subnet.network):
            log.warning("masquerading was gone from the firewall and is back")

    def _handle_events(self) -> None:
        for event in self.hub.events():
            self._handle_event(event)

    def _handle_event(self, event: Event) -> None:
        place = f"{ipaddress.IPv4Address(event.address)}:{event.port}"
        inner = ipaddress.IPv4Address(event.tunnel_address)
        if event.kind == events.ESTABLISHED:
            what = "session renewed" if event.detail else "session up"
            version = event.handshake_version
            log.info("%s: %s (%s) from %s, v%d", what, event.name, inner, place, version)
            self._follow(event)
        elif event.kind == events.MOVED:
            log.info("%s (%s) moved to %s", event.name, inner, place)
            self._follow(event)
        elif event.kind == events.LOST:
            log.warning("E_PEER_TIMEOUT %s (%s) last at %s", event.name, inner, place)
            self._forget(event.peer)
        elif event.kind == events.REFUSED:
            self._say_refused(event)
        elif event.kind == events.FRAME:
            for line in hexdump.describe(event):
                log.info("%s", line)

    def _say_refused(self, event: Event) -> None:
        """A node that is not admitted asks for ever: each is told of once a minute."""
        now = time.monotonic()
        who = (event.address, event.fingerprint, event.detail)
        said, unsaid = self.refusals.get(who, (-math.inf, 0))
        if now - said < REFUSAL_SECONDS:
            self.refusals[who] = (said, unsaid + 1)
            return
        if len(self.refusals) >= REFUSALS_KEPT:
            self.refusals.clear()
        self.refusals[who] = (now, 0)
        reason = REFUSALS.get(event.detail, f"reason {event.detail}")
        known = any(event.fingerprint)
        key = f", key {format_fingerprint(event.fingerprint)}" if known else ""
        more = f" ({unsaid} more since)" if unsaid else ""
        address = ipaddress.IPv4Address(event.address)
        log.warning("handshake from %s refused: %s%s%s", address, reason, key, more)

    # --- next hops of the peers' endpoints --------------------------------------------------

    def _follow(self, event: Event) -> None:
        """The worker knows the MAC the peer's frames came from; the neighbour table knows best."""
        self._forget(event.peer)
        address = str(ipaddress.IPv4Address(event.address))
        self.endpoints[event.peer] = (event.generation, address)
        self._tell_worker(address, self.neighbours.watch(address).mac)

    def _forget(self, slot: int) -> None:
        _, address = self.endpoints.pop(slot, (0, ""))
        if address and all(other != address for _, other in self.endpoints.values()):
            self.neighbours.forget(address)

    def _handle_neighbours(self) -> None:
        for neighbour in self.neighbours.handle():
            self._tell_worker(neighbour.ip, neighbour.mac)

    def _tell_worker(self, address: str, mac: bytes | None) -> None:
        if mac is None:
            return
        for slot, (generation, endpoint) in self.endpoints.items():
            if endpoint == address:
                packed = ipaddress.IPv4Address(address).packed
                self.hub.set_next_hop(slot, generation, packed, mac)

    # --- end --------------------------------------------------------------------------------

    def _end_threads(self) -> None:
        self.hub.stop()
        self.service.join_threads()
        missing = self.hub.settle()
        report = log.error if missing else log.info
        report("frames: %d of %d accounted for", FRAMES - missing, FRAMES)
