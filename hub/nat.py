"""The hub as a router: forwarding, masquerade and MSS clamp for what comes out of the tunnel.

Reverse path filtering needs no change: packets from the TUN carry addresses routed to the TUN,
and answers come in by the interface the kernel itself chose for the way out.
"""

import ipaddress
import logging
from pathlib import Path

from m13.errors import HostError
from m13.host import firewall, sysctl
from m13.host.journal import Journal

log = logging.getLogger("m13.hub")

FORWARDING = "net/ipv4/ip_forward"

# The forward chain accepts nothing by name: its policy is accept, and no table can overrule
# another's drop. Nodes are reachable from outside only where somebody routes the subnet here.
TABLE = """
chain forward {{
    type filter hook forward priority mangle; policy accept;
    iifname "{tun}" tcp flags & (syn | rst) == syn tcp option maxseg size set rt mtu
    oifname "{tun}" tcp flags & (syn | rst) == syn tcp option maxseg size set rt mtu
}}
chain postrouting {{
    type nat hook postrouting priority srcnat; policy accept;
    ip saddr {subnet} oifname != "{tun}" masquerade
}}
"""


def table_name(tun: str) -> str:
    """nftables names are narrower than interface names; hexadecimal keeps them apart."""
    return f"m13_hub_{tun}" if tun.isalnum() else f"m13_hub_x{tun.encode().hex()}"


def enable(journal: Journal, tun: str, subnet: ipaddress.IPv4Network) -> list[str]:
    """Route and masquerade `subnet` until the journal is closed. The warnings it returns are
    about other firewalls on this machine, with the commands that let the tunnel pass."""
    _enable_forwarding(journal)
    body = TABLE.format(tun=tun, subnet=subnet)
    firewall.apply_table(journal, "ip", table_name(tun), body)
    warnings = firewall.forwarding_obstacles(tun)
    for warning in warnings:
        log.warning("%s", warning)
    return warnings


def keep(tun: str, subnet: ipaddress.IPv4Network) -> bool:
    """Put the table back if somebody flushed it away; true when that was so."""
    return firewall.keep_table("ip", table_name(tun), TABLE.format(tun=tun, subnet=subnet))


def _enable_forwarding(journal: Journal) -> None:
    """Switching forwarding either way makes the kernel overwrite these per-interface settings;
    recorded before the switch, they are restored after it is back. (A second hub records them
    as well: the last to leave restores them.)"""
    if sysctl.read(FORWARDING) != "1" or sysctl.is_shared(journal, FORWARDING):
        for directory in sorted(Path("/proc/sys/net/ipv4/conf").iterdir()):
            sysctl.keep(journal, f"net/ipv4/conf/{directory.name}/forwarding")
        sysctl.keep(journal, "net/ipv4/conf/all/accept_redirects")
    note = sysctl.write(journal, FORWARDING, 1)
    if sysctl.read(FORWARDING) != "1":
        raise HostError(f"cannot forward packets: {note}")
