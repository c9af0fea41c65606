"""The journal of changes: each is on disk before it is made, and undone newest first.

One file per (role, TUN name, network namespace) in /run/m13 (M13_RUN_DIR names another place),
locked for the life of its owner. A free lock on a file with entries means the owner was killed:
the next start undoes them. The lines are JSON, only ever appended:
  {"owner": pid, "boot": id, "namespace": cookie}   what follows was done by this process, here
  {"do": token, "kind": ..., "key": ..., "machine_wide": ..., "facts": {...}}
  {"undone": token}
A line torn by a crash is ignored: its change had not been made yet.

Namespace inodes are reused, so the namespace's cookie, unique since boot, decides whether an old
entry is about this namespace. Entries about the whole machine are undone from any namespace.

A change with a `key` may be wanted by several live runs at once (a sysctl): the first one's old
value is handed on, and only the last to leave restores it. The directory lock orders them.
"""

import contextlib
import errno
import fcntl
import importlib
import json
import logging
import os
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from m13.errors import HostError

Facts = dict[str, Any]
log = logging.getLogger("m13.host")

SO_NETNS_COOKIE = 71
LOCK_ATTEMPTS_MAX = 10
LOCK_PAUSE_S = 0.02

_undo_by_kind: dict[str, Callable[[Facts], None]] = {}


def undoes(kind: str) -> Callable[[Callable[[Facts], None]], Callable[[Facts], None]]:
    """Register what puts a kind of change back. A kind begins with its module's name in m13.host,
    so that recovery can import it. It must be idempotent, and content when the thing is gone."""

    def register(undo: Callable[[Facts], None]) -> Callable[[Facts], None]:
        _undo_by_kind[kind] = undo
        return undo

    return register


@dataclass(frozen=True)
class Change:
    token: int
    kind: str
    key: str | None
    machine_wide: bool
    namespace: str
    facts: Facts

    def is_same_thing(self, kind: str, key: str | None, namespace: str) -> bool:
        here = self.machine_wide or self.namespace == namespace
        return key is not None and here and (self.kind, self.key) == (kind, key)


def run_directory() -> Path:
    """The directory of the journals; tests set M13_RUN_DIR to stay out of /run/m13."""
    return Path(os.environ.get("M13_RUN_DIR", "/run/m13"))


