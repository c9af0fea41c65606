"""AF_XDP or a UDP socket: what the NIC can do, and if that does not tell, what each costs here.

AF_XDP has the benefit of the doubt: it is done with a flood before the kernel's own network sees
any of it, and only a socket that costs clearly less makes up for that.
"""

from typing import Any

from hub.receive_cost import Costs, Likeness, measure
from m13.host import nic, xdp_support
from m13.host.xdp_support import XdpSupport

CLEARLY_LESS = 0.8
# As its end of a veth has them, so has the NIC: how the kernel cuts, sums and joins there.
COPIED_FEATURES = (
    "tx-scatter-gather",
    "tx-generic-segmentation",
    "tx-udp-segmentation",
    "rx-checksum",
    "rx-gro",
    "rx-gro-list",
    "rx-udp-gro-forwarding",
)
SUMS_OUTWARD = ("tx-checksum-ip-generic", "tx-checksum-ipv4")  # a NIC has one of them, or none

Choice = tuple[str, str]  # "xdp" or "udp"; a line for the log, or nothing


def choose(settings: Any) -> Choice:
    """`settings` as hub.app has them. Takes up to 0.2 s; leaves nothing on the machine."""
    if settings.rx != "auto":
        return settings.rx, ""
    if settings.single_queue is not None or settings.xdp != "auto":
        return "xdp", ""  # options that only AF_XDP has
    try:
        facts = nic.inspect(settings.interface)
        support = xdp_support.ask(facts.index)
        known = choose_by_driver(facts.driver, support)
        if known:
            return known
        likeness = likeness_of(facts.driver, support, nic.features(settings.interface))
        return choose_by_costs(measure(likeness, settings.mtu), likeness.xdp)
    except OSError as error:
        return "xdp", f"receive: AF_XDP, without a measurement: {error.strerror or error}"


def choose_by_driver(driver: str, support: XdpSupport | None) -> Choice | None:
    """What needs no measurement. `support` is None where the kernel does not tell."""
    if support and support.zero_copy:
        return "xdp", f"receive: AF_XDP, {driver} has zero-copy"
    if support and not support.native and driver == "veth":
        # a veth hands a sender's train over whole; native XDP has it cut, generic drops it
        return "udp", "receive: UDP socket, this veth has no native XDP"
    return None


def likeness_of(driver: str, support: XdpSupport | None, features: dict[str, bool]) -> Likeness:
    """`features` are the NIC's, as nic.features tells them."""
    near = {name: features.get(name, False) for name in COPIED_FEATURES}
    near[SUMS_OUTWARD[0]] = any(features.get(name, False) for name in SUMS_OUTWARD)
    far = {SUMS_OUTWARD[0]: near["rx-checksum"]}  # what need not be summed here counts as summed
    if driver != "veth":
        far["tx-udp-segmentation"] = False  # packets come off a wire one by one
    generic = support is not None and not support.native
    return Likeness("generic" if generic else "native", near, far)


def choose_by_costs(costs: Costs, xdp_mode: str) -> Choice:
    ways = [("xdp", f"{xdp_mode} XDP (copy)", costs.xdp_ns), ("udp", "UDP socket", costs.udp_ns)]
    if costs.udp_ns < CLEARLY_LESS * costs.xdp_ns:
        ways.reverse()
    (chosen, name, ns), (_, other, other_ns) = ways
    return chosen, f"receive: {name}, {ns:.0f} ns a frame against {other_ns:.0f} by {other}"
