"""Network interfaces and their addresses, as the kernel knows them: rtnetlink(7)."""

import errno
import os
import socket
import struct
from dataclasses import dataclass

from m13.host import rtnetlink
from m13.host.rtnetlink import RtNetlink, attribute, nested

# linux/if_link.h, linux/if_addr.h, linux/pkt_sched.h, linux/veth.h
RTM_NEWLINK, RTM_GETLINK, RTM_NEWADDR, RTM_DELADDR, RTM_GETADDR = 16, 18, 20, 21, 22
RTM_NEWQDISC = 36
IFLA_ADDRESS, IFLA_IFNAME, IFLA_MTU, IFLA_TXQLEN, IFLA_LINKINFO = 1, 3, 4, 13, 18
IFLA_AF_SPEC, IFLA_NET_NS_FD, IFLA_NUM_RX_QUEUES, IFLA_XDP = 26, 28, 32, 43
IFLA_INFO_KIND, IFLA_INFO_DATA, VETH_INFO_PEER = 1, 2, 1
IFLA_INET6_ADDR_GEN_MODE, IN6_ADDR_GEN_MODE_NONE = 8, 1
IFLA_XDP_ATTACHED = 2
IFA_ADDRESS, IFA_LOCAL, IFA_FLAGS = 1, 2, 8
TCA_KIND, TC_H_ROOT = 1, 0xFFFFFFFF
IFF_UP, IFF_LOOPBACK, IFF_LOWER_UP = 0x1, 0x8, 0x10000

LINK = struct.Struct("=BxHiII")  # struct ifinfomsg: family, type, index, flags, changed flags
ADDRESS = struct.Struct("=BBBBI")  # struct ifaddrmsg: family, prefix, flags, scope, index
QUEUEING = struct.Struct("=B3xiIII")  # struct tcmsg: family, index, handle, parent, info


@dataclass(frozen=True)
class Link:
    index: int
    name: str
    flags: int
    mtu: int
    mac: bytes  # empty where there is none
    rx_queues: int
    has_xdp: bool  # a program is attached

    @property
    def is_up(self) -> bool:
        return bool(self.flags & IFF_UP)


@dataclass(frozen=True)
class Address:
    """`peer` is the other end of a point-to-point address, else the address once more."""

    interface: int
    family: int
    address: str
    peer: str
    prefix_bits: int
    scope: int
    flags: int


def find(index: int) -> Link:
    """OSError when there is none."""
    with RtNetlink() as netlink:
        return _link(netlink.ask(RTM_GETLINK, LINK.pack(0, 0, index, 0, 0)))


def find_name(name: str) -> Link:
    """Likewise; any text may be asked for."""
    if "\0" in name:  # where the kernel would take it to end
        raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))
    with RtNetlink() as netlink:
        wanted = LINK.pack(0, 0, 0, 0, 0) + attribute(IFLA_IFNAME, name)
        return _link(netlink.ask(RTM_GETLINK, wanted))


def all_links() -> list[Link]:
    with RtNetlink() as netlink:
        return [_link(body) for body in netlink.dump(RTM_GETLINK, LINK.pack(0, 0, 0, 0, 0))]


def set_up(index: int, is_up: bool = True) -> None:
    with RtNetlink() as netlink:
        netlink.order(RTM_NEWLINK, LINK.pack(0, 0, index, IFF_UP if is_up else 0, IFF_UP))


def set_mtu(index: int, mtu: int) -> None:
    _change(index, attribute(IFLA_MTU, mtu))


def set_queue_packets(index: int, packets: int) -> None:
    _change(index, attribute(IFLA_TXQLEN, packets))


def forgo_link_local6(index: int) -> None:
    """No address of its own making, hence no router solicitations either."""
    mode = attribute(IFLA_INET6_ADDR_GEN_MODE, struct.pack("=B", IN6_ADDR_GEN_MODE_NONE))
    _change(index, nested(IFLA_AF_SPEC, nested(socket.AF_INET6, mode)))


def queue_fairly(index: int) -> None:
    """The queueing discipline fq; ENOENT where the kernel lacks it."""
    with RtNetlink() as netlink:
        wanted = QUEUEING.pack(0, index, 0, TC_H_ROOT, 0) + attribute(TCA_KIND, "fq")
        netlink.order(RTM_NEWQDISC, wanted, rtnetlink.CREATE | rtnetlink.REPLACE)


