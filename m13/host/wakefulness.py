"""Cores that do not sleep while packets flow, so that none waits for a core to wake.

Asked of the kernel by PM QoS (Documentation/power/pm_qos_interface.rst): whoever holds
/dev/cpu_dma_latency open says how many microseconds a core may take to come back. The wish ends
with the descriptor, so nothing is left of it after a crash.

It is every core's, and an idle core that may not sleep burns power. So unless told, M13 asks only
where cores are few and not fed by a battery, and while packets flow as they do in a call or a game;
a keystroke now and then may wait for a core.
"""

import logging
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from m13.errors import HostError

log = logging.getLogger("m13.host")
DEVICE = "/dev/cpu_dma_latency"
SUPPLIES = Path("/sys/class/power_supply")  # Documentation/ABI/testing/sysfs-class-power
LATENCY_US = 0
SMALL_MACHINE_CORES = 4


@dataclass(frozen=True)
class Policy:
    """Cores are kept awake from a second with `packets` on, until so many seconds had fewer."""

    packets: int
    quiet_seconds: int


# By the names of --low-latency. A call has 50 packets a second each way, and some of them are late.
POLICIES = {"off": None, "auto": Policy(80, 2), "on": Policy(1, 10)}


class Wakefulness:
    """Wants to be told once a second how many packets passed so far."""

    def __init__(self, wish: str) -> None:
        """HostError when it is wanted by name and cannot be had."""
        self._policy = POLICIES[wish]
        self._is_auto = wish == "auto"
        self._descriptor = -1
        self._packets = 0
        self._quiet_seconds = 0
        self._has_said = False
        if self._is_auto and (os.cpu_count() or 1) > SMALL_MACHINE_CORES:
            self._policy = None
        elif self._policy:
            self._hold()  # so that a machine that refuses says so at start
            self._release()

    @property
    def is_held(self) -> bool:
        return self._descriptor >= 0

    def follow(self, packets: int) -> None:
        if self._policy is None:
            return
        is_busy = packets - self._packets >= self._policy.packets
        self._packets = packets
        if self._is_auto and is_busy and _is_on_battery():
            is_busy = False
        self._quiet_seconds = 0 if is_busy else self._quiet_seconds + 1
        if is_busy and not self.is_held:
            self._hold()
            self._say()
        elif self._quiet_seconds >= self._policy.quiet_seconds:
            self._release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._release()

    def _hold(self) -> None:
        try:
            self._descriptor = os.open(DEVICE, os.O_WRONLY | os.O_CLOEXEC)
            os.write(self._descriptor, struct.pack("i", LATENCY_US))
        except OSError as error:
            self._release()
            if self._is_auto:
                self._policy = None
                return
            raise HostError(
                f"--low-latency: {DEVICE}: {error.strerror}; run with --low-latency off, or as root"
                " where the kernel has CONFIG_CPU_IDLE"
            ) from error

    def _say(self) -> None:
        if self.is_held and not self._has_said:
            log.info("cores stay awake while packets flow (--low-latency off lets them sleep)")
            self._has_said = True

    def _release(self) -> None:
        if self.is_held:
            os.close(self._descriptor)
            self._descriptor = -1


def _is_on_battery() -> bool:
    """Of the machine's own batteries any gives power; those of mice and the like do not count."""
    return any(
        _read(supply / "type") == "Battery"
        and _read(supply / "scope") != "Device"
        and _read(supply / "status") == "Discharging"
        for supply in SUPPLIES.glob("*")
    )


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""
