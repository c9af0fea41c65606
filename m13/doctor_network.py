"""What the doctor asks of XDP, the firewall, the queueing and the hub's interface.

Whether the kernel has masquerading or `fq` is tried, not guessed: in a network namespace of our
own, which vanishes with the thread that made it.
"""

import ctypes
import os
import socket
import threading
from collections.abc import Callable, Iterable
from contextlib import closing
from functools import partial
from pathlib import Path

from pyroute2 import Ethtool

from m13.doctor_finding import Check, Verdict, fail, has_capability, ok, unseen, warn
from m13.errors import UsageError
from m13.host import link, sysctl

CLONE_NEWNET = 0x40000000
AF_XDP = 44
BPF_PROG_TYPE_XDP = 6
BPF_MAP_TYPE_XSKMAP = 17
CAP_NET_ADMIN, CAP_SYS_ADMIN, CAP_BPF = 12, 21, 39

OPTMEM_BYTES = 2 << 20
# A frame of 4096 bytes less XDP headroom and the kernel's tail.
XDP_MTU_MAX = 3498

RULESET = b"""table ip m13_doctor {
    chain postrouting { type nat hook postrouting priority srcnat; masquerade; }
    chain forward {
        type filter hook forward priority 0;
        ct state established,related accept
        tcp flags syn tcp option maxseg size set rt mtu
    }
}
"""


def xdp() -> Verdict:
    if not (has_capability(CAP_BPF) and has_capability(CAP_NET_ADMIN)):
        return unseen("whether XDP programs load")
    libbpf = ctypes.CDLL("libbpf.so.1")
    mend = "use a kernel with CONFIG_BPF_SYSCALL and CONFIG_XDP_SOCKETS"
    if libbpf.libbpf_probe_bpf_prog_type(BPF_PROG_TYPE_XDP, None) != 1:
        return fail("no XDP programs", mend)
    if libbpf.libbpf_probe_bpf_map_type(BPF_MAP_TYPE_XSKMAP, None) != 1:
        return fail("no XSK maps", mend)
    try:
        socket.socket(AF_XDP, socket.SOCK_RAW).close()
    except OSError as error:
        return fail(f"no AF_XDP sockets: {error.strerror}", mend)
    if sysctl.read("net/core/bpf_jit_enable") == "0":
        return warn("programs are interpreted", "sysctl -w net.core.bpf_jit_enable=1")
    return ok("programs, XSK maps and AF_XDP sockets")


def nftables() -> Verdict:
    if not has_capability(CAP_SYS_ADMIN):
        return unseen("whether nftables works")
    complaint = _in_scratch_namespace(_apply_ruleset)
    if complaint:
        return fail(complaint, "modprobe -a nf_tables nft_masq nft_ct nft_rt")
    return ok("masquerade, connection tracking and MSS clamp")


def fair_queueing() -> Verdict:
    if not has_capability(CAP_SYS_ADMIN):
        return unseen("whether fq works")
    complaint = _in_scratch_namespace(_add_fair_queueing)
    if complaint:
        return warn(f"none ({complaint})", "modprobe sch_fq; the tunnel also works without")
    return ok("sch_fq")


def optmem() -> Verdict:
    text = sysctl.read("net/core/optmem_max")
    if text is None:
        return warn("not visible in this network namespace", "look in the first one")
    if int(text) < OPTMEM_BYTES:
        mend = f"sysctl -w net.core.optmem_max={OPTMEM_BYTES}"
        return warn(f"{text} bytes, {OPTMEM_BYTES} recommended", mend)
    return ok(f"{text} bytes")


def interface(name: str) -> Verdict:
    found = link.find_name(name)
    device = Path(f"/sys/class/net/{name}/device/driver")
    driver = device.resolve().name if device.exists() else "no hardware"
    state = "up" if found.is_up else "down"
    text = f"{name}: {driver}, MTU {found.mtu}, {state}"
    if state == "down":
        return warn(text, f"ip link set {name} up")
    if found.mtu > XDP_MTU_MAX:
        mend = f"ip link set {name} mtu 1500"
        return warn(f"{text}: drivers refuse XDP above MTU {XDP_MTU_MAX}", mend)
    if found.has_xdp:
        mend = f"unless m13-hub runs now: ip link set {name} xdp off"
        return warn(f"{text}, and an XDP program is attached", mend)
    return ok(text)


