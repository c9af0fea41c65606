"""The telemetry page in /dev/shm: made by the running tunnel, read by monitors.

The layout comes from the C core through native.stats. The owner holds a lock on the file for life,
so a reader knows a living page from one left by a killed process, whatever became of its pid.
"""

import ctypes
import fcntl
import mmap
import os
import struct
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from m13.errors import HostError
from m13.telemetry_layout import PAGE_FORMS, Fields, Snapshot, describe, glance, sessions
from native import stats

SWEEP_SECONDS = 3600
DIRECTORY = Path("/dev/shm")


class TelemetryPage:
    """Owns the file and its mapping; the C side writes at `address` until `close`."""

    def __init__(self, path: Path, descriptor: int) -> None:
        """Not for callers: `create` hands over a locked descriptor."""
        self.path = path
        self._descriptor = descriptor
        self._memory = mmap.mmap(descriptor, stats.PAGE_BYTES)
        # the array refers to the mapping only until its address is taken: then it can be closed
        self.address = ctypes.addressof(ctypes.c_char.from_buffer(self._memory))
        self.fields = Fields(self._memory)

    @classmethod
    def create(cls, role: str, tun_name: str, directory: Path = DIRECTORY) -> Self:
        """HostError when a living process has this page; a dead one's is replaced."""
        path = directory / f"m13.{role}.{tun_name}.{_namespace()}"
        try:
            descriptor = os.open(directory, os.O_TMPFILE | os.O_RDWR, 0o640)
        except OSError as error:
            raise HostError(f"cannot make a page in {directory}: {error.strerror}") from error
        try:
            fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, _whole_file(fcntl.F_WRLCK))
            os.posix_fallocate(descriptor, 0, stats.PAGE_BYTES)
            page = cls(path, descriptor)
        except OSError as error:
            os.close(descriptor)
            raise HostError(f"cannot map {path}: {error.strerror}") from error
        try:
            page._describe(role, tun_name)
            page._publish()
        except HostError:
            page._release()
            raise
        return page

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
        """Remove the page. The C threads must have stopped: their memory goes away."""
        if self._descriptor >= 0:
            self.path.unlink(missing_ok=True)
            self._release()

    def _describe(self, role: str, tun_name: str) -> None:
        self.fields["magic"] = stats.MAGIC
        self.fields["version"] = stats.VERSION
        self.fields["page_bytes"] = stats.PAGE_BYTES
        self.fields["pid"] = os.getpid()
        self.fields["started_ns"] = time.monotonic_ns()
        self.fields["role"] = role
        self.fields["tun_name"] = tun_name

    def _publish(self) -> None:
        """Give the finished page its name in one step, so that nobody reads half a page. Two
        starts cannot meet here: the journal admits one per role, TUN and namespace."""
        source = f"/proc/self/fd/{self._descriptor}"
        directory = os.open(self.path.parent, os.O_PATH | os.O_DIRECTORY)
        try:
            _remove_stale(self.path)
            _sweep(self.path.parent)
            # Only linkat, which the directory descriptor asks for, follows the link in /proc.
            os.link(source, self.path.name, dst_dir_fd=directory, follow_symlinks=True)
        except OSError as error:
            raise HostError(f"cannot make {self.path}: {error.strerror}") from error
        finally:
            os.close(directory)

    def _release(self) -> None:
        del self.fields
        self.address = 0
        self._memory.close()
        os.close(self._descriptor)
        self._descriptor = -1


class TelemetryReader:
    """A read-only view of somebody's page."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor = _open_page(path)
        try:
            self._memory = mmap.mmap(self._descriptor, stats.PAGE_BYTES, prot=mmap.PROT_READ)
        except OSError:
            os.close(self._descriptor)
            raise
        fields = Fields(self._memory)
        self.role: str = fields.text("role")
        self.pid: int = fields["pid"]

    @classmethod
    def open(cls, role: str, tun_name: str | None = None, directory: Path = DIRECTORY) -> Self:
        """The page of this network namespace; when it has none, the only one there is."""
        return cls(_find(role, tun_name, directory))

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
        if self._descriptor >= 0:
            self._memory.close()
            os.close(self._descriptor)
            self._descriptor = -1

    def is_alive(self) -> bool:
        """Whether the process that made the page still runs."""
        return _is_owned(self._descriptor)

    def snapshot(self) -> Snapshot:
        """Everything on the page as plain values for JSON. Times are ages in seconds."""
        # One copy, so that every value is of the same moment, or nearly so.
        return describe(self._memory[:], time.monotonic_ns(), self.is_alive())

    def glance(self) -> Snapshot:
        """For the page's owner, every second: state, age and counters of the snapshot."""
        return glance(self._memory[:], time.monotonic_ns())

    def sessions(self) -> list[Snapshot]:
        """Likewise: a hub's peers, with what the roster says of each."""
        return sessions(self._memory[:], time.monotonic_ns())


def _namespace() -> int:
    return os.stat("/proc/self/ns/net").st_ino


