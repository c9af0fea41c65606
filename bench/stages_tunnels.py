"""What bench.stages runs on the bed: M13 with each receiver, sealed and in the clear, and the
kernel's bare interfaces that stand behind either receiver."""

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from bench import stages_build
from bench.bed import HUB_ADDRESS, Bed
from bench.contenders import HUB_TUNNEL, M13, MTU, NODE_TUNNEL, START_S, Tunnel, prepare
from bench.namespace import Namespace
from bench.rivals import TUN_QUEUE
from bench.tunnel import ProgramError, start_hub, start_node

NODE_OUTER = "192.0.2.2"
LINK = "raw0"
LIFE_S = 300  # a raw loop ends by itself after that, whatever becomes of the bench


class Sealed(M13):
    """As it ships, with one receiver on the hub."""

    rx: ClassVar[str]
    environment: ClassVar[dict[str, str]] = {}

    def start(self, bed: Bed) -> None:
        with _environment(self.environment):
            hub = start_hub(bed, self._keys, "--mtu", str(MTU), "--rx", self.rx)
            self._programs = {"hub": hub}
            self._programs["node"] = start_node(bed, self._keys)
        self.processes = {side: program.process for side, program in self._programs.items()}
        self._require_backend()
        self._wait_until_up(bed)

    def _require_backend(self) -> None:
        """ProgramError when encryption is not as this contender says."""
        for side, snapshot in self.snapshot().items():
            is_clear = snapshot["aead"] == stages_build.CLEAR_NAME
            if is_clear != bool(self.environment):
                raise ProgramError(f"{self.name}: the {side} seals with {snapshot['aead']}")


class Clear(Sealed):
    """Of the build in the clear; its modules come first on the path of our console scripts."""

    environment: ClassVar[dict[str, str]] = {
        "PYTHONPATH": str(stages_build.CLEAR),
        stages_build.CLEAR_CONSENT: "yes",
    }


class SealedUdp(Sealed):
    name, rx = "m13 udp", "udp"


class SealedXdp(Sealed):
    name, rx = "m13 xdp", "xdp"


class ClearUdp(Clear):
    name, rx = "clear udp", "udp"


class ClearXdp(Clear):
    name, rx = "clear xdp", "xdp"


class RawLoop(Tunnel):
    """bench/raw_loop.c at both ends."""

    kind: ClassVar[str]
    is_rival = False

    def start(self, bed: Bed) -> None:
        prepare(bed)
        ends = {"hub": (bed.hub, bed.hub_interface), "node": (bed.node, bed.node_interface)}
        macs = {side: _mac(*end) for side, end in ends.items()}
        outer = {"hub": HUB_ADDRESS, "node": NODE_OUTER}
        for side, other in (("hub", "node"), ("node", "hub")):
            namespace, interface = ends[side]
            words = (self.kind, LINK, interface, outer[side], outer[other], macs[other])
            program = str(stages_build.program("raw_loop"))
            self._spawn(side, namespace, program, *words, str(LIFE_S))
            inner = HUB_TUNNEL if side == "hub" else NODE_TUNNEL
            self._set_up(namespace, side, f"{inner}/24")
        with bed.node.netlink() as netlink:
            index = netlink.link_lookup(ifname=LINK)[0]
            netlink.route("add", dst=f"{self.far}/32", oif=index)
        self._wait_until_up(bed)

    def stop(self) -> None:
        for process in self.processes.values():
            process.terminate()
        for process in self.processes.values():
            process.wait(START_S)
        super().stop()

    def _set_up(self, namespace: Namespace, side: str, address: str) -> None:
        until = time.monotonic() + START_S
        with namespace.netlink() as netlink:
            while not (found := netlink.link_lookup(ifname=LINK)):
                if self.processes[side].poll() is not None or time.monotonic() > until:
                    raise ProgramError(f"{self.name}: {self._logs()}")
                time.sleep(0.01)
            namespace.address(LINK, address)
            netlink.link("set", index=found[0], mtu=MTU, txqlen=TUN_QUEUE, state="up")


class RawSocket(RawLoop):
    name, kind = "raw socket", "socket"


class RawXdp(RawLoop):
    name, kind = "raw xdp", "xdp"


# Per receiver: as it ships, in the clear, and the bare interfaces.
TRIOS: dict[str, tuple[type[Tunnel], type[Tunnel], type[Tunnel]]] = {
    "udp": (SealedUdp, ClearUdp, RawSocket),
    "xdp": (SealedXdp, ClearXdp, RawXdp),
}


@contextlib.contextmanager
def _environment(added: dict[str, str]) -> Iterator[None]:
    """Of what is started meanwhile. This process loaded its own modules long ago."""
    before = {name: os.environ.get(name) for name in added}
    os.environ.update(added)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _mac(namespace: Namespace, interface: str) -> str:
    with namespace.netlink() as netlink:
        link = netlink.get_links(netlink.link_lookup(ifname=interface)[0])[0]
        return str(link.get_attr("IFLA_ADDRESS"))


def make(root: Path, kinds: list[type[Tunnel]]) -> list[Tunnel]:
    """One of each, with a directory of its own."""
    made = []
    for kind in kinds:
        own = root / kind.name.replace(" ", "-")
        own.mkdir()
        made.append(kind(own))
    return made
