"""What the processor does alone: AES-256-GCM, copying, rings between threads, waking up."""

import os
import platform
import threading
import time
from collections.abc import Iterator

from m13.bench.figure import (
    FRAME_OVERHEAD_BYTES,
    LARGE_BYTES,
    PACKET_BYTES,
    REPEATS,
    SMALL_BYTES,
    Figure,
    Omission,
    Result,
    quantiles,
)
from m13.host import cpu
from native import selfbench
from native.aead import BACKENDS, VECTOR, Aead
from native.ring import Ring

RING_SLOTS, RING_BATCH = 2048, 64
RING_TRIAL_ITEMS = 20_000
WAKEUP_GAP_NS = 1_000_000  # long enough for the sleeper's core to go to sleep as well
WAKEUPS_LEAST = 20
UNITS = 3 * len(BACKENDS) + 2 + 2 + 2 * 2


def figures(unit_s: float) -> Iterator[Result]:
    yield from _aead(unit_s)
    yield from _copying(unit_s)
    yield from _rings(unit_s)
    yield from _wakeups(2 * unit_s)


def _aead(unit_s: float) -> Iterator[Result]:
    for name in BACKENDS:
        try:
            backend = Aead(name)
        except OSError as error:
            mend = "use a processor with AES instructions, or let the hypervisor pass them on"
            yield Omission(f"AEAD {name}", os.strerror(error.errno or 0), mend)
            continue
        with backend:
            for size in PACKET_BYTES:
                yield from _seal_and_open(backend, size, unit_s)
    if platform.machine() == "x86_64" and "ipsec-mb" not in BACKENDS:
        yield Omission("AEAD ipsec-mb", "not built in", "apt-get install libipsec-mb-dev && make")


def _seal_and_open(backend: Aead, size: int, unit_s: float) -> Iterator[Figure]:
    frame_bytes = size + FRAME_OVERHEAD_BYTES
    trial = backend.measure(frame_bytes, 4)
    vector_ns = VECTOR * (trial.seal_ns + trial.open_ns)
    vectors = max(1, int(unit_s * 1e9 / REPEATS / vector_ns))
    timings = [backend.measure(frame_bytes, vectors) for _ in range(REPEATS)]
    for verb, ns in (
        ("seal", min(timing.seal_ns for timing in timings)),
        ("open", min(timing.open_ns for timing in timings)),
    ):
        key = f"aead.{backend.name}.{verb}.{size}"
        yield Figure(key, "AEAD", f"{verb} {size} B, {backend.name}", ns, size)


def _copying(unit_s: float) -> Iterator[Result]:
    for size in (SMALL_BYTES, LARGE_BYTES):
        flows = [selfbench.copy(size, int(unit_s * 1e9 / REPEATS)) for _ in range(REPEATS)]
        ns = min(flow.ns / flow.calls for flow in flows)
        yield Figure(f"copy.{size}", "memory", f"copy {size} B", ns, size)


def _rings(unit_s: float) -> Iterator[Result]:
    if len(cpu.allowed_cores()) < 2:
        yield Omission("rings", "one core: no two threads run at a time", "give M13 two cores")
        return
    for key, batch, label in (
        ("ring.single", 1, "one item at a time"),
        ("ring.batch", RING_BATCH, f"batches of {RING_BATCH}"),
    ):
        trial_ns = _cross(RING_TRIAL_ITEMS, batch)
        items = max(RING_TRIAL_ITEMS, int(unit_s * 1e9 / REPEATS / trial_ns))
        ns = min(_cross(items, batch) for _ in range(REPEATS))
        yield Figure(key, "rings", label, ns)


def _cross(items: int, batch: int) -> float:
    """Nanoseconds per item from one thread to another."""
    ring = Ring(RING_SLOTS, 8)
    producer = threading.Thread(target=ring.produce, args=(items, batch))
    begun = time.perf_counter_ns()
    producer.start()
    ring.consume(items, batch)
    elapsed = time.perf_counter_ns() - begun
    producer.join()
    return elapsed / items


def _wakeups(share_s: float) -> Iterator[Result]:
    """A thread rung by another on its own core, and by one on another core: where it is depends
    on who got the interrupt."""
    allowed, plan = cpu.allowed_cores(), cpu.plan()
    near = plan.worker if plan.worker != cpu.ANY_CORE else allowed[0]
    far = plan.tun if plan.tun not in (cpu.ANY_CORE, near) else allowed[-1]
    count = max(WAKEUPS_LEAST, int(share_s * 1e9 / WAKEUP_GAP_NS))
    yield quantiles(
        "wakeup.near",
        "wake-up",
        "from the same core",
        selfbench.wakeup(WAKEUP_GAP_NS, count, near, near),
    )
    if far == near:
        return
    samples = selfbench.wakeup(WAKEUP_GAP_NS, count, near, far)
    yield quantiles("wakeup.far", "wake-up", "from another core", samples)
