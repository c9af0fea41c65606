"""Follow the network under the tunnel: another gateway, another address, a link that came back."""

import logging
from collections.abc import Callable

from m13.errors import HostError
from m13.host import netlink_events
from m13.host.netlink_events import NetlinkEvents
from m13.host.routes import NextHop
from node.routes import NodeRoutes

log = logging.getLogger("m13.node")


class LinkWatch:
    """For a poll loop: when `fileno()` is readable call `handle()`. `on_change` gets the new way
    to the hub after it was pinned, so that the node sends from its new address at once."""

    def __init__(self, routes: NodeRoutes, on_change: Callable[[NextHop], None]) -> None:
        groups = netlink_events.LINK | netlink_events.ADDRESS | netlink_events.ROUTE
        self._events = NetlinkEvents(groups)
        self._routes = routes
        self._on_change = on_change

    def fileno(self) -> int:
        return self._events.fileno()

    def handle(self) -> None:
        if self._events.drain() == 0:
            return
        self._restore()
        next_hop = self._routes.follow()
        if next_hop is not None:
            self._on_change(next_hop)

    def _restore(self) -> None:
        try:
            missing = self._routes.restore()
        except HostError:
            return  # the TUN is down: unreachable routes hold until the next event
        if missing:
            log.warning("routes into the tunnel were gone and are back: %s", ", ".join(missing))

    def close(self) -> None:
        self._events.close()
