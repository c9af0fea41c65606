"""Hub and nodes in a bed, started by their console scripts as a user would start them."""

import itertools
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.bed import HUB_ADDRESS, Bed
from bench.namespace import Namespace
from m13.errors import HostError
from m13.telemetry import TelemetryReader

SCRIPTS = Path(sys.executable).parent
PORT = 443
START_S, STOP_S = 15, 10
POLL_S = 0.002
NAMES = ("node", "node2")


class ProgramError(Exception):
    """A program did not do what it was started for; ends with what it logged last."""


class Keys:
    """Identities made by `m13 keygen`, and the roster that admits the nodes among them."""

    def __init__(self, directory: Path, names: Sequence[str] = ("hub", *NAMES)) -> None:
        self.directory = directory
        self.fingerprints: dict[str, str] = {}
        for name in names:
            _m13("keygen", str(self.identity(name)))
            self.fingerprints[name] = _m13("fingerprint", str(self.identity(name))).strip()
        self.roster = directory / "nodes.toml"
        self.roster.write_text(
            "".join(
                f'[[node]]\nname = "{name}"\nkey = "{self.fingerprints[name]}"\n'
                f'address = "{tunnel_address(name)}"\n'
                for name in NAMES
                if name in names
            )
        )

    def identity(self, name: str) -> Path:
        return self.directory / name


def tunnel_address(name: str) -> str:
    return f"10.13.0.{2 + NAMES.index(name)}"


class Program:
    """A hub or a node that runs, its log and its telemetry."""

    _numbers = itertools.count(1)

    def __init__(self, bed: Bed, namespace: Namespace, role: str, argv: list[str]) -> None:
        self.bed, self.namespace, self.role = bed, namespace, role
        self._log = bed.directory / f"{role}-{next(Program._numbers)}.log"
        self.argv = [str(SCRIPTS / f"m13-{role}"), *argv]
        environment = {**os.environ, "M13_RUN_DIR": str(bed.run_directory)}
        with self._log.open("wb") as log:
            self.process = namespace.spawn(
                self.argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment
            )

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def wait_log(self, pattern: str, timeout_s: float = START_S) -> re.Match[str]:
        """The first line of the log that matches; ProgramError when it does not come."""
        until = time.monotonic() + timeout_s
        while True:
            ended = self.process.poll() is not None
            if match := re.search(pattern, self.log, re.MULTILINE):
                return match
            if ended or time.monotonic() > until:
                happened = "ended" if ended else f"did nothing for {timeout_s} s"
                raise ProgramError(f"m13-{self.role} {happened} before '{pattern}':\n{self.log}")
            time.sleep(POLL_S)

    def snapshot(self) -> dict[str, Any]:
        with self.namespace.inside(), TelemetryReader.open(self.role) as reader:
            return reader.snapshot()

    def wait_state(self, state: str, timeout_s: float = START_S) -> dict[str, Any]:
        """Until telemetry says so, for a node."""
        until = time.monotonic() + timeout_s
        found: dict[str, Any] = {}
        while found.get("state") != state:
            if self.process.poll() is not None or time.monotonic() > until:
                raise ProgramError(f"m13-{self.role} is not {state}: {found}\n{self.log}")
            time.sleep(POLL_S)
            try:
                found = self.snapshot()
            except HostError:
                found = {}
            if found.get("stale") or found.get("pid") != self.process.pid:
                found = {}
        return found

    def stop(self, number: int = signal.SIGTERM) -> int:
        """End it as a service manager does; its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            return self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.kill()
            raise ProgramError(f"m13-{self.role} ignored signal {number}:\n{self.log}") from None

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


def start_hub(bed: Bed, keys: Keys, *options: str, wait: bool = True) -> Program:
    files = ["--identity", str(keys.identity("hub")), "--nodes", str(keys.roster)]
    hub = Program(bed, bed.hub, "hub", [bed.hub_interface, "--tunnel", *files, *options])
    if wait:
        hub.wait_log(r"\bready: ")
    return hub


def start_node(
    bed: Bed,
    keys: Keys,
    *options: str,
    name: str = "node",
    identity: str | None = None,
    wait: bool = True,
) -> Program:
    trust = ["--identity", str(keys.identity(identity or name))]
    trust += ["--hub-key", keys.fingerprints["hub"]]
    argv = ["--hub", f"{HUB_ADDRESS}:{PORT}", "--tunnel", *trust, *options]
    node = Program(bed, bed.namespaces[name], "node", argv)
    if wait:
        # the control process opens the tunnel a moment after the reactor has the session
        node.wait_log(r"\btunnel [0-9.]+/\d+, MTU")
    return node


def _m13(*words: str) -> str:
    done = subprocess.run([SCRIPTS / "m13", *words], capture_output=True, text=True, timeout=30)
    if done.returncode != 0:
        raise ProgramError(f"m13 {' '.join(words)}: {done.stderr.strip()}")
    return done.stdout
