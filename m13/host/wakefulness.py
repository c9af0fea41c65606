"""Cores that do not sleep while packets flow, so that none waits for a core to wake.

Asked of the kernel by PM QoS (Documentation/power/pm_qos_interface.rst): whoever holds
/dev/cpu_dma_latency open says how many microseconds a core may take to come back. The wish ends
with the descriptor, so nothing is left of it after a crash.
"""

import os
import struct
from types import TracebackType
from typing import Self

from m13.errors import HostError

DEVICE = "/dev/cpu_dma_latency"
LATENCY_US = 0
QUIET_SECONDS = 10  # without a packet, and cores may sleep again


class Wakefulness:
    """Wants to be told once a second how many packets passed so far."""

    def __init__(self, wanted: bool) -> None:
        """HostError when it is wanted and cannot be had."""
        self._wanted = wanted
        self._descriptor = -1
        self._packets = 0
        self._quiet_seconds = 0
        if wanted:
            self._hold()  # so that a machine that refuses says so at start
            self._release()

    @property
    def is_held(self) -> bool:
        return self._descriptor >= 0

    def follow(self, packets: int) -> None:
        moved = packets != self._packets
        self._packets = packets
        self._quiet_seconds = 0 if moved else self._quiet_seconds + 1
        if self._wanted and moved and not self.is_held:
            self._hold()
        elif self._quiet_seconds >= QUIET_SECONDS:
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
            raise HostError(
                f"--low-latency: {DEVICE}: {error.strerror}; run without it, or as root where the"
                " kernel has CONFIG_CPU_IDLE"
            ) from error

    def _release(self) -> None:
        if self.is_held:
            os.close(self._descriptor)
            self._descriptor = -1
