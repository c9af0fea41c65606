"""What limits this machine: the dearest step on a packet's way, and what may help.

The steps are measured one by one with warm caches, so their sum is the least a packet can cost on
one core, and the rate that follows from it is a ceiling, not a promise.
"""

from collections.abc import Mapping
from typing import NamedTuple

from m13.bench.figure import LARGE_BYTES, SMALL_BYTES, Figure
from m13.bench.machine import Machine
from m13.bench.tunnel import Findings
from native.aead import BACKENDS

TUN, COPY, AEAD, UDP, WAKEUP = "TUN", "memory", "AES-256-GCM", "UDP", "wake-up"
NEAR_WAKEUP_NS = 8_000  # above it something sleeps deeper than a processor of our own does
BUSY_CORES = 0.85  # of one: a thread that has no time left
IDLE_CORES = 0.15  # on average: no core has time left
WAKEUPS_OF_A_PING = 2  # of the node: for the request from its TUN, and for the reply from the hub


class Limit(NamedTuple):
    """One case, its dearest step, and the least a packet costs, in all and step by step."""

    case: str
    step: str
    ns: float
    bytes: int
    steps: tuple[tuple[str, float], ...]
    missing: tuple[str, ...]  # steps without a figure
    hint: str

    @property
    def share(self) -> float:
        return dict(self.steps)[self.step] / self.ns

    def as_json(self) -> dict[str, object]:
        return {
            **self._asdict(),
            "steps": dict(self.steps),
            "share": self.share,
            "per_second": 1e9 / self.ns,
            "gbit_per_second": self.bytes * 8 / self.ns if self.bytes else None,
        }


class Remark(NamedTuple):
    """A limit in words, and what may help."""

    case: str
    text: str
    hint: str


def _aead_keys(verb: str, size: int) -> tuple[str, ...]:
    return tuple(f"aead.{name}.{verb}.{size}" for name in BACKENDS)


# Case -> bytes of a packet, and its steps, each with the keys of figures, best known first.
CASES: dict[str, tuple[int, dict[str, tuple[str, ...]]]] = {
    "large packets, out": (
        LARGE_BYTES,
        {
            TUN: ("tun.read.large", "tun.read.1400"),
            COPY: ("copy.1400",),
            AEAD: _aead_keys("seal", LARGE_BYTES),
            UDP: ("udp.send.cut.1400", "udp.send.train.1400", "udp.send.single.1400"),
        },
    ),
    "large packets, in": (
        LARGE_BYTES,
        {
            UDP: ("udp.receive.train.1400", "udp.receive.single.1400"),
            AEAD: _aead_keys("open", LARGE_BYTES),
            TUN: ("tun.write.large", "tun.write.1400"),
        },
    ),
    "small packets, out": (
        SMALL_BYTES,
        {
            TUN: ("tun.read.64",),
            COPY: ("copy.64",),
            AEAD: _aead_keys("seal", SMALL_BYTES),
            UDP: ("udp.send.cut.64", "udp.send.train.64", "udp.send.single.64"),
        },
    ),
    "small packets, in": (
        SMALL_BYTES,
        {
            UDP: ("udp.receive.train.64", "udp.receive.single.64"),
            AEAD: _aead_keys("open", SMALL_BYTES),
            TUN: ("tun.write.64",),
        },
    ),
}


def judge(figures: Mapping[str, Figure], machine: Machine) -> list[Limit]:
    """A limit for every case that has at least two steps to compare, and one for latency."""
    limits = []
    for case, (size, wanted) in CASES.items():
        chosen = {step: _first(figures, keys) for step, keys in wanted.items()}
        found = {step: figure for step, figure in chosen.items() if figure is not None}
        if len(found) < 2:
            continue
        dearest = max(found.values(), key=lambda figure: figure.ns)
        step = next(step for step, figure in found.items() if figure is dearest)
        limits.append(
            Limit(
                case,
                step,
                sum(figure.ns for figure in found.values()),
                size,
                tuple((step, figure.ns) for step, figure in found.items()),
                tuple(step for step in wanted if step not in found),
                _throughput_hint(dearest.key, figures, machine),
            )
        )
    latency = _first(figures, ("wakeup.far", "wakeup.near"))
    if latency is not None:
        steps = ((WAKEUP, latency.ns),)
        hint = latency_hint(latency.ns, machine)
        limits.append(Limit("latency", WAKEUP, latency.ns, 0, steps, (), hint))
    return limits


def _first(figures: Mapping[str, Figure], keys: tuple[str, ...]) -> Figure | None:
    return next((figures[key] for key in keys if key in figures), None)


def _throughput_hint(key: str, figures: Mapping[str, Figure], machine: Machine) -> str:
    kind = key.split(".")[0]
    if kind == "aead":
        return _aead_hint(key.split(".")[1], machine)
    if kind == "tun":
        return _tun_hint(key, figures)
    if kind == "udp":
        return _udp_hint(key)
    return "memory is the limit: reserve huge pages (m13 doctor), close what else uses memory"


