"""IPv6 at a node: through the tunnel when the hub gives an address, and never past a full one.

With an address the routes do what they do for IPv4; without one IPv6 is refused at once, by the
guard of a full tunnel. The guard stays in either case: it lets the tunnel pass, and not what a link
of this machine would take by a route of its own. A hub may come back with other settings.
"""

import ipaddress
import logging

from m13.host.firewall import FirewallWatch
from m13.host.journal import Journal
from m13.host.tun import Tun
from native.event import Event
from node import leak_guard
from node.routes import NodeRoutes

log = logging.getLogger("m13.node")


class InnerIpv6:
    """`hub` is where it is outside the tunnel, which the guard lets pass."""

    def __init__(
        self, journal: Journal, device: Tun, routes: NodeRoutes, hub: tuple[str, int]
    ) -> None:
        self._journal, self._device, self._routes = journal, device, routes
        self._guarded = (device.name, *hub)
        self._is_guarded = False
        self._firewall: FirewallWatch | None = None
        self._has_address = False
        self._has_said = False

    def follow(self, event: Event) -> str:
        """Take over what CONFIG says; the TUN must be up. The address for the log, or nothing."""
        address = self._take(event)
        # routes first: a firewall transaction takes longer than all of them
        if self._routes.is_full_tunnel:
            self._guard()
        return address

    def _take(self, event: Event) -> str:
        if event.prefix6_bits and self._device.allow_ipv6():
            address = str(ipaddress.IPv6Address(event.tunnel_address6))
            self._device.replace_address(address, event.prefix6_bits)
            self._routes.capture6()
            self._has_address = True
            return f"{address}/{event.prefix6_bits}"
        if self._has_address:
            self._routes.release6()
            self._device.remove_ipv6()
            self._has_address = False
        elif self._routes.prefixes6 and not self._routes.is_full_tunnel:
            self._refuse()
        return ""

    def _guard(self) -> None:
        if self._is_guarded:
            return
        self._is_guarded = True
        self._firewall = FirewallWatch()
        note = leak_guard.enable(self._journal, *self._guarded)
        if note:  # there is nothing to keep
            log.info("%s", note)
            self.close()

    def _refuse(self) -> None:
        """Prefixes that somebody asked for by name."""
        if not self._has_said:
            log.warning("the hub gives no IPv6: %s unreachable", ", ".join(self._routes.prefixes6))
        self._has_said = True
        self._routes.close6()

    def close(self) -> None:
        if self._firewall:
            self._firewall.close()
            self._firewall = None

    def keep(self) -> None:
        """Put the guard back if somebody flushed it away."""
        changed = self._firewall and self._firewall.changed()
        if changed and leak_guard.keep(*self._guarded):
            log.warning("the IPv6 guard was gone from the firewall and is back")