def queues(name: str) -> Verdict:
    with closing(Ethtool()) as ethtool:
        channels = ethtool.get_channels(name)
    count = max(channels.combined_count or 0, channels.rx_count or 0)
    if count > 1:
        return warn(
            f"{name} spreads packets over {count} queues and the hub serves one",
            f"ethtool -L {name} combined 1, or steer the port to the queue of --single-queue",
        )
    return ok(f"{name} has one")


def vlan_offload(name: str) -> Verdict:
    with closing(Ethtool()) as ethtool:
        feature = ethtool.get_features(name).features.get("rx-vlan-hw-parse")
    if feature is not None and feature.enable:
        mend = f"ethtool -K {name} rxvlan off"
        return warn(f"{name} takes VLAN tags off before XDP sees the packet", mend)
    return ok(f"{name} leaves VLAN tags in place")


def checks(name: str | None) -> Iterable[Check]:
    yield Check("XDP", "steers the hub's packets past the kernel's stack", xdp)
    yield Check("nftables", "nodes reach the internet through the hub's NAT", nftables)
    yield Check("fq qdisc", "paces what leaves the TUN", fair_queueing)
    yield Check("optmem_max", "ancillary data of sockets, up to that many bytes", optmem)
    name = name or default_route_interface()
    if name is None:
        nothing = warn("none named, and no default route", "m13 doctor --interface IFACE")
        yield Check("interface", "the hub receives there", lambda: nothing)
        return
    yield Check("interface", "the hub receives there", partial(interface, name))
    yield Check("NIC queues", "AF_XDP sees only the queue it is bound to", partial(queues, name))
    yield Check("VLAN offload", "a tag taken off by the NIC is lost", partial(vlan_offload, name))


def check_interface(name: str) -> None:
    try:
        socket.if_nametoindex(name)
    except OSError as error:
        present = ", ".join(sorted(name for _, name in socket.if_nameindex()))
        raise UsageError(f"there is no interface '{name}' here: use one of {present}") from error


def default_route_interface() -> str | None:
    """Of IPv4, and where there is none of IPv6."""
    for line in Path("/proc/net/route").read_text(encoding="ascii").splitlines()[1:]:
        name, destination, *_ = line.split()
        if destination == "00000000":
            return name
    return _default_route_interface6()


def _default_route_interface6() -> str | None:
    """The kernel has an unreachable one on lo (net/ipv6/route.c)."""
    table = Path("/proc/net/ipv6_route")
    for line in table.read_text(encoding="ascii").splitlines() if table.exists() else ():
        destination, bits, *_, name = line.split()
        if destination == "0" * 32 and bits == "00" and name != "lo":
            return name
    return None


def _in_scratch_namespace(attempt: Callable[[], str]) -> str:
    """Run `attempt` in an empty namespace; a namespace belongs to a thread, so ours is safe."""
    answers: list[str] = []

    def work() -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.unshare(CLONE_NEWNET):
            answers.append(f"no namespace to try it in: {os.strerror(ctypes.get_errno())}")
        else:
            answers.append(attempt())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    return answers[0] if answers else "the attempt failed"


def _apply_ruleset() -> str:
    library = ctypes.CDLL("libnftables.so.1")
    library.nft_ctx_new.restype = ctypes.c_void_p
    library.nft_ctx_get_error_buffer.restype = ctypes.c_char_p
    context = ctypes.c_void_p(library.nft_ctx_new(0))
    try:
        library.nft_ctx_buffer_error(context)
        if library.nft_run_cmd_from_buffer(context, RULESET) == 0:
            return ""
        complaint = library.nft_ctx_get_error_buffer(context).decode()
        return complaint.splitlines()[0] if complaint else "refused"
    finally:
        library.nft_ctx_free(context)


def _add_fair_queueing() -> str:
    try:
        link.queue_fairly(socket.if_nametoindex("lo"))
    except OSError as error:
        return os.strerror(error.errno or 0)
    return ""
