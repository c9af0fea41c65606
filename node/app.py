"""A connected node: bring-up in order, the control loop, and teardown in reverse."""

import ipaddress
import logging
import os
import socket
import time
from collections.abc import Mapping
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from m13 import hexdump, identity, pqc, privileges
from m13.control import ControlSocket, socket_path
from m13.errors import M13Error, SessionError
from m13.handshake_process import HandshakeWorker, node_configuration
from m13.host import cpu, sysctl, tun
from m13.host.journal import Journal
from m13.host.routes import NextHop
from m13.host.underlay import UnderlayWatch
from m13.host.wakefulness import Wakefulness
from m13.identity import format_fingerprint
from m13.monitor import log_line
from m13.notify import READY, notify
from m13.service import Service, Stopped, check_tun
from m13.telemetry import TelemetryPage, TelemetryReader
from native import channel as reasons
from native import event as events
from native.channel import Channel
from native.event import Event
from native.reactor import ARENA_BYTES, Reactor
from native.umem import Umem
from node import known_hubs
from node.console import Console
from node.inner_ipv6 import InnerIpv6
from node.link import LinkWatch
from node.routes import NodeRoutes
from node.trust import Trust, pinned_keys
from node.underlay import hub_address, open_underlay, place

log = logging.getLogger("m13.node")
FIRST_SESSION_SECONDS = 30.0  # docs/PROTOCOL.md §4.3
SQPOLL_CORES_MIN = 4  # below, the kernel's polling thread takes a core from the reactor
TUN_MTU_BEFORE_CONFIG = 1400

REFUSALS = {
    reasons.MALFORMED: "malformed ServerHello",
    reasons.BAD_SIGNATURE: "the hub's signature does not verify",
    reasons.HUB_KEY_MISMATCH: "the hub's key is not the pinned one",
    reasons.HUB_KEY_UNKNOWN: "the hub's key is not known",
    reasons.VERSION_REFUSED: "handshake version not possible",
    reasons.NO_STATE: "handshake worker was restarted",
    reasons.INTERNAL: "internal error",
}
WRONG_KEY = (reasons.HUB_KEY_MISMATCH, reasons.HUB_KEY_UNKNOWN)


@dataclass(frozen=True)
class Settings:
    hub_host: str
    hub_port: int
    hub_l2: tuple[str, bytes] | None  # instead of those: interface and MAC
    tun_name: str
    identity: Path
    hub_key: str | None
    known_hubs: Path
    prefixes: tuple[str, ...] | None  # None: everything
    handshake_versions: tuple[int, ...]
    v1_profile: str
    echo: bool
    hexdump: bool
    aead: str
    pqc: str
    low_latency: str
    rekey_seconds: int
    rekey_frames: int
    sqpoll: bool | str
    worker_core: int = -1
    large_udp: bool = False
    mtu: int = TUN_MTU_BEFORE_CONFIG  # these two until the hub's CONFIG
    keepalive_ms: int = 1000


def wants_sqpoll(settings: Settings) -> bool:
    if settings.sqpoll == "auto":
        return len(os.sched_getaffinity(0)) >= SQPOLL_CORES_MIN
    return settings.sqpoll == "on"


def silence(counters: Mapping[str, int]) -> str:
    """What a hub that gave no session must have meant: it says nothing in the clear."""
    if counters["handshake_messages"]:
        return "it admits this node's key, but gives no session: perhaps it has all nodes it serves"
    if counters["echoes"]:
        return "it answers, but does not admit this node's key or its handshake version"
    return "it did not answer"


def connect(settings: Settings) -> None:
    """Until a signal. Raises M13Error; whatever was changed is put back in any case."""
    if note := privileges.guard_memory():
        log.warning("%s", note)
    provider = pqc.choose(settings.pqc)
    me = identity.load(settings.identity, provider)
    pins = pinned_keys(settings)
    tun.check_name(settings.tun_name)
    address = "" if settings.hub_l2 else hub_address(settings)
    settings = replace(settings, sqpoll=wants_sqpoll(settings))
    version = max(settings.handshake_versions)
    configuration = node_configuration(me, pins, version, settings.v1_profile, provider.name)
    with Service() as service, ExitStack() as stack:
        settings = replace(settings, worker_core=cpu.claim(stack, threads=1).worker)
        try:
            running = RunningNode(stack, service, settings, address, configuration)
            running.answer(stack, me.fingerprint)
            running.announce(me.fingerprint, provider.name)
            service.run()
        except Stopped:
            log.info("stopped while coming up")


