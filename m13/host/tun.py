"""A TUN device that lives exactly as long as we hold its descriptor."""

import contextlib
import errno
import fcntl
import os
import re
import socket
import struct
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from m13.errors import HostError, UsageError
from m13.host import link

IFF_TUN = 0x0001
IFF_MULTI_QUEUE = 0x0100
IFF_NO_PI = 0x1000
IFF_VNET_HDR = 0x4000
IFF_TUN_EXCL = 0x8000
TUNSETIFF = 0x400454CA
TUNSETOFFLOAD = 0x400454D0
# What the kernel may leave to us, and we to it (include/uapi/linux/if_tun.h).
TUN_F_CSUM, TUN_F_TSO, TUN_F_TSO_ECN, TUN_F_USO = 0x01, 0x02 | 0x04, 0x08, 0x20 | 0x40
MTU_MIN, MTU_MAX = 576, 65535
# The kernel's 500 are used up within half a millisecond of small packets, before a reader that
# shares its core is back; what is behind it drops.
QUEUE_PACKETS = 2000
NAME = re.compile(r"[A-Za-z0-9_.-]{1,15}")
RESERVED_NAMES = (".", "..", "all", "default")  # no directory under /proc/sys/net/ipv4/conf is left


def check_name(name: str) -> None:
    """Fewer names than the kernel takes: ours go into nftables rules and file names as they are."""
    if not NAME.fullmatch(name) or name in RESERVED_NAMES:
        raise UsageError(f"{name!r} cannot be a TUN name: 1 to 15 letters, digits, '_', '.' or '-'")


class Tun:
    """`flags` adds IFF_VNET_HDR; `blocking` is the mode of the descriptor."""

    def __init__(self, name: str, mtu: int, *, flags: int = 0, blocking: bool = True) -> None:
        check_name(name)
        self.name = name
        self.takes_large_udp = False
        self._flags, self._blocking = flags, blocking
        self._queues: list[int] = []  # but the first
        self.fd = _open(name, flags, blocking)
        try:
            self.ifindex = socket.if_nametoindex(name)
            self._keep_ipv6_quiet()
            self._set("a longer queue", link.set_queue_packets, QUEUE_PACKETS)
            self.set_mtu(mtu)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """The device goes, and its addresses and routes with it."""
        while self._queues:
            os.close(self._queues.pop())
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def add_queue(self) -> int:
        """A further descriptor, of a device made with IFF_MULTI_QUEUE; closed with it. The kernel
        gives a flow's packets to the queue that the flow's last packet was written to."""
        self._queues.append(_open(self.name, self._flags, self._blocking, exclusive=False))
        return self._queues[-1]

    def up(self) -> None:
        self._set("state up", link.set_up, True)

    def down(self) -> None:
        self._set("state down", link.set_up, False)

    def set_mtu(self, mtu: int) -> None:
        if not MTU_MIN <= mtu <= MTU_MAX:
            raise UsageError(f"a tunnel MTU of {mtu} is not within {MTU_MIN} to {MTU_MAX}")
        self._set(f"MTU {mtu}", link.set_mtu, mtu)

    def add_address(self, address: str, prefix_bits: int) -> None:
        try:
            link.add_address(self.ifindex, address, prefix_bits)
        except OSError as error:
            if error.errno != errno.EEXIST:
                raise _refused(self.name, f"address {address}/{prefix_bits}", error) from error

    def replace_address(self, address: str, prefix_bits: int) -> None:
        """Make it the only one of its family. New before old: with its last address gone a device
        would lose its routes, and packets would leave in the clear."""
        self.add_address(address, prefix_bits)
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self._remove_addresses(family, (address, prefix_bits))

    def remove_ipv6(self) -> None:
        self._remove_addresses(socket.AF_INET6)

    def allow_ipv6(self) -> bool:
        """Whether the device can have IPv6 addresses, whatever this machine says of new ones."""
        with contextlib.suppress(OSError):
            path = f"/proc/sys/net/ipv6/conf/{self.name}/disable_ipv6"
            with open(path, "w", encoding="ascii") as setting:
                setting.write("0")
            return True
        return False

    def _remove_addresses(self, family: int, but: tuple[str, int] | None = None) -> None:
        for old in link.addresses(self.ifindex, family):
            if (old.address, old.prefix_bits) != but:
                link.remove_address(self.ifindex, old.address, old.prefix_bits, old.peer)

    def use_offloads(self) -> str | None:
        """Large TCP and UDP packets and unfinished checksums; needs IFF_VNET_HDR. A note when
        the kernel cannot leave UDP uncut (before Linux 6.2)."""
        base = TUN_F_CSUM | TUN_F_TSO | TUN_F_TSO_ECN
        self.takes_large_udp = True
        try:
            fcntl.ioctl(self.fd, TUNSETOFFLOAD, base | TUN_F_USO)
        except OSError:
            try:
                fcntl.ioctl(self.fd, TUNSETOFFLOAD, base)
            except OSError as error:
                raise HostError(f"{self.name} refuses offloads: {error.strerror}") from error
            self.takes_large_udp = False
            return f"{self.name}: this kernel cuts UDP itself"
        return None

    def use_fair_queueing(self) -> str | None:
        """Pace with `fq` where the kernel has it; a note where not."""
        try:
            link.queue_fairly(self.ifindex)
        except OSError as error:
            return f"no fq on {self.name}: {error.strerror} (module sch_fq)"
        return None

    def _keep_ipv6_quiet(self) -> None:
        """No link-local address, hence no router solicitations into the tunnel. And deleting
        an address must not delete its younger siblings, or `replace_address` would fail."""
        with contextlib.suppress(OSError):  # a kernel without IPv6
            link.forgo_link_local6(self.ifindex)
        path = f"/proc/sys/net/ipv4/conf/{self.name}/promote_secondaries"
        with contextlib.suppress(OSError), open(path, "w", encoding="ascii") as setting:
            setting.write("1")

    def _set(self, what: str, change: Callable[[int, Any], None], value: object) -> None:
        try:
            change(self.ifindex, value)
        except OSError as error:
            raise _refused(self.name, what, error) from error


def _open(name: str, flags: int, blocking: bool, exclusive: bool = True) -> int:
    try:
        descriptor = os.open(
            "/dev/net/tun", os.O_RDWR | os.O_CLOEXEC | (0 if blocking else os.O_NONBLOCK)
        )
    except OSError as error:
        raise HostError(f"no /dev/net/tun ({error.strerror}): run as root, modprobe tun") from error
    # EXCL: never take over a persistent device that somebody else made.
    flags |= IFF_TUN | IFF_NO_PI | (IFF_TUN_EXCL if exclusive else 0)
    request = struct.pack("16sH22x", name.encode(), flags)
    try:
        fcntl.ioctl(descriptor, TUNSETIFF, request)
    except OSError as error:
        os.close(descriptor)
        if error.errno in (errno.EBUSY, errno.EEXIST, errno.EINVAL):
            raise UsageError(
                f"interface {name} exists already: choose another --tun-name"
            ) from error
        raise HostError(f"cannot make TUN {name}: {error.strerror} (run as root)") from error
    return descriptor


def _refused(name: str, what: str, error: OSError) -> HostError:
    return HostError(f"cannot set {what} on {name}: {error.strerror}")
