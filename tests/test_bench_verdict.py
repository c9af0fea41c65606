"""The verdict of `m13 bench`: which step limits and what is advised, machine by machine."""

from dataclasses import replace

import pytest

from m13.bench.figure import Figure
from m13.bench.machine import Machine, Usage
from m13.bench.ping import RoundTrips, Throughput
from m13.bench.tunnel import Findings, Load, Tunnel
from m13.bench.verdict import AEAD, COPY, TUN, UDP, Limit, judge, latency_hint, remarks
from native.aead import BACKENDS

MACHINE = Machine(
    processor="a processor",
    architecture="x86_64",
    cores=4,
    isolated_cores=(),
    kernel="6.12.0",
    is_virtual=False,
    governor="performance",
    idle_driver="intel_idle",
    halt_poll_ns=None,
    aes=("aes", "pclmulqdq", "avx2", "vaes"),
    io_uring="rings",
    is_io_uring_usable=True,
)
BEST = BACKENDS[0]
WHOLE = {
    "tun.read.large": 40,
    "tun.read.large_udp": 41,
    "tun.read.64": 400,
    "tun.write.large": 60,
    "tun.write.64": 1200,
    "copy.1400": 90,
    "copy.64": 9,
    f"aead.{BEST}.seal.1400": 95,
    f"aead.{BEST}.open.1400": 80,
    f"aead.{BEST}.seal.64": 33,
    f"aead.{BEST}.open.64": 23,
    "udp.send.cut.1400": 370,
    "udp.send.cut.64": 330,
    "udp.receive.train.1400": 36,
    "udp.receive.train.64": 9,
    "wakeup.near": 3_000,
    "wakeup.far": 22_000,
}


def figures(**changes: float | None) -> dict[str, Figure]:
    """WHOLE, with changes; None takes one away. Keys as keywords: dots are written __."""
    times = {**WHOLE, **{key.replace("__", "."): ns for key, ns in changes.items()}}
    return {key: Figure(key, "", "", ns) for key, ns in times.items() if ns is not None}


def limit_of(case: str, found: dict[str, Figure], machine: Machine = MACHINE) -> Limit:
    return {limit.case: limit for limit in judge(found, machine)}[case]


@pytest.mark.parametrize(
    ("case", "changes", "step", "ns", "missing"),
    [
        ("large packets, out", {}, UDP, 595, ()),
        ("large packets, out", {"copy__1400": 900}, COPY, 1405, ()),
        ("large packets, out", {"tun__read__large": 800}, TUN, 1355, ()),
        # without large packets, single ones are what the TUN gives
        ("large packets, out", {"tun__read__large": None, "tun__read__1400": 410}, TUN, 965, ()),
        ("large packets, out", {"tun__read__large": None}, UDP, 555, (TUN,)),
        ("large packets, out", {"udp__send__cut__1400": None}, AEAD, 225, (UDP,)),
        ("large packets, in", {}, AEAD, 176, ()),
        ("large packets, in", {"udp__receive__train__1400": 500}, UDP, 640, ()),
        ("small packets, out", {}, TUN, 772, ()),
        ("small packets, in", {}, TUN, 1232, ()),
        ("small packets, in", {"tun__write__64": None}, AEAD, 32, (TUN,)),
    ],
)
def test_the_dearest_step_limits(
    case: str,
    changes: dict[str, float | None],
    step: str,
    ns: float,
    missing: tuple[str, ...],
) -> None:
    limit = limit_of(case, figures(**changes))
    assert (limit.step, limit.ns, limit.missing) == (step, pytest.approx(ns), missing)
    assert limit.share == max(ns for _, ns in limit.steps) / limit.ns


def test_one_step_alone_is_no_verdict() -> None:
    alone = {"copy.1400": Figure("copy.1400", "", "", 90)}
    assert judge(alone, MACHINE) == []


def test_the_backend_that_m13_takes_counts() -> None:
    if len(BACKENDS) < 2:
        pytest.skip("one backend is built in")
    slower = {f"aead.{name}.open.1400": Figure("", "", "", 5000) for name in BACKENDS[1:]}
    assert limit_of("large packets, in", {**slower, **figures()}).ns == 176