def description(name: str, mac: bytes | None = None, mtu: int | None = None) -> bytes:
    """Of a link to be made, for `make_veth`."""
    parts = [attribute(IFLA_IFNAME, name)]
    if mac is not None:
        parts.append(attribute(IFLA_ADDRESS, mac))
    if mtu is not None:
        parts.append(attribute(IFLA_MTU, mtu))
    return b"".join(parts)


def make_veth(near: bytes, far: bytes, far_namespace: int | None = None) -> None:
    """A pair, both ends down. `far_namespace` is a descriptor of the network namespace that the far
    end is to be in."""
    nothing = LINK.pack(0, 0, 0, 0, 0)
    if far_namespace is not None:
        far += attribute(IFLA_NET_NS_FD, far_namespace)
    kind = attribute(IFLA_INFO_KIND, "veth")
    data = nested(IFLA_INFO_DATA, attribute(VETH_INFO_PEER, nothing + far))
    with RtNetlink() as netlink:
        message = nothing + near + nested(IFLA_LINKINFO, kind, data)
        netlink.order(RTM_NEWLINK, message, rtnetlink.CREATE | rtnetlink.EXCLUSIVE)


def addresses(interface: int | None = None, family: int = 0) -> list[Address]:
    """IPv4 and IPv6, or one of them; of one interface or of all."""
    with RtNetlink() as netlink:
        bodies = netlink.dump(RTM_GETADDR, ADDRESS.pack(family, 0, 0, 0, 0))
    found = [_address(body) for body in bodies if body[0] in (socket.AF_INET, socket.AF_INET6)]
    return [entry for entry in found if interface in (None, entry.interface)]


def add_address(index: int, address: str, prefix_bits: int) -> None:
    """EEXIST when it has it already."""
    flags = rtnetlink.CREATE | rtnetlink.EXCLUSIVE
    with RtNetlink() as netlink:
        netlink.order(RTM_NEWADDR, _address_message(index, address, prefix_bits), flags)


def remove_address(index: int, address: str, prefix_bits: int, peer: str | None = None) -> None:
    """EADDRNOTAVAIL when it has it not; of IPv4 also when not with this peer."""
    with RtNetlink() as netlink:
        netlink.order(RTM_DELADDR, _address_message(index, address, prefix_bits, peer))


def _change(index: int, changes: bytes) -> None:
    with RtNetlink() as netlink:
        netlink.order(RTM_NEWLINK, LINK.pack(0, 0, index, 0, 0) + changes)


def _link(body: bytes) -> Link:
    _, _, index, flags, _ = LINK.unpack_from(body)
    found = rtnetlink.attributes(body[LINK.size :])
    xdp = rtnetlink.attributes(found.get(IFLA_XDP, b""))
    return Link(
        index=index,
        name=rtnetlink.text(found[IFLA_IFNAME]),
        flags=flags,
        mtu=rtnetlink.number(found.get(IFLA_MTU)) or 0,
        mac=found.get(IFLA_ADDRESS, b""),
        rx_queues=rtnetlink.number(found.get(IFLA_NUM_RX_QUEUES)) or 1,
        has_xdp=any(xdp.get(IFLA_XDP_ATTACHED, b"")),
    )


def _address(body: bytes) -> Address:
    """IPv6 has no local address apart, unless there is a peer's."""
    family, prefix_bits, flags, scope, index = ADDRESS.unpack_from(body)
    found = rtnetlink.attributes(body[ADDRESS.size :])
    peer = found[IFA_ADDRESS]
    all_flags = rtnetlink.number(found.get(IFA_FLAGS))
    return Address(
        interface=index,
        family=family,
        address=socket.inet_ntop(family, found.get(IFA_LOCAL, peer)),
        peer=socket.inet_ntop(family, peer),
        prefix_bits=prefix_bits,
        scope=scope,
        flags=flags if all_flags is None else all_flags,
    )


def _address_message(index: int, address: str, prefix_bits: int, peer: str | None = None) -> bytes:
    family = rtnetlink.address_family(address)
    own, other = (rtnetlink.pack_address(place) for place in (address, peer or address))
    both = attribute(IFA_LOCAL, own) + attribute(IFA_ADDRESS, other)
    return ADDRESS.pack(family, prefix_bits, 0, 0, index) + both
