"""Measuring through the tunnel that runs here: found by its telemetry, asked by echoes."""

import ipaddress
import os
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

from m13.bench import ping as echoes
from m13.bench.figure import Figure, Omission
from m13.bench.machine import Usage
from m13.bench.ping import RoundTrips, Throughput
from m13.errors import HostError
from m13.host import link
from m13.telemetry import DIRECTORY, TelemetryReader
from m13.telemetry_layout import Snapshot

UNITS = 2 + 1 + 4
ESTABLISHED = "Established"
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Tunnel:
    """Where to measure: who runs here, whom it talks to, and the two ways there."""

    role: str
    pid: int
    device: str
    mtu: int
    target: str  # the other end's address in the tunnel
    outer: str  # its address outside


@dataclass(frozen=True)
class Load:
    """What carrying the echoes cost the program that carries the tunnel."""

    cores_used: float
    cores_asking: float  # by us
    cores_idle: float  # by nobody
    cycles_per_packet: dict[str, float]  # by stage
    drops: dict[str, int]  # by reason, while it lasted


@dataclass(frozen=True)
class Findings:
    tunnel: Tunnel
    ping: RoundTrips | None = None
    path: RoundTrips | None = None  # outside the tunnel
    throughput: Throughput | None = None
    load: Load | None = None

    def as_json(self) -> dict[str, object]:
        return asdict(self)

    def figures(self) -> Iterator[Figure]:
        for key, label, found in (
            ("tunnel.ping", f"ping {self.tunnel.target}", self.ping),
            ("tunnel.path", f"ping {self.tunnel.outer}, outside", self.path),
        ):
            if found:
                yield Figure(key, "tunnel", label, found.p50_us * 1e3, 0, found.p99_us * 1e3)
        if self.throughput and self.throughput.received:
            size = self.throughput.packet_bytes
            label = f"echo of {size} B, each way"
            ns = 1e9 / self.throughput.packets_per_second
            yield Figure("tunnel.echo", "tunnel", label, ns, size)


def find(wanted: list[str] | None) -> Tunnel | Omission:
    """The tunnel of this network namespace, a node's before a hub's; with `wanted` only a node's
    that has a session with one of these HOST:PORT."""
    elsewhere: list[str] = []
    is_hidden = False
    for role in ("node", "hub") if wanted is None else ("node",):
        for path in sorted(DIRECTORY.glob(f"m13.{role}.*.*")):
            with ExitStack() as stack:
                try:
                    reader = stack.enter_context(TelemetryReader(path))
                except (HostError, OSError):  # not ours to read, gone, or of another build
                    is_hidden |= path.exists() and not os.access(path, os.R_OK)
                    continue
                if path.lstat().st_uid not in (0, os.geteuid()) or not reader.is_alive():
                    continue
                snapshot = reader.snapshot()
                peer = _busiest_peer(snapshot, wanted)
                if peer is None:
                    continue
                if path.suffix == f".{_namespace()}":
                    return _describe(snapshot, peer)
                elsewhere.append(f"nsenter --net=/proc/{reader.pid}/ns/net m13 bench")
    if is_hidden and not elsewhere:
        return Omission("tunnel", "what runs here shows itself to root only", "sudo m13 bench")
    return _nothing(wanted, elsewhere)


def _busiest_peer(snapshot: Snapshot, wanted: list[str] | None) -> Snapshot | None:
    """Of those with a session, and with one of the wanted endpoints if any are."""
    peers = [
        peer
        for peer in snapshot["peers"]
        if peer["state"] == ESTABLISHED and (wanted is None or peer["endpoint"] in wanted)
    ]
    return max(peers, key=lambda p: p["received_packets"] + p["sent_packets"], default=None)


def _describe(snapshot: Snapshot, peer: Snapshot) -> Tunnel:
    own, mtu = _device(snapshot["tun"])
    target = peer["tunnel_address"] if snapshot["role"] == "hub" else _first_other_host(own)
    outer = peer["endpoint"].rpartition(":")[0]
    return Tunnel(snapshot["role"], snapshot["pid"], snapshot["tun"], mtu, target, outer)


def _first_other_host(own: ipaddress.IPv4Interface) -> str:
    """A hub has the first address of its subnet, unless its --subnet says otherwise; the page does
    not tell."""
    return str(next(host for host in own.network.hosts() if host != own.ip))


def _device(name: str) -> tuple[ipaddress.IPv4Interface, int]:
    device = link.find_name(name)
    addresses = [
        ipaddress.IPv4Interface(f"{own.address}/{own.prefix_bits}")
        for own in link.addresses(device.index, socket.AF_INET)
    ]
    if not addresses:
        raise HostError(f"{name} has no address yet: wait until the tunnel is up")
    return addresses[0], device.mtu


def _nothing(wanted: list[str] | None, elsewhere: list[str]) -> Omission:
    place = wanted[0] if wanted else "HOST:443"
    start = f"m13-node --hub {place} --tunnel --no-routes --hub-key SHA256:..., then again"
    if elsewhere:
        return Omission("tunnel", "one runs in another network namespace only", elsewhere[0])
    if wanted:
        return Omission("tunnel", f"no m13-node here has a session with {place}", start)
    return Omission("tunnel", "no m13-node or m13-hub with a session runs here", start)


def measure(tunnel: Tunnel, unit_s: float) -> Iterator[Findings | Omission]:
    """What is known so far, after each measurement; the last one is complete."""
    ping = echoes.round_trips(tunnel.target, 2 * unit_s)
    if ping is None:
        why = f"{tunnel.target} does not answer pings"
        yield Omission("tunnel", why, "let the other end's firewall pass ICMP echo from the tunnel")
        return
    yield Findings(tunnel, ping)
    path = echoes.round_trips(tunnel.outer, unit_s)
    yield Findings(tunnel, ping, path)
    with TelemetryReader.open(tunnel.role, tunnel.device) as reader:
        before, begun = reader.snapshot(), time.monotonic()
        busy_s, asking_s, idle_s = _busy_s(tunnel.pid), time.process_time(), Usage.now().idle_s
        throughput = echoes.throughput(tunnel.target, tunnel.mtu, ping.p50_us / 1e6, 4 * unit_s)
        seconds = time.monotonic() - begun
        load = Load(
            (_busy_s(tunnel.pid) - busy_s) / seconds,
            (time.process_time() - asking_s) / seconds,
            (Usage.now().idle_s - idle_s) / seconds,
            *_stages_and_drops(before, reader.snapshot()),
        )
    yield Findings(tunnel, ping, path, throughput, load)


def _stages_and_drops(before: Snapshot, after: Snapshot) -> tuple[dict[str, float], dict[str, int]]:
    stages = {}
    for name, stage in after["stages"].items():
        packets = stage["packets"] - before["stages"][name]["packets"]
        if packets:
            cycles = stage["cycles"] - before["stages"][name]["cycles"]
            stages[name] = round(cycles / packets, 1)
    drops = {name: count - before["drops"][name] for name, count in after["drops"].items()}
    return stages, {name: count for name, count in drops.items() if count}


def _busy_s(pid: int) -> float:
    """Processor time of a process, all its threads, so far."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    except OSError as error:
        raise HostError(f"pid {pid} ended meanwhile") from error
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S


def _namespace() -> int:
    return os.stat("/proc/self/ns/net").st_ino
