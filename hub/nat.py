"""The hub as a router: forwarding, masquerade and MSS clamp for what comes out of the tunnel.

Reverse path filtering needs no change: packets from the TUN carry addresses routed to the TUN,
and answers come in by the interface the kernel itself chose for the way out.
"""

import ipaddress
import logging
from dataclasses import dataclass
from pathlib import Path

from m13.errors import HostError
from m13.host import firewall, sysctl
from m13.host.journal import Journal

log = logging.getLogger("m13.hub")

FORWARDING, FORWARDING6 = "net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"

# The forward chain accepts nothing by name: its policy is accept, and no table can overrule
# another's drop. Nodes are reachable from outside only where somebody routes the subnet here.
FORWARD = """
chain forward {{
    type filter hook forward priority mangle; policy accept;
    iifname "{tun}" tcp flags & (syn | rst) == syn tcp option maxseg size set rt mtu
    oifname "{tun}" tcp flags & (syn | rst) == syn tcp option maxseg size set rt mtu
}}
"""
MASQUERADE = """
chain postrouting {{
    type nat hook postrouting priority srcnat; policy accept;
    {family} saddr {subnet} oifname != "{tun}" masquerade
}}
"""


@dataclass(frozen=True)
class Subnets:
    """What comes out of the tunnel. `routed6`: IPv6 keeps its addresses on the way out."""

    ipv4: ipaddress.IPv4Network
    ipv6: ipaddress.IPv6Network | None = None
    routed6: bool = False

    def tables(self, tun: str) -> dict[str, str]:
        """nftables families and what our table holds in each."""
        forward = FORWARD.format(tun=tun)
        bodies = {"ip": forward + MASQUERADE.format(family="ip", subnet=self.ipv4, tun=tun)}
        if self.ipv6:
            masquerade = MASQUERADE.format(family="ip6", subnet=self.ipv6, tun=tun)
            bodies["ip6"] = forward + ("" if self.routed6 else masquerade)
        return bodies


def table_name(tun: str) -> str:
    """nftables names are narrower than interface names; hexadecimal keeps them apart."""
    return f"m13_hub_{tun}" if tun.isalnum() else f"m13_hub_x{tun.encode().hex()}"


def enable(journal: Journal, tun: str, subnets: Subnets) -> list[str]:
    """Route and masquerade until the journal is closed. The warnings it returns are about other
    firewalls on this machine, with the commands that let the tunnel pass."""
    _enable_forwarding(journal)
    if subnets.ipv6:
        _enable_forwarding6(journal)
    tables = subnets.tables(tun)
    for family, body in tables.items():
        firewall.apply_table(journal, family, table_name(tun), body)
    warnings = firewall.forwarding_obstacles(tun, (*tables, "inet"))
    for warning in warnings:
        log.warning("%s", warning)
    return warnings


def keep(tun: str, subnets: Subnets) -> bool:
    """Put the tables back if somebody flushed them away; true when that was so."""
    kept = [
        firewall.keep_table(family, table_name(tun), body)
        for family, body in subnets.tables(tun).items()
    ]
    return any(kept)


def _enable_forwarding(journal: Journal) -> None:
    """Switching forwarding either way makes the kernel overwrite these per-interface settings;
    recorded before the switch, they are restored after it is back. (A second hub records them
    as well: the last to leave restores them.)"""
    if sysctl.read(FORWARDING) != "1" or sysctl.is_shared(journal, FORWARDING):
        for directory in sorted(Path("/proc/sys/net/ipv4/conf").iterdir()):
            sysctl.keep(journal, f"net/ipv4/conf/{directory.name}/forwarding")
        sysctl.keep(journal, "net/ipv4/conf/all/accept_redirects")
    _switch(journal, FORWARDING)


def _enable_forwarding6(journal: Journal) -> None:
    """The same for IPv6. A router hears no router advertisements, and forgets the default routes it
    had from them, except by interfaces that are told to listen nevertheless (accept_ra 2,
    Documentation/networking/ip-sysctl.rst): those that listened do, so that this machine keeps its
    own IPv6."""
    if sysctl.read(FORWARDING6) != "1" or sysctl.is_shared(journal, FORWARDING6):
        for directory in sorted(Path("/proc/sys/net/ipv6/conf").iterdir()):
            name = f"net/ipv6/conf/{directory.name}"
            if directory.name == "all":
                continue
            sysctl.keep(journal, f"{name}/forwarding")
            if directory.name != "default" and sysctl.read(f"{name}/accept_ra") == "1":
                sysctl.write(journal, f"{name}/accept_ra", 2)
    _switch(journal, FORWARDING6)


def _switch(journal: Journal, name: str) -> None:
    note = sysctl.write(journal, name, 1)
    if sysctl.read(name) != "1":
        raise HostError(f"cannot forward packets: {note}")
