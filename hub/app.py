"""A serving hub: bring-up in order, the control loop, and teardown in reverse."""

import ipaddress
import logging
import os
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, replace
from ipaddress import ip_address
from pathlib import Path

from hub import admission, nat, prefixes, receive
from hub.console import Console
from hub.doorkeeper import Doorkeeper
from hub.node_routes import NodeRoutes
from hub.plane import XDP_BYTES, Lane, Plane, SocketPlane, XdpPlane
from hub.steering import own_addresses
from m13 import endpoint, hexdump, identity, pqc, privileges
from m13.control import ControlSocket, socket_path
from m13.errors import M13Error, UsageError
from m13.handshake_process import HandshakeWorker, hub_configuration
from m13.host import cpu, hugepages, irq, nic, sysctl, tun
from m13.host.firewall import FirewallWatch
from m13.host.journal import Journal
from m13.host.underlay import UnderlayWatch
from m13.host.wakefulness import Wakefulness
from m13.monitor import log_line
from m13.notify import READY, notify
from m13.service import Service, Stopped, check_tun
from m13.telemetry import TelemetryPage, TelemetryReader
from native import event as events
from native.channel import Channel
from native.endpoint import IPV4, IPV6, L2, overhead_bytes
from native.event import MTU_MIN, Event

log = logging.getLogger("m13.hub")
HUGE_PAGE_BYTES = 2 << 20
MTU_DEFAULT = 1400
LINK_MTU_MAX = 0xFFFF  # as far as an IP packet can fill it
IPV6_MTU_MIN = 1280  # RFC 8200 §5


@dataclass(frozen=True)
class Settings:
    interface: str
    tun_name: str
    subnet: ipaddress.IPv4Interface
    identity: Path
    nodes: Path
    port: int
    l2: bool
    single_queue: int | None
    mtu: int  # 0: as the interface leaves
    keepalive_ms: int
    rekey_seconds: int
    rekey_frames: int
    handshake_versions: tuple[int, ...]
    v1_profile: str
    rx: str
    xdp: str
    aead: str
    pqc: str
    low_latency: str
    feedback: bool
    hexdump: bool
    workers: int = 1
    worker_core: int = -1  # these two for each worker its own
    tun_core: int = -1
    large_udp: bool = False
    link_mtu: int = 1500  # of the interface
    registry: str | None = None
    subnet6: ipaddress.IPv6Interface | None = None
    routed6: bool = False
    relay: bool = False


def check_interface(settings: Settings) -> nic.Nic:
    facts = nic.inspect(settings.interface)
    if facts.is_loopback:
        raise UsageError(
            f"{settings.interface} is this machine's own loopback, where no node comes from: name"
            " the interface towards the nodes (ip -brief link)"
        )
    if not facts.is_up:
        raise UsageError(
            f"{settings.interface} is down; bring it up: ip link set {settings.interface} up"
        )
    if not facts.addresses and not settings.l2:
        raise UsageError(
            f"{settings.interface} has no IP address that nodes could come to: give it one, or"
            " serve its Ethernet with --l2"
        )
    if settings.single_queue is not None and settings.single_queue >= facts.rx_queues:
        raise UsageError(f"{settings.interface} has no receive queue {settings.single_queue}")
    check_workers(settings, facts)
    return facts


def check_workers(settings: Settings, facts: nic.Nic) -> None:
    if settings.workers == 1:
        return
    if settings.rx == "udp" or settings.single_queue is not None:
        other = "--rx udp" if settings.rx == "udp" else "--single-queue"
        raise UsageError(f"--workers {settings.workers} is for AF_XDP on every queue: not {other}")
    if settings.workers > facts.rx_queues:
        raise UsageError(
            f"{settings.interface} has {facts.rx_queues} receive queues, not enough for"
            f" --workers {settings.workers}"
        )


def underlay_kind(facts: nic.Nic) -> int:
    """Of those that the interface has, the one with the smallest headers above L2's."""
    has_ipv4 = any(":" not in address for address in facts.addresses)
    return IPV4 if has_ipv4 else IPV6 if facts.addresses else L2


