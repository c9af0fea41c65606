"""The tunnels that are compared, each set up as its manual says, on the same bed.

Each carries a node's packets to the hub, whose kernel forwards and masquerades them to the
internet namespace: same addresses, same MTU inside, one tunnel at a time.
"""

import datetime
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, ClassVar

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from bench import traffic
from bench.bed import HUB_ADDRESS, INTERNET_ADDRESS, Bed
from bench.namespace import Namespace
from bench.tunnel import Keys, Program, ProgramError, start_hub, start_node
from m13.host import firewall

BUILT = Path(__file__).parent.parent / "build" / "bench"
MTU = 1400
START_S = 15
BUFFER = str(4 << 20)
TUN_QUEUE = 2000
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
        return ", ".join(_package_version(package) for package in self.packages)

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
        return _output(str(Path(sys.executable).parent / "m13-hub"), "--version").split()[-1]

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


class OpenVpn(Tunnel):
    """TLS with pinned self-signed certificates, AES-256-GCM, UDP. With the default buffers its
    receiver loses a tenth of a TCP flow to its own socket, so it gets what tuning guides advise."""

    name = "openvpn"
    packages = ("openvpn",)
    _OPTIONS = (
        *("--dev", "tun", "--proto", "udp", "--port", "1194", "--tun-mtu", str(MTU)),
        *("--data-ciphers", "AES-256-GCM", "--cipher", "AES-256-GCM", "--verb", "1"),
        *("--sndbuf", BUFFER, "--rcvbuf", BUFFER, "--txqueuelen", str(TUN_QUEUE)),
    )

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self._fingerprints = {side: _self_signed(directory, side) for side in ("hub", "node")}

    def start(self, bed: Bed) -> None:
        _prepare(bed)
        self._run(bed.hub, "hub", "node", "--tls-server", "--dh", "none")
        self._run(bed.node, "node", "hub", "--tls-client", "--remote", HUB_ADDRESS)
        self._wait_until_up(bed)

    def _run(self, namespace: Namespace, side: str, other: str, *options: str) -> None:
        ends = (HUB_TUNNEL, NODE_TUNNEL) if side == "hub" else (NODE_TUNNEL, HUB_TUNNEL)
        routes = () if side == "hub" else ("--route", self.far, "255.255.255.255")
        trust = ("--cert", self._file(side, "crt"), "--key", self._file(side, "key"))
        pin = ("--peer-fingerprint", self._fingerprints[other])
        addresses = ("--ifconfig", *ends)
        argv = ("openvpn", *self._OPTIONS, *options, *addresses, *routes, *trust, *pin)
        self._spawn(side, namespace, *argv)

    def _file(self, side: str, kind: str) -> str:
        return str(self.directory / f"{side}.{kind}")