class RunningNode:
    """Everything a node holds; the stack takes it down in reverse order of what is built here."""

    def __init__(
        self,
        stack: ExitStack,
        service: Service,
        settings: Settings,
        address: str,
        configuration: dict,
    ) -> None:
        self.service = service
        self.settings = settings
        self.address = address
        self.had_session = False
        self.tunnel: tuple[str, int, int, str] | None = None  # address, bits, MTU, IPv6 address
        self.last_refusal = ""
        self.previous: dict | None = None
        # first, because it comes up beside all that follows
        self.awake = stack.enter_context(Wakefulness(settings.low_latency))
        channel = stack.enter_context(Channel.create())
        self.worker = HandshakeWorker(channel, configuration)
        self.trust = Trust(settings, configuration["pins"], self.worker)
        stack.callback(self.worker.close)
        self.worker.launch()
        self.journal = stack.enter_context(Journal.open("node", settings.tun_name))
        self._say(*sysctl.raise_buffer_limits(self.journal))
        self.page = stack.enter_context(TelemetryPage.create("node", settings.tun_name))
        self.reader = stack.enter_context(TelemetryReader(self.page.path))
        service.checkpoint()
        self.device = stack.enter_context(
            tun.Tun(settings.tun_name, settings.mtu, flags=tun.IFF_VNET_HDR, blocking=False)
        )
        self._say(self.device.use_offloads())
        settings = replace(settings, large_udp=self.device.takes_large_udp)
        underlay = open_underlay(stack, settings, address)
        self.arena = stack.enter_context(Umem(ARENA_BYTES))
        self.routes = NodeRoutes(self.journal, address, self.device.ifindex, settings.prefixes)
        self.ipv6 = InnerIpv6(self.journal, self.device, self.routes, (address, settings.hub_port))
        stack.callback(self.ipv6.close)
        self.link = LinkWatch(self.routes, self._way_changed)
        stack.callback(self.link.close)
        self.routes.check()
        way = self.routes.pin()
        self.overhead_bytes = underlay.overhead_bytes
        needed = settings.mtu + self.overhead_bytes
        interface = way.interface if way else underlay.interface
        self.underlay = stack.enter_context(closing(UnderlayWatch(interface, needed)))
        service.checkpoint()
        self.node = Reactor(
            settings,
            self.arena,
            channel,
            self.page,
            self.device.fd,
            **underlay.reactor,
        )
        stack.callback(self.node.close)
        stack.callback(self._end_threads)
        self.worker.await_ready()
        self._listen()
        self.deadline = time.monotonic() + FIRST_SESSION_SECONDS
        privileges.refuse_administration()
        service.start_thread("m13-reactor", self.node.run)
        privileges.keep_for_service()

    def announce(self, fingerprint: str, provider: str) -> None:
        settings = self.settings
        mode = "io_uring, SQPOLL" if settings.sqpoll else "io_uring, deferred task work"
        for name, value in {
            "receive_mode": mode,
            "aead_backend": self.node.aead_backend,
            "pqc_provider": provider,
            "memory": "huge pages" if self.arena.huge else "normal pages",
        }.items():
            self.page.fields[name] = value
        log.info(
            "connecting to %s (%s), AEAD %s, PQC %s",
            self._hub(),
            mode,
            self.node.aead_backend,
            provider,
        )
        log.info("this node's key: %s", fingerprint)

    def answer(self, stack: ExitStack, fingerprint: str) -> None:
        """The control socket; last, so that whoever finds it finds a node that runs."""
        settings = self.settings
        self.console = Console(settings, self.address, fingerprint, self.trust, self.worker)
        inode = os.stat("/proc/self/ns/net").st_ino
        path = socket_path("node", settings.tun_name, inode)
        stack.enter_context(ControlSocket(self.service, path, self.console.commands()))

    def _say(self, *notes: str | None) -> None:
        for note in notes:
            if note:
                log.info("%s", note)

    # --- service ----------------------------------------------------------------------------

    def _listen(self) -> None:
        self.service.on_readable(self.node.event_fd, self._handle_events)
        self.service.on_readable(self.link, self.link.handle)
        self.service.on_readable(self.underlay, self.underlay.handle)
        self.service.on_hangup(self._reload)
        self.service.every(1.0, self._each_second)
        self.service.every(2.0, self._keep_what_is_ours)

    def _each_second(self) -> None:
        self.worker.poll()
        seen = self.reader.glance()
        log.info("%s", log_line(self.previous, seen))
        self.previous = seen
        counters = seen["counters"]
        self.awake.follow(counters["tun_read_packets"] + counters["tun_written_packets"])
        if not self.had_session and time.monotonic() > self.deadline:
            raise SessionError(
                f"no session with {self._hub()} within {FIRST_SESSION_SECONDS:.0f} s:"
                f" {self.last_refusal or silence(counters)}",
                "E_NO_SESSION",
            )

    def _keep_what_is_ours(self) -> None:
        """What others may take away while we run: the TUN cannot be had back, the guard can."""
        check_tun(self.device)
        self.ipv6.keep()

    def _reload(self) -> None:
        """For SIGHUP, whose sender reads the log."""
        with suppress(M13Error):
            self.trust.reload()

    def _handle_events(self) -> None:
        for event in self.node.events():
            self._handle_event(event)

    def _handle_event(self, event: Event) -> None:
        if event.kind == events.ESTABLISHED:
            self.trust.hub_key = format_fingerprint(event.fingerprint)
            self.console.note_session(event)
            what = "session renewed" if event.detail else "session up"
            log.info("%s with %s, v%d", what, self._hub(), event.handshake_version)
        elif event.kind == events.CONFIG:
            self._configure(event)
        elif event.kind == events.PATH:
            log.info("path to the hub carries %d bytes", event.frame_bytes)
        elif event.kind == events.LOST and event.detail == events.LOST_GOODBYE:
            self.console.note_loss()
            log.warning("hub %s ended the session; trying again, nothing leaves", self._hub())
        elif event.kind == events.LOST:
            self.console.note_loss()
            log.warning("E_PEER_TIMEOUT hub %s; trying again, nothing leaves", self._hub())
        elif event.kind == events.REFUSED:
            self._refused(event)
        elif event.kind == events.FRAME:
            for line in hexdump.describe(event):
                log.info("%s", line)

    def _hub(self) -> str:
        return place(self.settings, self.address)

    def _refused(self, event: Event) -> None:
        """A wrong key before the first session is for the operator; later we keep trying."""
        self.last_refusal = REFUSALS.get(event.detail, f"reason {event.detail}")
        log.warning("handshake failed: %s", self.last_refusal)
        if event.detail in WRONG_KEY and not self.had_session:
            settings = self.settings
            seen = format_fingerprint(event.fingerprint)
            advice = known_hubs.how_to_pin(
                settings.known_hubs, settings.hub_host, settings.hub_port, seen
            )
            raise SessionError(f"{self.last_refusal}: {advice}", "E_HUB_KEY")

    def _configure(self, event: Event) -> None:
        """The hub's CONFIG: the first one opens the tunnel, later ones adjust it."""
        address = str(ipaddress.IPv4Address(event.tunnel_address))
        self.device.set_mtu(event.mtu)
        self.device.replace_address(address, event.prefix_bits)
        self.page.fields["keepalive_ms"] = event.keepalive_ms
        is_first = not self.had_session
        if is_first:
            self._open_tunnel()
        address6 = self.ipv6.follow(event)
        tunnel = (address, event.prefix_bits, event.mtu, address6)
        if not self.tunnel:
            notify(READY)
        if tunnel != self.tunnel:
            and6 = f", IPv6 {address6}" if address6 else ""
            log.info("tunnel %s/%d, MTU %d%s", address, event.prefix_bits, event.mtu, and6)
        self.tunnel = tunnel
        self.underlay.need(event.mtu + self.overhead_bytes)
        self.console.note_config(event)
        if is_first:
            self.arena.populate()  # now, when nobody waits for this thread any more

    def _open_tunnel(self) -> None:
        self.had_session = True
        self.device.up()
        self._say(self.device.use_fair_queueing())
        self.routes.capture()

    def _way_changed(self, next_hop: NextHop) -> None:
        log.info("way to the hub now by %s", socket.if_indextoname(next_hop.interface))
        self.underlay.follow(next_hop.interface)

    def _end_threads(self) -> None:
        self.node.stop()
        self.service.join_threads()
