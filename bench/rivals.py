"""The other tunnels, each set up as its manual says and tuned as it advises for throughput."""

import datetime
import json
import os
import shutil
import time
from pathlib import Path
from typing import Any, ClassVar

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from bench.bed import HUB_ADDRESS, Bed
from bench.contenders import (
    HUB_TUNNEL,
    MTU,
    NODE_TUNNEL,
    START_S,
    Tunnel,
    output,
    package_version,
    prepare,
)
from bench.namespace import Namespace
from bench.tunnel import ProgramError

BUILT = Path(__file__).parent.parent / "build" / "bench"
TUN_QUEUE = 2000


class OpenVpn(Tunnel):
    """TLS with pinned self-signed certificates, AES-256-GCM, UDP. With the default buffers its
    receiver loses a tenth of a TCP flow to its own socket, so it gets what tuning guides advise."""

    name = "openvpn"
    packages = ("openvpn",)
    _BUFFER = str(4 << 20)
    _OPTIONS = (
        *("--dev", "tun", "--proto", "udp", "--port", "1194", "--tun-mtu", str(MTU)),
        *("--data-ciphers", "AES-256-GCM", "--cipher", "AES-256-GCM", "--verb", "1"),
        *("--sndbuf", _BUFFER, "--rcvbuf", _BUFFER),
        *("--txqueuelen", str(TUN_QUEUE)),
    )

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self._fingerprints = {side: _self_signed(directory, side) for side in ("hub", "node")}

    def start(self, bed: Bed) -> None:
        prepare(bed)
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
        return package_version("wireguard-go")

    def start(self, bed: Bed) -> None:
        prepare(bed)
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
        secret = output("wg", "genkey")
        path = self.directory / f"{side}.key"
        path.touch(mode=0o600)
        path.write_text(secret)
        return output("wg", "pubkey", given=secret)

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
            output("wg", "set", link, "private-key", key, *words)


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
        output("go", "install", self.MODULE, seconds=300, GOBIN=str(BUILT))
        module = output("go", "version", "-m", self.program).split("\tmod\t")[1]
        return module.split()[1]


class Nebula(Tunnel):
    """Noise IX with certificates of a CA of our own, AES-256-GCM, UDP. The hub is the lighthouse,
    and the node's way to the internet is an unsafe route, which the hub's certificate allows. Its
    buffers are those of its example configuration. Both ends share the processors, so each gets
    half of them as routines; on two cores, two routines and larger batches were no faster."""

    name = "nebula"
    packages = ("nebula",)
    _PORT = 4242
    _LINK = "nebula0"
    _BATCH = 64  # its default
    _BUFFER_BYTES = 10 << 20

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        output("nebula-cert", "ca", "-name", "bench", *self._files("ca"))
        signed = ("-ca-crt", self._file("ca", "crt"), "-ca-key", self._file("ca", "key"))
        for side, address in (("hub", HUB_TUNNEL), ("node", NODE_TUNNEL)):
            behind = ("-subnets", f"{self.far}/32") if side == "hub" else ()
            named = ("-name", side, "-ip", f"{address}/24")
            output("nebula-cert", "sign", *signed, *named, *behind, *self._files(side))

    def start(self, bed: Bed) -> None:
        prepare(bed)
        self._run(bed.hub, "hub", port=self._PORT, lighthouse={"am_lighthouse": True})
        self._run(
            bed.node,
            "node",
            lighthouse={"am_lighthouse": False, "hosts": [HUB_TUNNEL]},
            hosts={HUB_TUNNEL: [f"{HUB_ADDRESS}:{self._PORT}"]},
            routes=[{"route": f"{self.far}/32", "via": HUB_TUNNEL}],
        )
        self._wait_until_up(bed)

    def _run(
        self,
        namespace: Namespace,
        side: str,
        *,
        lighthouse: dict[str, Any],
        port: int = 0,
        hosts: dict[str, list[str]] | None = None,
        routes: list[dict[str, str]] | None = None,
    ) -> None:
        everything = [{"port": "any", "proto": "any", "host": "any"}]
        configuration = {
            "pki": {
                "ca": self._file("ca", "crt"),
                "cert": self._file(side, "crt"),
                "key": self._file(side, "key"),
            },
            "static_host_map": hosts or {},
            "lighthouse": lighthouse,
            "listen": {
                "host": "0.0.0.0",
                "port": port,
                "batch": self._BATCH,
                "read_buffer": self._BUFFER_BYTES,
                "write_buffer": self._BUFFER_BYTES,
            },
            "routines": max(1, len(os.sched_getaffinity(0)) // 2),
            "cipher": "aes",
            "tun": {
                "dev": self._LINK,
                "mtu": MTU,
                "tx_queue": TUN_QUEUE,
                "unsafe_routes": routes or [],
            },
            "logging": {"level": "warning"},
            "firewall": {"outbound": everything, "inbound": everything},
        }
        path = self.directory / f"{side}.yml"
        path.write_text(json.dumps(configuration))  # JSON is YAML
        self._spawn(side, namespace, "nebula", "-config", str(path))

    def _files(self, name: str) -> tuple[str, ...]:
        return ("-out-crt", self._file(name, "crt"), "-out-key", self._file(name, "key"))

    def _file(self, name: str, kind: str) -> str:
        return str(self.directory / f"{name}.{kind}")


RIVALS: tuple[type[Tunnel], ...] = (OpenVpn, WireGuardGo, WireGuardGoNewest, Nebula)


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
