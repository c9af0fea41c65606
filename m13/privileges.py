"""What a hub or a node gives up, and when.

`guard_memory` comes before a secret is read: nobody but root may look into the process, nothing of
it is dumped or swapped. `refuse_administration` comes when all that needs the machine's
administrator has been set up, and before the first packet. `keep_for_service` comes when the
data-plane threads run, which keep nothing at all (native/core/capability.h); what is left to the
control loop is what it needs while it serves and to put the machine back.
"""

import ctypes
import os
import resource
import signal

from m13.errors import HostError
from native import capability, seccomp

# linux/prctl.h, asm-generic/mman.h
PR_SET_PDEATHSIG, PR_SET_DUMPABLE = 1, 4
MCL_CURRENT, MCL_FUTURE, MCL_ONFAULT = 1, 2, 4

# Routes, neighbours, firewall, offloads, queues and the kernel's network settings, while it serves
# and on the way back; and ending a handshake worker that hangs, which is another user's.
SERVING = ("net_admin", "kill")
# What the next handshake worker needs to become nobody, and never this process itself.
STARTING_WORKERS = ("setuid", "setgid", "setpcap")

LIBC = ctypes.CDLL(None, use_errno=True)


def guard_memory() -> str | None:
    """A note when memory cannot be locked; HostError when it could be dumped."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # also what keeps a core_pattern that is a pipe from being fed (core(5))
    if LIBC.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0):
        raise HostError("this process cannot be kept from being dumped")
    return lock_memory()


def lock_memory() -> str | None:
    """What this process touches stays out of swap; a note when the machine does not let it. A limit
    that stayed would make later allocations fail, so there must be none."""
    try:
        unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
        resource.setrlimit(resource.RLIMIT_MEMLOCK, unlimited)
    except (OSError, ValueError) as error:
        return f"memory is not locked, secrets may be swapped: {error} (RLIMIT_MEMLOCK)"
    if LIBC.mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT):
        reason = os.strerror(ctypes.get_errno())
        return f"memory is not locked, secrets may be swapped: {reason} (mlockall)"
    return None


def refuse_administration() -> None:
    """For all threads there are and will be, and all programs started from now on."""
    try:
        seccomp.refuse_administration()
    except OSError as error:
        raise HostError(
            f"no system-call filter ({error}): a kernel with CONFIG_SECCOMP_FILTER is needed"
        ) from error


def keep_for_service() -> None:
    """For the calling thread and those it starts from now on."""
    permitted = (*SERVING, *STARTING_WORKERS)
    _reduce(permitted, SERVING, permitted)


def forgo() -> None:
    """The calling thread keeps no capability at all."""
    _reduce((), (), ())


def _reduce(
    permitted: tuple[str, ...], effective: tuple[str, ...], bounding: tuple[str, ...]
) -> None:
    try:
        capability.reduce(permitted=permitted, effective=effective, bounding=bounding)
    except OSError as error:
        raise HostError(f"capabilities cannot be given up: {error.strerror}") from error


def become(user: int) -> None:
    """From now on an unprivileged user and group, without capabilities and for good, if this is
    root; the mark of a process that may not be dumped is lost by that and set again."""
    if os.geteuid() == 0:
        changing = ("setuid", "setgid")
        _reduce(changing, changing, ())
        os.setgroups([])
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)
    forgo()
    if LIBC.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0):
        raise HostError("this process cannot be kept from being dumped")


def die_with_parent() -> None:
    """Killed when the thread that started this process ends. Lost by a change of user."""
    if LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0):
        raise HostError("this process cannot be made to end with its parent")


def compute_only() -> None:
    """Every further system call but those of native/core/seccomp.h kills this process."""
    try:
        seccomp.allow_computing()
    except OSError as error:
        raise HostError(
            f"no system-call filter ({error}): a kernel with CONFIG_SECCOMP_FILTER is needed"
        ) from error
