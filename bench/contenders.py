"""What a contender is, M13 as one, and the bed without a tunnel; the others are in rivals.

Each carries a node's packets to the hub, whose kernel forwards and masquerades them to the
internet namespace: same addresses, same MTU inside, one tunnel at a time.
"""

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, ClassVar

from bench import traffic
from bench.bed import HUB_ADDRESS, INTERNET_ADDRESS, Bed
from bench.namespace import Namespace
from bench.tunnel import Keys, Program, ProgramError, start_hub, start_node
from m13.host import firewall

MTU = 1400
START_S = 15
HUB_TUNNEL, NODE_TUNNEL = "10.13.0.1", "10.13.0.2"
MASQUERADE = """table ip bench {
    chain out { type nat hook postrouting priority 100; oifname "net0" masquerade; }
}"""


class Tunnel:
    """A contender. It is measured between `near` in the node's namespace and `far` in the
    internet's, after `start` and until `stop`; the bed ends whatever is left."""

    name: ClassVar[str]
    is_rival: ClassVar[bool] = True
    packages: ClassVar[tuple[str, ...]] = ()
    far: ClassVar[str] = INTERNET_ADDRESS
    near: ClassVar[str] = NODE_TUNNEL

    def __init__(self, directory: Path) -> None:
        """`directory` is ours for keys and logs, for the whole run."""
        self.directory = directory
        self.processes: dict[str, subprocess.Popen[bytes]] = {}  # by side

    @classmethod
    def is_possible(cls) -> bool:
        """False: this machine cannot have it, so it is not asked for."""
        return True

    def version(self) -> str:
        return ", ".join(package_version(package) for package in self.packages)

    def start(self, bed: Bed) -> None:
        raise NotImplementedError

    def stop(self) -> None:
        self.processes.clear()

    def snapshot(self) -> dict[str, dict[str, Any]]:
        """Its own counters by side, where it has any."""
        return {}

    def _spawn(self, side: str, namespace: Namespace, *argv: str) -> None:
        with self._log(side).open("wb") as log:
            process = namespace.spawn(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.processes[side] = process

    def _wait_until_up(self, bed: Bed) -> None:
        until = time.monotonic() + START_S
        while not self._answers(bed):
            ended = any(process.poll() is not None for process in self.processes.values())
            if ended or time.monotonic() > until:
                raise ProgramError(f"{self.name} carries nothing:\n{self._logs()}")

    def _answers(self, bed: Bed) -> bool:
        try:
            return bool(traffic.ping(bed.node, self.far, wait_s=0.2))
        except OSError:  # no route yet
            time.sleep(0.05)
            return False

    def _logs(self) -> str:
        """The end of what both sides said."""
        return "\n".join(self._log(side).read_text()[-1500:] for side in self.processes)

    def _log(self, side: str) -> Path:
        return self.directory / f"{side}.log"


class Raw(Tunnel):
    """No tunnel: what the bed itself carries, the ceiling."""

    name = "raw veth"
    is_rival = False
    near = "192.0.2.2"

    def version(self) -> str:
        return "no tunnel"

    def start(self, bed: Bed) -> None:
        bed.hub.forward()
        limit = {"attrs": [["RTAX_MTU", MTU]]}
        with bed.node.netlink() as netlink:
            netlink.route("add", dst=f"{self.far}/32", gateway=HUB_ADDRESS, metrics=limit)
        with bed.internet.netlink() as netlink:
            netlink.route("add", dst="192.0.2.0/24", gateway="198.51.100.1", metrics=limit)
        self._wait_until_up(bed)


class M13(Tunnel):
    name = "m13"
    is_rival = False

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self._keys = Keys(directory)
        self._programs: dict[str, Program] = {}

    def version(self) -> str:
        return output(str(Path(sys.executable).parent / "m13-hub"), "--version").split()[-1]

    def start(self, bed: Bed) -> None:
        options = ("--mtu", str(MTU))
        self._programs = {"hub": start_hub(bed, self._keys, *options)}
        self._programs["node"] = start_node(bed, self._keys)
        self.processes = {side: program.process for side, program in self._programs.items()}
        self._wait_until_up(bed)

    def stop(self) -> None:
        for program in reversed(self._programs.values()):
            program.stop()
        self._programs.clear()
        super().stop()

    def snapshot(self) -> dict[str, dict[str, Any]]:
        return {side: program.snapshot() for side, program in self._programs.items()}

    def _logs(self) -> str:
        return "\n".join(program.log[-1500:] for program in self._programs.values())


def prepare(bed: Bed) -> None:
    """What an M13 hub does by itself, and that nothing can pass outside of the tunnel."""
    bed.hub.forward()
    with bed.hub.inside():
        firewall.run(MASQUERADE)
    with bed.node.netlink() as netlink:
        netlink.route("del", dst="0.0.0.0/0", gateway=HUB_ADDRESS)


def package_version(package: str) -> str:
    return output("dpkg-query", "-W", "-f=${Version}", package)


def output(*argv: str, given: str = "", seconds: float = 30, **environment: str) -> str:
    done = subprocess.run(
        argv,
        input=given,
        capture_output=True,
        text=True,
        timeout=seconds,
        env={**os.environ, **environment},
    )
    if done.returncode != 0:
        raise ProgramError(f"{' '.join(argv[:3])}: {done.stderr.strip()}")
    return done.stdout.strip()