def network_namespace() -> str:
    """An identity of the network namespace of this process that is never used again."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        return probe.getsockopt(socket.SOL_SOCKET, SO_NETNS_COOKIE, 8).hex()


def boot_identity() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


class Journal:
    """A context manager: what is still recorded when the block ends is undone."""

    def __init__(self, path: Path, descriptor: int) -> None:
        """Not for callers: `open` hands over a locked descriptor."""
        self.path = path
        self.namespace = network_namespace()
        self._descriptor = descriptor
        self._is_full = False
        self._pending = _read(path)
        self._next_token = max(self._pending, default=0) + 1

    @classmethod
    def open(cls, role: str, tun_name: str) -> Self:
        directory = run_directory()
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            _check_owner(directory)
            inode = os.stat("/proc/self/ns/net").st_ino
            path = directory / f"{role}-{tun_name}-{inode}.journal"
            descriptor = _lock_patiently(path)
        except OSError as error:
            raise HostError(f"cannot keep a journal in {directory}: {error.strerror}") from error
        if descriptor is None:
            raise HostError(f"m13-{role} is already running here (pid {_owner(path)})")
        journal = cls(path, descriptor)
        try:
            journal._recover()
        except (OSError, HostError) as error:
            if not journal._pending:
                path.unlink(missing_ok=True)
            os.close(descriptor)
            reason = error.strerror if isinstance(error, OSError) else error
            raise HostError(f"cannot keep a journal in {directory}: {reason}") from error
        return journal

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def record(
        self, kind: str, *, key: str | None = None, machine_wide: bool = False, **facts: Any
    ) -> int:
        """Write down a change about to be made; on return it is safe to make it."""
        with _directory_locked(self.path.parent):
            claim = self._claim_elsewhere(kind, key)
            if claim is not None and "old" in claim.facts:
                facts["old"] = claim.facts["old"]
            token = self._next_token
            self._next_token += 1
            change = Change(token, kind, key, machine_wide, self.namespace, facts)
            line = {"do": token, "kind": kind, "key": key, "machine_wide": machine_wide}
            self._append({**line, "facts": facts})
            self._pending[token] = change
        return token

    def undo(self, token: int) -> bool:
        """Put one change back now. False, and still recorded, when the machine refused."""
        change = self._pending.get(token)
        if change is None:
            return True
        with _directory_locked(self.path.parent):
            if self._claim_elsewhere(change.kind, change.key) is None and not _put_back(change):
                return False
            self.discard(token)
        return True

    def discard(self, token: int) -> None:
        """Forget a change that was not made after all, or that another one replaced."""
        if self._pending.pop(token, None) is not None:
            try:
                self._append({"undone": token})
            except HostError as error:
                # the next start undoes it once more, which is allowed; the others' turn comes now
                log.log(logging.DEBUG if self._is_full else logging.WARNING, "%s", error)
                self._is_full = True

    def is_shared(self, kind: str, key: str) -> bool:
        """Whether another live run depends on the same thing."""
        return self._claim_elsewhere(kind, key) is not None

    def close(self) -> None:
        """Undo everything, newest first. What cannot be undone stays for the next start."""
        if self._descriptor < 0:
            return
        for token in sorted(self._pending, reverse=True):
            self.undo(token)
        if not self._pending:
            self.path.unlink(missing_ok=True)
        os.close(self._descriptor)
        self._descriptor = -1

    def _append(self, line: Facts) -> None:
        """HostError when it is not on disk; then nothing of it is in the file either."""
        data = json.dumps(line).encode() + b"\n"
        size = os.fstat(self._descriptor).st_size
        try:
            if os.write(self._descriptor, data) < len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fdatasync(self._descriptor)
        except OSError as error:
            os.ftruncate(self._descriptor, size)
            raise HostError(f"cannot write {self.path}: {error.strerror}") from error

    def _recover(self) -> None:
        restored = self._undo_leftovers(everything=True)
        for path in sorted(self.path.parent.glob("*.journal")):
            restored += 0 if path == self.path else _recover_machine_wide(path)
        if restored:
            log.warning("restored %d changes left by a previous run", restored)
        if not self._pending:
            os.ftruncate(self._descriptor, 0)
        # The newline ends a line torn by a crash; a blank line means nothing.
        os.write(self._descriptor, b"\n")
        owner = {"owner": os.getpid(), "boot": boot_identity(), "namespace": self.namespace}
        self._append(owner)

    def _undo_leftovers(self, everything: bool) -> int:
        """Undo what is still meaningful here; forget changes of a namespace that is gone."""
        restored = 0
        for token, change in sorted(self._pending.items(), reverse=True):
            if change.machine_wide or (everything and change.namespace == self.namespace):
                restored += self.undo(token)
            elif everything:
                self.discard(token)
        return restored

    def _claim_elsewhere(self, kind: str, key: str | None) -> Change | None:
        if key is None:
            return None
        for path in sorted(self.path.parent.glob("*.journal")):
            if path == self.path or not _is_locked(path):
                continue
            for change in _read(path).values():
                if change.is_same_thing(kind, key, self.namespace):
                    return change
        return None


def _check_owner(directory: Path) -> None:
    """What stands in a journal is done as root: whoever may write there would be root."""
    status = directory.stat()
    if status.st_uid != os.geteuid() or status.st_mode & 0o022:
        raise HostError(
            f"{directory} can be written by others: run 'chown root {directory} &&"
            f" chmod 700 {directory}', or name another one with M13_RUN_DIR"
        )


def _recover_machine_wide(path: Path) -> int:
    """A dead run in a namespace nobody will start in again still holds huge pages and the like."""
    descriptor = _lock(path, create=False)
    if descriptor is None:
        return 0
    leftover = Journal(path, descriptor)
    restored = leftover._undo_leftovers(everything=False)
    if not leftover._pending:
        path.unlink(missing_ok=True)
    os.close(descriptor)
    return restored


def _put_back(change: Change) -> bool:
    importlib.import_module(f"m13.host.{change.kind.partition('.')[0]}")
    try:
        _undo_by_kind[change.kind](change.facts)
    except (OSError, HostError) as error:
        log.error("cannot undo %s %s: %s", change.kind, change.facts, error)
        return False
    return True


def _lock(path: Path, create: bool = True) -> int | None:
    """A locked descriptor, or None while another process holds it."""
    flags = os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | (os.O_CREAT if create else 0)
    for _ in range(LOCK_ATTEMPTS_MAX):
        try:
            descriptor = os.open(path, flags, 0o600)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if path.stat().st_ino == os.fstat(descriptor).st_ino:
                return descriptor
        except BlockingIOError:
            os.close(descriptor)
            return None
        except FileNotFoundError:
            pass
        # The previous owner removed the file between our open and our lock.
        os.close(descriptor)
    return None


def _lock_patiently(path: Path) -> int | None:
    """Another run starting or leaving holds a dead run's lock for a moment, to look inside."""
    for _ in range(LOCK_ATTEMPTS_MAX):
        descriptor = _lock(path)
        if descriptor is not None:
            return descriptor
        time.sleep(LOCK_PAUSE_S)
    return None


def _is_locked(path: Path) -> bool:
    descriptor = _lock(path, create=False)
    if descriptor is None:
        return path.exists()
    os.close(descriptor)
    return False


@contextlib.contextmanager
def _directory_locked(directory: Path) -> Iterator[None]:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _lines(path: Path) -> Iterator[Facts]:
    for text in path.read_bytes().splitlines():
        with contextlib.suppress(ValueError):
            line = json.loads(text)
            if isinstance(line, dict):
                yield line


def _owner(path: Path) -> int | str:
    pid: int | str = "unknown"
    for line in _lines(path):
        pid = line.get("owner", pid)
    return pid


def _read(path: Path) -> dict[int, Change]:
    """The changes not undone yet. A reboot undid everything by itself."""
    pending: dict[int, Change] = {}
    namespace, this_boot = "", False
    for line in _lines(path):
        if "owner" in line:
            namespace, this_boot = line["namespace"], line["boot"] == boot_identity()
        elif "do" in line and this_boot:
            pending[line["do"]] = Change(
                line["do"],
                line["kind"],
                line["key"],
                line["machine_wide"],
                namespace,
                line["facts"],
            )
        elif "undone" in line:
            pending.pop(line["undone"], None)
    return pending
