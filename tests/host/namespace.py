"""A network namespace to change, an exact picture of it, and processes that change it.

The picture is taken with iproute2 and nft, which share no code with what is under test.
"""

import contextlib
import ctypes
import json
import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

ROOT = Path(__file__).parents[2]
TIMEOUT_S = 30
CLONE_NEWNET = 0x40000000  # linux/sched.h
LIBC = ctypes.CDLL(None, use_errno=True)

SETTINGS = """
import json, pathlib
found = {}
for path in sorted(pathlib.Path("/proc/sys/net").rglob("*")):
    try:
        found[str(path)] = path.read_text() if path.is_file() else None
    except OSError:
        pass
print(json.dumps({k: v for k, v in found.items() if not k.endswith("nf_conntrack_count")}))
"""

OWNER = """
import sys
from m13.host.journal import Journal
with Journal.open("test", {tun!r}) as journal:
{body}
    print("ready", flush=True)
    sys.stdin.read()
"""


class Namespace:
    """With `as`: the namespace, its journals below `run_directory`; removed at the end."""

    _made = 0

    def __init__(self, run_directory: Path, topic: str = "host") -> None:
        Namespace._made += 1
        self.name = f"m13-{topic}-{os.getpid()}-{Namespace._made}"
        self._environment = {**os.environ, "M13_RUN_DIR": str(run_directory)}
        self._processes: list[subprocess.Popen[str]] = []

    def __enter__(self) -> Self:
        subprocess.run(["ip", "netns", "add", self.name], check=True)
        # an address that waits for duplicates to answer changes by itself, a second later
        self.command("sysctl", "-qw", "net.ipv6.conf.default.accept_dad=0")
        self.ip("link", "set", "lo", "up")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for process in self._processes:
            process.kill()
            process.communicate()
        subprocess.run(["ip", "netns", "del", self.name], check=True)

    def command(self, *words: str) -> str:
        enter = ["ip", "netns", "exec", self.name]
        return subprocess.run(
            [*enter, *words],
            check=True,
            capture_output=True,
            text=True,
            cwd=ROOT,
            env=self._environment,
            timeout=TIMEOUT_S,
        ).stdout

    def ip(self, *words: str) -> Any:
        output = self.command("ip", "-json", "-details", *words)
        return json.loads(output) if output.strip() else []

    def veth(self, name: str, peer: str, address: str, *, peer_namespace: str) -> None:
        self.ip("link", "add", name, "type", "veth", "peer", peer, "netns", peer_namespace)
        self.ip("addr", "add", address, "dev", name)
        self.ip("link", "set", name, "up")

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        """This thread is in it."""
        with open("/proc/thread-self/ns/net") as before:
            with open(f"/run/netns/{self.name}") as there:
                _enter(there.fileno())
            try:
                yield
            finally:
                _enter(before.fileno())

    def python(self, code: str) -> Any:
        """Run code that prints JSON."""
        return json.loads(self.command(sys.executable, "-c", textwrap.dedent(code)))

    def owner(self, body: str, tun: str = "m13t0") -> subprocess.Popen[str]:
        """A process that makes changes through `journal` and then holds them."""
        indented = textwrap.indent(textwrap.dedent(body), "    ")
        process = subprocess.Popen(
            [
                "ip",
                "netns",
                "exec",
                self.name,
                sys.executable,
                "-c",
                OWNER.format(body=indented, tun=tun),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=self._environment,
        )
        self._processes.append(process)
        assert process.stdout is not None
        assert process.stderr is not None
        if process.stdout.readline() != "ready\n":
            raise AssertionError(process.stderr.read())
        return process

    def leave(self, process: subprocess.Popen[str]) -> str:
        """Let an owner end as it should; returns what it logged."""
        _, errors = process.communicate(timeout=TIMEOUT_S)
        assert process.returncode == 0, errors
        return errors

    def kill(self, process: subprocess.Popen[str]) -> None:
        process.kill()
        process.communicate(timeout=TIMEOUT_S)

    def settled_picture(self) -> dict[str, Any]:
        """When the kernel is done with what follows a link's coming up, such as its routes."""
        last: dict[str, Any] = {}
        until = time.monotonic() + TIMEOUT_S
        while (picture := self.picture()) != last:
            assert time.monotonic() < until, "the namespace does not come to rest"
            last = picture
            time.sleep(0.05)
        return picture

    def picture(self) -> dict[str, Any]:
        return {
            "settings": self.python(SETTINGS),
            "links": _without(self.ip("link"), "stats", "stats64"),
            "addresses": _without(self.ip("addr"), "valid_life_time", "preferred_life_time"),
            "routes": self.ip("route", "show", "table", "all"),
            "routes6": self.ip("-6", "route", "show", "table", "all"),
            "rules": self.ip("rule"),
            "queueing": self.command("tc", "qdisc"),
            "firewall": self.command("nft", "list", "ruleset"),
        }


def _enter(descriptor: int) -> None:
    assert LIBC.setns(descriptor, CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())


def _without(entries: list[dict[str, Any]], *names: str) -> list[dict[str, Any]]:
    for entry in entries:
        for part in (entry, *entry.get("addr_info", [])):
            for name in names:
                part.pop(name, None)
    return entries