def _whole_file(kind: int) -> bytes:
    """A struct flock. OFD locks belong to the open file, so no unrelated close() drops them."""
    return struct.pack("hhqqi0q", kind, os.SEEK_SET, 0, 0, 0)


def _is_owned(descriptor: int) -> bool:
    answer = fcntl.fcntl(descriptor, fcntl.F_OFD_GETLK, _whole_file(fcntl.F_RDLCK))
    return struct.unpack("hhqqi0q", answer)[0] != fcntl.F_UNLCK


def _remove_stale(path: Path) -> None:
    """Anybody may make files in /dev/shm: only a lock on a file of our own user counts."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return
    except OSError:
        path.unlink()
        return
    try:
        if _is_owned(descriptor) and os.fstat(descriptor).st_uid == os.geteuid():
            pid = _owner_pid(descriptor)
            raise HostError(f"{path.name} belongs to a running process (pid {pid}): stop it first")
        path.unlink()
    finally:
        os.close(descriptor)


def _sweep(directory: Path) -> None:
    """Old pages of dead processes, whose namespace may be gone and will start nothing again. Young
    ones may still be looked at: they tell how the process ended."""
    for path in directory.glob("m13.*.*.*"):
        try:
            is_old = time.time() - path.lstat().st_ctime > SWEEP_SECONDS
        except OSError:
            continue
        if is_old and _is_trusted(path) and not _is_living(path):
            path.unlink(missing_ok=True)


def _owner_pid(descriptor: int) -> int | str:
    offset, _ = PAGE_FORMS["pid"]
    data = os.pread(descriptor, 4, offset)
    return struct.unpack("<I", data)[0] if len(data) == 4 else "unknown"


def _find(role: str, tun_name: str | None, directory: Path) -> Path:
    """Pages of our own namespace before others, and of those the living before the dead: who asks
    where a tunnel has died wants to know that, not how another one fares."""
    here = _namespace()
    best: dict[tuple[bool, bool], list[Path]] = {}
    for path in sorted(directory.glob(f"m13.{role}.*.*")):
        tun, _, inode = path.name.removeprefix(f"m13.{role}.").rpartition(".")
        if tun_name in (None, tun) and _is_trusted(path):
            best.setdefault((inode == str(here), _is_living(path)), []).append(path)
    if not best:
        wanted = f" with TUN {tun_name}" if tun_name else ""
        raise HostError(f"no m13-{role}{wanted} is running here: start one, or look as root")
    paths = best[max(best)]
    if len(paths) > 1:
        raise HostError(_several(role, max(best), paths))
    return paths[0]


def living_pages(directory: Path = DIRECTORY) -> list[Path]:
    """Of all processes that run and that we may read, by name."""
    paths = sorted(directory.glob("m13.*.*.*"))
    return [path for path in paths if _is_trusted(path) and _is_readable(path) and _is_living(path)]


def _is_readable(path: Path) -> bool:
    return os.access(path, os.R_OK)


def _several(role: str, found: tuple[bool, bool], paths: list[Path]) -> str:
    is_here, is_living = found
    names = ", ".join(
        f"{path.name.split('.', 2)[2].rpartition('.')[0]}: pid {_pid_of(path)}" for path in paths
    )
    what = "are running" if is_living else "have exited"
    where = "here" if is_here else "in other network namespaces"
    how = "with --tun-name" if is_here else "with --tun-name, or ask in its namespace"
    return f"several m13-{role} {what} {where}: choose one {how} ({names})"


def _pid_of(path: Path) -> int | str:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return "unknown"
    try:
        return _owner_pid(descriptor)
    finally:
        os.close(descriptor)


def _is_trusted(path: Path) -> bool:
    try:
        return path.lstat().st_uid in (0, os.geteuid())
    except OSError:
        return False


def _is_living(path: Path) -> bool:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return True  # not ours to read: say so when it is opened
    try:
        return _is_owned(descriptor)
    finally:
        os.close(descriptor)


def _open_page(path: Path) -> int:
    """A descriptor of a page in our layout."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        raise HostError(f"cannot read {path}: {error.strerror} (run as root)") from error
    data = os.pread(descriptor, stats.PAGE_BYTES, 0)
    try:
        _check_layout(path, data)
    except HostError:
        os.close(descriptor)
        raise
    return descriptor


def _check_layout(path: Path, data: bytes) -> None:
    head = Fields(data.ljust(stats.PAGE_BYTES, b"\0"))
    if head["magic"] != stats.MAGIC:
        raise HostError(f"{path} is not a telemetry page of M13: remove it")
    if (head["version"], head["page_bytes"]) != (stats.VERSION, stats.PAGE_BYTES):
        raise HostError(
            f"{path} has layout {head['version']} ({head['page_bytes']} bytes) and we know"
            f" {stats.VERSION} ({stats.PAGE_BYTES} bytes): use the monitor of the same build"
        )
    if len(data) != stats.PAGE_BYTES:
        raise HostError(f"{path} is cut short: restart what wrote it")