class WireGuardGo(Tunnel):
    """Debian's, which has no setting for its socket buffers. A newer one differs in `program`
    and `version` only."""

    name = "wireguard-go"
    packages: ClassVar[tuple[str, ...]] = ("wireguard-go", "wireguard-tools")
    program: ClassVar[str] = "wireguard-go"

    def version(self) -> str:
        return _package_version("wireguard-go")

    def start(self, bed: Bed) -> None:
        _prepare(bed)
        keys = {side: self._key(side) for side in ("hub", "node")}
        hub, node = _unique_link("wh"), _unique_link("wn")
        self._run(bed.hub, "hub", hub, f"{HUB_TUNNEL}/24")
        self._run(bed.node, "node", node, f"{NODE_TUNNEL}/24")
        peer = ("peer", keys["node"], "allowed-ips", f"{NODE_TUNNEL}/32")
        self._configure(bed.hub, "hub", hub, "listen-port", "51820", *peer)
        peer = ("peer", keys["hub"], "allowed-ips", "0.0.0.0/0")
        self._configure(bed.node, "node", node, *peer, "endpoint", f"{HUB_ADDRESS}:51820")
        with bed.node.netlink() as netlink:
            index = netlink.link_lookup(ifname=node)[0]
            netlink.route("add", dst=f"{self.far}/32", oif=index)
        self._wait_until_up(bed)

    def stop(self) -> None:
        for process in self.processes.values():
            process.terminate()  # it removes its control socket when it is asked to end
        for process in self.processes.values():
            process.wait(START_S)
        super().stop()

    def _key(self, side: str) -> str:
        """The public key; the private one is in a file for `wg set`."""
        secret = _output("wg", "genkey")
        path = self.directory / f"{side}.key"
        path.touch(mode=0o600)
        path.write_text(secret)
        return _output("wg", "pubkey", given=secret)

    def _run(self, namespace: Namespace, side: str, link: str, address: str) -> None:
        self._spawn(side, namespace, self.program, "--foreground", link)
        control = Path(f"/var/run/wireguard/{link}.sock")
        until = time.monotonic() + START_S
        while not control.exists():
            if self.processes[side].poll() is not None or time.monotonic() > until:
                raise ProgramError(f"{self.program}: {self._log(side).read_text()}")
            time.sleep(0.01)
        namespace.address(link, address)
        with namespace.netlink() as netlink:
            index = netlink.link_lookup(ifname=link)[0]
            netlink.link("set", index=index, mtu=MTU, txqlen=TUN_QUEUE, state="up")

    def _configure(self, namespace: Namespace, side: str, link: str, *words: str) -> None:
        key = str(self.directory / f"{side}.key")
        with namespace.inside():
            _output("wg", "set", link, "private-key", key, *words)


class WireGuardGoNewest(WireGuardGo):
    """Upstream's newest, with its segmentation offloads: built from its Go module, where the
    machine has a Go that can (Debian 12's own is too old)."""

    name = "wireguard-go newest"
    packages = ("wireguard-tools",)
    program = str(BUILT / "wireguard")
    MODULE = "golang.zx2c4.com/wireguard@latest"

    @classmethod
    def is_possible(cls) -> bool:
        return shutil.which("go") is not None

    def version(self) -> str:
        BUILT.mkdir(parents=True, exist_ok=True)
        _output("go", "install", self.MODULE, seconds=300, GOBIN=str(BUILT))
        module = _output("go", "version", "-m", self.program).split("\tmod\t")[1]
        return module.split()[1]


KINDS: tuple[type[Tunnel], ...] = (M13, OpenVpn, WireGuardGo, WireGuardGoNewest, Raw)
TUNNELS = tuple(kind for kind in KINDS if kind.is_possible())


def _prepare(bed: Bed) -> None:
    """What an M13 hub does by itself, and that nothing can pass outside of the tunnel."""
    bed.hub.forward()
    with bed.hub.inside():
        firewall.run(MASQUERADE)
    with bed.node.netlink() as netlink:
        netlink.route("del", dst="0.0.0.0/0", gateway=HUB_ADDRESS)


def _unique_link(prefix: str) -> str:
    """wireguard-go's control sockets of all namespaces lie in one directory."""
    return f"{prefix}{os.getpid()}"


def _self_signed(directory: Path, side: str) -> str:
    """A P-256 certificate and its key; its SHA-256 fingerprint as OpenVPN writes it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, f"bench {side}")])
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    day = datetime.timedelta(days=1)
    builder = builder.not_valid_before(now - day).not_valid_after(now + day)
    certificate = builder.sign(key, hashes.SHA256())
    secret = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    path = directory / f"{side}.key"
    path.touch(mode=0o600)
    path.write_bytes(secret)
    (directory / f"{side}.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    return certificate.fingerprint(hashes.SHA256()).hex(":").upper()


def _package_version(package: str) -> str:
    return _output("dpkg-query", "-W", "-f=${Version}", package)


def _output(*argv: str, given: str = "", seconds: float = 30, **environment: str) -> str:
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
