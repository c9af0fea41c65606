"""No IPv6 past a full tunnel: the tunnel carries IPv4 only, so the rest is refused at once, but for
the tunnel's own datagrams to a hub that is reached over IPv6.

A table of our own leaves addresses and settings alone (disable_ipv6 would flush them). Neighbour
discovery and the like stay, also between global addresses: a hub on the link asks from its own, and
IPv6 is intact when the guard goes. Packets forwarded for
containers or a LAN are refused too.
"""

from pathlib import Path

from m13.host import firewall
from m13.host.journal import Journal

TABLE = """
chain guard {{
    oifname {{ "lo", "{tun}" }} accept
    ip6 daddr {{ fe80::/10, ff00::/8 }} accept
    ip6 hoplimit 255 icmpv6 type {{ nd-neighbor-solicit, nd-neighbor-advert }} accept
{hub}    reject with icmpv6 admin-prohibited
}}
chain output {{
    type filter hook output priority filter; policy accept;
    jump guard
}}
chain forward {{
    type filter hook forward priority filter; policy accept;
    jump guard
}}
"""


def table_name(tun: str) -> str:
    return f"m13_node_{tun}" if tun.isalnum() else f"m13_node_x{tun.encode().hex()}"


def _table(tun: str, hub: str, port: int) -> str:
    own = f"    ip6 daddr {hub} udp dport {port} accept\n" if ":" in hub else ""
    return TABLE.format(tun=tun, hub=own)


def enable(journal: Journal, tun: str, hub: str, port: int) -> str | None:
    """Guard until the journal is closed; a note where the machine has no IPv6 to leak. `hub` is an
    address of either family."""
    if not Path("/proc/net/if_inet6").exists():
        return "no IPv6 on this machine"
    firewall.apply_table(journal, "ip6", table_name(tun), _table(tun, hub, port))
    return None


def keep(tun: str, hub: str, port: int) -> bool:
    """Put the table back if somebody flushed it away; true when that was so."""
    return firewall.keep_table("ip6", table_name(tun), _table(tun, hub, port))
