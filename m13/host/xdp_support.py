"""What a network driver can do for XDP, asked of the kernel (Linux 6.3 and newer know)."""

import errno
from dataclasses import dataclass

from pyroute2.netlink import NLM_F_REQUEST, genlmsg
from pyroute2.netlink.exceptions import NetlinkError
from pyroute2.netlink.generic import GenericNetlinkSocket

# linux/netdev.h
FAMILY, VERSION, DEV_GET = "netdev", 1, 1
ACT_BASIC, ACT_REDIRECT, ACT_ZEROCOPY = 1, 2, 8


class _Device(genlmsg):
    nla_map = (
        ("DEV_UNSPEC", "none"),
        ("DEV_IFINDEX", "uint32"),
        ("DEV_PAD", "none"),
        ("DEV_XDP_FEATURES", "uint64"),
    )


@dataclass(frozen=True)
class XdpSupport:
    """`native`: the driver runs a program that redirects; `zero_copy`: AF_XDP without copies."""

    native: bool
    zero_copy: bool


def ask(interface_index: int) -> XdpSupport | None:
    """Of an interface in the caller's network namespace. None when the kernel cannot tell;
    OSError when it refuses."""
    try:
        with GenericNetlinkSocket() as netlink:
            netlink.bind(FAMILY, _Device)
            request = _Device()
            request["cmd"], request["version"] = DEV_GET, VERSION
            request["attrs"] = [("DEV_IFINDEX", interface_index)]
            answer = netlink.nlm_request(request, msg_type=netlink.prid, msg_flags=NLM_F_REQUEST)
            features = next(iter(answer)).get_attr("DEV_XDP_FEATURES")
    except NetlinkError as error:
        if error.code == errno.ENOENT:  # no such family: an older kernel
            return None
        raise OSError(error.code, str(error)) from error
    if features is None:
        return None
    both = ACT_BASIC | ACT_REDIRECT
    return XdpSupport(native=features & both == both, zero_copy=bool(features & ACT_ZEROCOPY))