def with_mtu(settings: Settings, facts: nic.Nic) -> Settings:
    """Unless told, no more than the smallest headers of the interface's addresses leave, or the
    least there is, which then crosses in pieces; a node that comes another way is told of less by
    CONFIG."""
    room = facts.mtu - overhead_bytes(underlay_kind(facts))
    if settings.mtu > room:
        raise UsageError(
            f"--mtu {settings.mtu} does not fit {settings.interface}, whose MTU"
            f" {facts.mtu} leaves {room}"
        )
    mtu = settings.mtu or max(MTU_MIN, min(MTU_DEFAULT, room))
    return replace(settings, mtu=mtu, link_mtu=min(facts.mtu, LINK_MTU_MAX))


def check_subnet(settings: Settings) -> None:
    """After the journal said that no hub of ours is here: its TUN would hold the address too."""
    subnet = settings.subnet.network
    taken = [a for a in own_addresses(settings.interface) if ip_address(a) in subnet]
    if taken:
        raise UsageError(f"--subnet {settings.subnet} holds {taken[0]}, an address of this machine")


def place6(settings: Settings, subnet6: str | None, fingerprint: str) -> Settings:
    """With the tunnel's IPv6 subnet: the one that was asked for, or the hub's own."""
    network = (
        prefixes.local_subnet6(fingerprint) if subnet6 is None else prefixes.parse_subnet6(subnet6)
    )
    interface = prefixes.hub_interface6(network, settings.subnet) if network else None
    if settings.routed6 and (subnet6 is None or not network):
        raise UsageError("--routed6 needs the routed prefix: --subnet6 PREFIX")
    return replace(settings, subnet6=interface)