@pytest.mark.parametrize(
    ("changes", "machine", "case", "advice"),
    [
        ({}, {}, "large packets, out", "tx-udp-segmentation"),
        ({}, {}, "small packets, out", "system call"),
        ({}, {}, "large packets, in", "only a faster core"),
        ({}, {"aes": ("aes", "pclmulqdq")}, "large packets, in", "no VAES"),
        ({}, {"aes": ("pclmulqdq",)}, "large packets, in", "no AES instructions"),
        ({}, {"architecture": "aarch64", "aes": ("aes",)}, "large packets, in", "faster core"),
        (
            {"tun__read__large": 900, "tun__read__large_udp": None},
            {},
            "large packets, out",
            "6.2",
        ),
        ({"tun__read__large": 900}, {}, "large packets, out", "faster core or memory"),
        ({"copy__1400": 900}, {}, "large packets, out", "huge pages"),
        ({"udp__receive__train__1400": 900}, {}, "large packets, in", "joins datagrams"),
        (
            {"udp__receive__train__1400": None, "udp__receive__single__1400": 900},
            {},
            "large packets, in",
            "newer kernel",
        ),
    ],
)
def test_the_advice_fits_the_limit_and_the_machine(
    changes: dict[str, float | None], machine: dict[str, object], case: str, advice: str
) -> None:
    found = figures(**changes)
    assert advice in limit_of(case, found, replace(MACHINE, **machine)).hint


def test_libcrypto_on_x86_is_told_of_ipsec_mb() -> None:
    changes: dict[str, float | None] = {f"aead__{name}__open__1400": None for name in BACKENDS}
    found = figures(**{**changes, "aead__libcrypto__open__1400": 900})
    assert "libipsec-mb-dev" in limit_of("large packets, in", found).hint


@pytest.mark.parametrize(
    ("ns", "machine", "advice"),
    [
        (3_000, {"is_virtual": True}, "nothing to mend"),
        (
            22_000,
            {"is_virtual": True, "idle_driver": "haltpoll", "halt_poll_ns": 0},
            "guest_halt_poll_ns",
        ),
        (22_000, {"is_virtual": True, "idle_driver": "haltpoll", "halt_poll_ns": 9}, "idle=poll"),
        (22_000, {"is_virtual": True}, "a virtual machine: wake-ups cost 22 µs"),
        (50_000, {"governor": "powersave"}, "governor powersave: wake-ups cost 50 µs"),
        (50_000, {"governor": None}, "isolcpus="),
        (50_000, {"isolated_cores": (2, 3)}, "max_cstate"),
    ],
)
def test_slow_wakeups_are_explained(ns: float, machine: dict[str, object], advice: str) -> None:
    assert advice in latency_hint(ns, replace(MACHINE, **machine))


def test_latency_is_judged_by_the_wakeup_from_another_core_if_there_is_one() -> None:
    assert limit_of("latency", figures()).ns == 22_000
    assert limit_of("latency", figures(wakeup__far=None)).ns == 3_000


def trips(mean: float) -> RoundTrips:
    return RoundTrips(10, 10, mean, mean, 2 * mean)


ECHO = Throughput(1400, 64, 1000, 1000, 1.0, 100_000, 1.12)
FINDINGS = Findings(
    Tunnel("node", 1, "m13tun0", 1400, "10.13.0.1", "192.0.2.1"),
    trips(65),
    trips(9),
    ECHO,
    Load(0.4, 0.3, 1.0, {"seal": 300.0, "collect": 900.0}, {}),
)


@pytest.mark.parametrize(
    ("changes", "case", "words"),
    [
        ({}, "tunnel, latency", "wake-ups here are about 44 µs"),
        ({"path": trips(40)}, "tunnel, latency", "the way there is the limit"),
        ({"path": None}, "tunnel, latency", "answers no ping outside"),
        ({}, "tunnel, load", "used 40% of a core: the way there or the other end"),
        (
            {"load": replace(FINDINGS.load, cores_used=0.97)},  # type: ignore[type-var]
            "tunnel, load",
            "used 97% of a core, most of it in 'collect'",
        ),
        (
            {"load": replace(FINDINGS.load, cores_asking=0.95)},  # type: ignore[type-var]
            "tunnel, load",
            "the tunnel may do more",
        ),
        (
            {"load": replace(FINDINGS.load, cores_idle=0.05)},  # type: ignore[type-var]
            "tunnel, load",
            "no core was idle",
        ),
    ],
)
def test_the_tunnel_is_judged(changes: dict[str, object], case: str, words: str) -> None:
    findings = replace(FINDINGS, **changes)
    told = {remark.case: remark for remark in remarks(judge(figures(), MACHINE), findings)}
    assert words in told[case].hint


@pytest.mark.parametrize(("received", "words"), [(1000, "none lost"), (900, "10.0% lost")])
def test_lost_echoes_are_told(received: int, words: str) -> None:
    findings = replace(FINDINGS, throughput=replace(ECHO, received=received))
    assert words in remarks([], findings)[-1].text


def test_time_of_others_is_what_we_did_not_use() -> None:
    before, after = Usage(100, 50, 1, 10), Usage(106, 51, 2, 14)
    assert after.by_others(before, 4) == 0.5
    assert after.stolen(before, 4) == 0.25
    # our ticks may be counted a moment before the machine's
    assert Usage(100, 50, 1, 11).by_others(before, 4) == 0
