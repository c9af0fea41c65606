"""The node's routes: traffic into the tunnel, while the hub itself stays reachable outside it.

The hub is pinned by a host route through the way the kernel chose, with an unreachable one
behind it: when the link flaps and takes the pin along, our own frames fail, instead of being
routed into the tunnel that carries them.
"""

import ipaddress
import logging
from collections.abc import Sequence

from m13.errors import HostError
from m13.host import routes
from m13.host.journal import Journal
from m13.host.routes import NextHop

log = logging.getLogger("m13.node")

# Together everything, yet more specific than any default route: that one is never touched.
EVERYTHING = ("0.0.0.0/1", "128.0.0.0/1")
EVERYTHING6 = ("::/1", "8000::/1")


class NodeRoutes:
    """`hub` is an address, or empty: one that no route leads to. `prefixes` None is a full tunnel.
    Use: `pin`, bring the TUN up, `capture`, and while the tunnel carries IPv6, `capture6`."""

    def __init__(
        self, journal: Journal, hub: str, tun_index: int, prefixes: Sequence[str] | None = None
    ) -> None:
        self.hub = hub
        self.is_full_tunnel = prefixes is None
        wanted = tuple(prefixes) if prefixes is not None else EVERYTHING + EVERYTHING6
        self.prefixes = tuple(prefix for prefix in wanted if ":" not in prefix)
        self.prefixes6 = tuple(prefix for prefix in wanted if ":" in prefix)
        self._journal = journal
        self._tun_index = tun_index
        self._is_captured = False
        self._is_closed6 = False
        self._captured6: dict[str, int | None] = {}
        self._token: int | None = None
        self._next_hop: NextHop | None = None

    def pin(self) -> NextHop | None:
        """Find the way to the hub and hold on to it. HostError when there is none."""
        if not self.hub:
            return None
        self._next_hop = next_hop = routes.lookup(self.hub)
        if self._needs_pin and not next_hop.is_local:
            routes.add(self._journal, self._host, metric=routes.METRIC_LAST)
            if not routes.existing(self._host):
                self._move_pin(next_hop)
        return next_hop

    def check(self) -> None:
        """Before anything depends on it: HostError when a prefix is somebody else's already."""
        for prefix in (*self.prefixes, *self.prefixes6):
            if routes.existing(prefix):
                everything = prefix in ("0.0.0.0/0", "::/0")
                raise HostError(
                    f"there is a route to {prefix} already ({routes.show(prefix)}): "
                    + ("without --route everything is sent" if everything else "remove it, or")
                    + (" through the tunnel" if everything else " leave this network out")
                )

    def capture(self) -> None:
        """Send the prefixes into the tunnel; the TUN must be up. Behind each lies an unreachable
        route, so that nothing leaves in the clear when the TUN goes down or away."""
        for prefix in self.prefixes:
            routes.add(self._journal, prefix, metric=routes.METRIC_LAST)
        for prefix in self.prefixes:
            routes.add(self._journal, prefix, interface=self._tun_index)
        self._is_captured = True

    def close6(self) -> None:
        """The IPv6 prefixes lead nowhere, until the tunnel takes them: what is to go through it
        must not go another way."""
        if not self._is_closed6:
            for prefix in self.prefixes6:
                routes.add(self._journal, prefix, metric=routes.METRIC_LAST)
        self._is_closed6 = True

    def capture6(self) -> None:
        """Send the IPv6 prefixes into the tunnel; the TUN must be up and have an address."""
        self.close6()
        for prefix in self.prefixes6:
            if prefix not in self._captured6:
                added = routes.add(self._journal, prefix, interface=self._tun_index)
                self._captured6[prefix] = added

    def release6(self) -> None:
        """The tunnel carries IPv6 no longer: back to nowhere."""
        for token in self._captured6.values():
            if token is not None:
                self._journal.undo(token)
        self._captured6.clear()

    def restore(self) -> list[str]:
        """Put back what was taken away since, such as by the TUN going down and up; the prefixes
        that were missing. HostError while the TUN is down."""
        missing = []
        for prefix in (*(self.prefixes if self._is_captured else ()), *self._captured6):
            if not routes.existing(prefix):
                routes.add(self._journal, prefix, interface=self._tun_index)
                missing.append(prefix)
        return missing

    def follow(self) -> NextHop | None:
        """Call after any change of the network. Moves the pin if the way to the hub changed, and
        returns the new way when it or our address on it is another; None when all is as before
        or there is no way at all (the pin then waits for one)."""
        previous = self._next_hop
        if previous is None or previous.is_local:
            return None
        if self._token is not None:
            way = routes.best(self.hub, previous.table, self._tun_index)
            if way is not None and not (way.is_same_way(previous) and self._is_pinned()):
                self._try_move_pin(way)
        try:
            present = routes.lookup(self.hub)
        except HostError:
            return None
        # Our own tunnel is never the way: the user's pin went, and ours is not there yet.
        if present.interface == self._tun_index or _is_as_before(present, previous):
            return None
        # The table found first is where gateways change; the pin itself is in the main one.
        self._next_hop = NextHop(present.interface, present.gateway, present.source, previous.table)
        return self._next_hop

    @property
    def _host(self) -> str:
        return f"{self.hub}/{ipaddress.ip_address(self.hub).max_prefixlen}"

    @property
    def _needs_pin(self) -> bool:
        hub = ipaddress.ip_address(self.hub)
        everything = (*self.prefixes, *self.prefixes6)
        return any(hub in ipaddress.ip_network(prefix) for prefix in everything)

    def _is_pinned(self) -> bool:
        return any(route.protocol == routes.PROTOCOL for route in routes.existing(self._host))

    def _try_move_pin(self, way: NextHop) -> None:
        try:
            self._move_pin(way)
        except HostError as error:
            # The interface is going down under us; the next event brings the next attempt.
            log.info("%s", error)

    def _move_pin(self, way: NextHop) -> None:
        replaced = self._token
        self._token = routes.add(
            self._journal,
            self._host,
            interface=way.interface,
            gateway=way.gateway,
            replace=replaced is not None,
        )
        if replaced is not None:
            self._journal.discard(replaced)


def _is_as_before(present: NextHop, previous: NextHop) -> bool:
    return present.is_same_way(previous) and present.source == previous.source