def serve(settings: Settings, subnet6: str | None = None) -> None:
    """Until a signal. Raises M13Error; whatever was changed is put back in any case. `subnet6` is
    what --subnet6 says."""
    if note := privileges.guard_memory():
        log.warning("%s", note)
    provider = pqc.choose(settings.pqc)
    me = identity.load(settings.identity, provider)
    tun.check_name(settings.tun_name)
    settings = place6(settings, subnet6, me.fingerprint)
    with Service() as service, ExitStack() as stack:
        admitted = admission.begin(stack, settings, me)
        facts = check_interface(settings)
        settings = with_mtu(settings, facts)
        configuration = hub_configuration(
            me,
            [node.entry() for node in admitted.nodes.values()],
            settings.handshake_versions,
            settings.v1_profile,
            provider.name,
        )
        try:
            running = RunningHub(stack, service, settings, facts, configuration, admitted)
            running.answer(stack, me.fingerprint)
            running.announce(len(admitted.nodes), me.fingerprint, provider.name)
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
        admitted: admission.Admission,
    ) -> None:
        self.service = service
        self.admitted = admitted
        self.facts = facts
        self.previous: dict | None = None
        journal = stack.enter_context(Journal.open("hub", settings.tun_name))
        check_subnet(settings)
        self.rx, why = receive.choose(settings) if settings.workers == 1 else ("xdp", "")
        self._say(why)
        self.settings = settings
        cores = self._prepare_machine(stack, journal)
        self.page = stack.enter_context(TelemetryPage.create("hub", settings.tun_name))
        self.reader = stack.enter_context(TelemetryReader(self.page.path))
        self.awake = stack.enter_context(Wakefulness(settings.low_latency))
        channels = [stack.enter_context(Channel.create()) for _ in range(settings.workers)]
        self.handshakes = [
            stack.enter_context(HandshakeWorker(channel, configuration)) for channel in channels
        ]
        service.checkpoint()
        self.device = self._bring_up_tun(stack, journal)
        service.checkpoint()
        queues = [self.device.fd, *(self.device.add_queue() for _ in channels[1:])]
        lanes = [Lane(*parts) for parts in zip(channels, queues, cores, strict=True)]
        kind = XdpPlane if self.rx == "xdp" else SocketPlane
        self.plane: Plane = kind(stack, self.settings, facts, lanes, self.page)
        self.door = Doorkeeper(admitted, self.handshakes, self.plane)
        stack.callback(self._end_threads)
        privileges.refuse_administration()
        self._listen(stack)
        privileges.keep_for_service()

    # --- bring-up ---------------------------------------------------------------------------

    def _prepare_machine(self, stack: ExitStack, journal: Journal) -> list[cpu.CorePlan]:
        """Cores of each worker."""
        settings, workers = self.settings, self.settings.workers
        notes: list[str | None] = [*sysctl.raise_buffer_limits(journal)]
        if self.rx == "xdp":
            notes.append(hugepages.reserve(journal, workers * XDP_BYTES // HUGE_PAGE_BYTES).note)
        threads = 2 if self.rx == "xdp" else 1
        cores = [cpu.claim(stack, threads) for _ in range(workers)]
        if cores[0].isolated:
            moved, unmovable = irq.move_off(journal, cores[0].isolated)
            log.info("%d interrupts moved off the isolated cores, %d stay", moved, unmovable)
        if self.rx == "xdp" and settings.single_queue is None:
            notes += nic.prepare(journal, settings.interface, workers)
        self._say(*notes, *dict.fromkeys(plan.note for plan in cores))
        self.service.checkpoint()
        return cores

    def _bring_up_tun(self, stack: ExitStack, journal: Journal) -> tun.Tun:
        settings = self.settings
        flags = tun.IFF_VNET_HDR | (tun.IFF_MULTI_QUEUE if settings.workers > 1 else 0)
        device = stack.enter_context(
            tun.Tun(settings.tun_name, settings.mtu, flags=flags, blocking=False)
        )
        self._say(device.use_offloads())
        settings = self.settings = replace(settings, large_udp=device.takes_large_udp)
        if settings.subnet6 and (settings.mtu < IPV6_MTU_MIN or not device.allow_ipv6()):
            self._say("no IPv6 in the tunnel: this machine has none, or --mtu is below 1280")
            settings = self.settings = replace(settings, subnet6=None)
        device.add_address(str(settings.subnet.ip), settings.subnet.network.prefixlen)
        device.up()
        self._say(device.use_fair_queueing())
        if settings.subnet6:
            device.add_address(str(settings.subnet6.ip), settings.subnet6.network.prefixlen)
        self.firewall = stack.enter_context(closing(FirewallWatch()))
        nat.enable(journal, settings.tun_name, self.subnets)
        self.routes = NodeRoutes(journal, device.ifindex, settings.subnet6)
        self.routes.follow(self.admitted.nodes.values())
        return device

    def answer(self, stack: ExitStack, fingerprint: str) -> None:
        """The control socket; last, so that whoever finds it finds a hub that serves."""
        console = Console(self.settings, fingerprint, self.door, self.handshakes)
        inode = os.stat("/proc/self/ns/net").st_ino
        path = socket_path("hub", self.settings.tun_name, inode)
        stack.enter_context(ControlSocket(self.service, path, console.commands()))

    @property
    def subnets(self) -> nat.Subnets:
        subnet, subnet6 = self.settings.subnet, self.settings.subnet6
        return nat.Subnets(
            subnet.network, subnet6.network if subnet6 else None, self.settings.routed6
        )

    def _say(self, *notes: str | None) -> None:
        for note in notes:
            if note:
                log.info("%s", note)

    def announce(self, admitted: int, fingerprint: str, provider: str) -> None:
        settings = self.settings
        plane = self.plane
        self._say(*plane.notes)
        fields: dict[str, int | str] = {
            "interface_name": settings.interface,
            "receive_mode": plane.mode,
            "aead_backend": plane.aead_backend,
            "pqc_provider": provider,
            "memory": plane.memory,
            "keepalive_ms": settings.keepalive_ms,
        }
        for name, value in fields.items():
            self.page.fields[name] = value
        log.info(
            "ready: %s port %d (%s), %s%s on %s, %d nodes admitted, AEAD %s, PQC %s, %s",
            settings.interface,
            settings.port,
            plane.mode,
            settings.subnet,
            f" and {settings.subnet6}" if settings.subnet6 else "",
            settings.tun_name,
            admitted,
            plane.aead_backend,
            provider,
            plane.memory,
        )
        log.info("this hub's key: %s", fingerprint)
        notify(READY)

    # --- service ----------------------------------------------------------------------------

    def _listen(self, stack: ExitStack) -> None:
        if watch := self.admitted.follow(stack):
            self.service.on_readable(watch, self.door.follow_registry)
        self.service.on_hangup(self._reload)
        needed = self.settings.mtu + overhead_bytes(underlay_kind(self.facts))
        underlay = stack.enter_context(closing(UnderlayWatch(self.facts.index, needed)))
        self.service.on_readable(underlay, underlay.handle)
        self.service.every(1.0, self._each_second)
        self.service.every(2.0, self._keep_what_is_ours)
        self.plane.start(self.service, self._handle_events)

    def _each_second(self) -> None:
        for handshakes in self.handshakes:
            handshakes.poll()
        seen = self.reader.glance()
        log.info("%s", log_line(self.previous, seen))
        self.previous = seen
        counters = seen["counters"]
        self.awake.follow(counters["tun_read_packets"] + counters["tun_written_packets"])
        self.door.keep(self.reader.sessions())

    def _keep_what_is_ours(self) -> None:
        """What others may take away while we run: the TUN cannot be had back, the table can."""
        check_tun(self.device)
        self.routes.follow(self.admitted.nodes.values(), serving=True)
        changed = self.firewall.changed()
        if changed and nat.keep(self.settings.tun_name, self.subnets):
            log.warning("masquerading was gone from the firewall and is back")

    def _reload(self) -> None:
        """For SIGHUP, whose sender reads the log."""
        with suppress(M13Error):
            self.door.reload(self.settings)

    def _handle_events(self) -> None:
        for event in self.plane.events():
            self._handle_event(event)

    def _handle_event(self, event: Event) -> None:
        place = endpoint.place(event.endpoint_kind, event.address, event.port)
        inner = ipaddress.IPv4Address(event.tunnel_address)
        if event.kind == events.ESTABLISHED:
            what = "session renewed" if event.detail else "session up"
            version = event.handshake_version
            log.info("%s: %s (%s) from %s, v%d", what, event.name, inner, place, version)
            self.plane.follow(event)
            if not self.admitted.note_session(event):
                self.plane.expel(event.peer, event.generation)
        elif event.kind == events.MOVED:
            log.info("%s (%s) moved to %s", event.name, inner, place)
            self.plane.follow(event)
        elif event.kind == events.PATH:
            log.info("path to %s (%s) carries %d bytes", event.name, inner, event.frame_bytes)
        elif event.kind == events.LOST:
            self._say_lost(event, f"{event.name} ({inner})", place)
            self.admitted.forget_session(event)
            self.plane.forget(event.peer)
        elif event.kind == events.REFUSED:
            self.door.refuse(event)
        elif event.kind == events.FRAME:
            for line in hexdump.describe(event):
                log.info("%s", line)

    def _say_lost(self, event: Event, who: str, place: str) -> None:
        if event.detail == events.LOST_GOODBYE:
            log.info("%s at %s said goodbye", who, place)
            return
        expelled = event.detail == events.LOST_EXPELLED
        why = "E_PEER_EXPELLED" if expelled else "E_PEER_TIMEOUT"
        log.warning("%s %s last at %s", why, who, place)

    # --- end --------------------------------------------------------------------------------

    def _end_threads(self) -> None:
        missing, total = self.plane.end(self.service)
        report = log.error if missing else log.info
        report("frames: %d of %d accounted for", total - missing, total)