def _aead_hint(backend: str, machine: Machine) -> str:
    if machine.architecture in ("x86_64", "aarch64") and "aes" not in machine.aes:
        return "no AES instructions: use a processor that has them, or pass them on (-cpu host)"
    if machine.architecture == "x86_64" and backend == "libcrypto":
        return "libcrypto seals: with ipsec-mb it is faster (apt-get install libipsec-mb-dev; make)"
    if machine.architecture == "x86_64" and "vaes" not in machine.aes:
        return "this processor has no VAES, which seals several blocks at a time"
    return "encryption is the limit, as it should be: only a faster core helps"


def _tun_hint(key: str, figures: Mapping[str, Figure]) -> str:
    if key.endswith((".1400", ".large")) and "tun.read.large_udp" not in figures:
        return "no large UDP packets (USO): use Linux 6.2 or newer"
    if key.endswith(".64"):
        return "every packet is a system call of its own: a faster core, or larger packets"
    return "the kernel's TUN copies and allocates: a faster core or memory"


def _udp_hint(key: str) -> str:
    if ".single." in key:
        return "no UDP_SEGMENT or UDP_GRO, so every packet is a call: use a newer kernel"
    if ".cut." in key:
        return "the kernel cuts the datagrams: a NIC with tx-udp-segmentation does it itself"
    return "the kernel's UDP: a NIC that joins datagrams (ethtool -K IFACE rx-udp-gro-forwarding)"


def latency_hint(ns: float, machine: Machine) -> str:
    """What makes waking up slow here, the likeliest first."""
    if ns <= NEAR_WAKEUP_NS:
        return "wakes up fast: nothing to mend"
    cost = f"wake-ups cost {ns / 1000:.0f} µs"
    if machine.is_virtual and machine.idle_driver == "haltpoll" and machine.halt_poll_ns == 0:
        return (
            f"a virtual machine whose cores halt at once: {cost}; try echo 200000 >"
            " /sys/module/haltpoll/parameters/guest_halt_poll_ns"
        )
    if machine.is_virtual:
        return f"a virtual machine: {cost}; the haltpoll governor or idle=poll may help"
    if machine.governor not in (None, "performance"):
        return f"governor {machine.governor}: {cost}; cpupower frequency-set -g performance"
    if not machine.isolated_cores:
        return f"cores are shared: {cost}; isolcpus= and idle=poll may help (m13 doctor)"
    return f"cores sleep deeply: {cost}; processor.max_cstate=1 or idle=poll may help"


def remarks(limits: list[Limit], findings: Findings | None) -> list[Remark]:
    """One for each limit, then what the tunnel showed."""
    words = [Remark(limit.case, _describe(limit), limit.hint) for limit in limits]
    if findings and findings.ping:
        words.append(_tunnel_latency(findings, limits))
    if findings and findings.throughput and findings.load:
        words.append(_tunnel_throughput(findings))
    return words


def _describe(limit: Limit) -> str:
    if limit.step == WAKEUP:
        return f"a sleeping thread runs {limit.ns / 1000:.1f} µs after it was woken"
    rate = f"{limit.bytes * 8 / limit.ns:.1f} Gbit/s" if limit.bytes == LARGE_BYTES else ""
    rate = rate or f"{1e6 / limit.ns:.0f} kpackets/s"
    text = f"{limit.step}, {limit.share:.0%} of {limit.ns:.0f} ns a packet: at most {rate} a core"
    return text + (f" (without {', '.join(limit.missing)})" if limit.missing else "")


def _tunnel_latency(findings: Findings, limits: list[Limit]) -> Remark:
    ping, path = findings.ping, findings.path
    assert ping
    text = f"ping {ping.p50_us:.0f} µs (mean {ping.mean_us:.0f}, p99 {ping.p99_us:.0f})"
    if path is None:
        return Remark("tunnel, latency", text, "the other end answers no ping outside the tunnel")
    text += f", of which the way outside is {path.p50_us:.0f} µs"
    if path.p50_us > ping.p50_us / 2:
        return Remark("tunnel, latency", text, "the way there is the limit, not M13")
    wakeups = sum(limit.ns for limit in limits if limit.step == WAKEUP) * WAKEUPS_OF_A_PING / 1000
    return Remark("tunnel, latency", text, f"wake-ups here are about {wakeups:.0f} µs of it")


def _tunnel_throughput(findings: Findings) -> Remark:
    echo, load, role = findings.throughput, findings.load, findings.tunnel.role
    assert echo
    assert load
    text = f"{echo.gbit_per_second:.2f} Gbit/s each way in echoes of {echo.packet_bytes} B"
    text += f", {echo.lost:.1%} lost" if echo.received < echo.sent else ", none lost"
    used = f"m13-{role} used {load.cores_used:.0%} of a core"
    if load.cores_used >= BUSY_CORES:
        stages = load.cycles_per_packet
        dearest = max(stages, key=stages.__getitem__, default="none")
        return Remark("tunnel, load", text, f"{used}, most of it in '{dearest}': it is the limit")
    if load.cores_asking >= BUSY_CORES:
        return Remark("tunnel, load", text, "asking took a whole core: the tunnel may do more")
    if load.cores_idle <= IDLE_CORES:
        asking = f"asking {load.cores_asking:.0%}"
        return Remark("tunnel, load", text, f"{used}, {asking}, and no core was idle: use more")
    return Remark("tunnel, load", text, f"{used}: the way there or the other end is the limit")
