"""The link under the tunnel: says when its carrier or its MTU is no longer enough, and when it is.

One line per change, for whoever reads the log at night: a tunnel that is silent because of a cable
looks from above like one that is silent because of its other end.
"""

import logging

from m13.host import link, netlink_events
from m13.host.netlink_events import NetlinkEvents

log = logging.getLogger("m13.host")


class UnderlayWatch:
    """For a poll loop: when `fileno()` is readable call `handle()`. `interface` is an
    index; `needed_bytes` is the IP packet that carries a full one of the tunnel."""

    def __init__(self, interface: int, needed_bytes: int) -> None:
        self._events = NetlinkEvents(netlink_events.LINK)
        self._interface, self._needed_bytes = interface, needed_bytes
        self._carries = self._fits = True
        self.look()

    def fileno(self) -> int:
        return self._events.fileno()

    def close(self) -> None:
        self._events.close()

    def handle(self) -> None:
        if self._events.drain():
            self.look()

    def follow(self, interface: int) -> None:
        """The way goes by another interface from now on."""
        self._interface = interface
        self.look()

    def need(self, needed_bytes: int) -> None:
        self._needed_bytes = needed_bytes
        self.look()

    def look(self) -> None:
        try:
            found = link.find(self._interface)
        except OSError:  # gone: it carries nothing, and there is no MTU to complain of
            self._tell_carrier(f"interface {self._interface}", False, False)
            return
        self._tell_carrier(found.name, found.is_up, bool(found.flags & link.IFF_LOWER_UP))
        self._tell_mtu(found.name, found.mtu)

    def _tell_carrier(self, name: str, is_up: bool, has_carrier: bool) -> None:
        carries = is_up and has_carrier
        if carries == self._carries:
            return
        self._carries = carries
        if carries:
            log.info("%s carries packets again", name)
        else:
            why = "has no carrier" if is_up else "is down"
            log.warning("E_LINK_DOWN %s %s: nothing passes until it is back", name, why)

    def _tell_mtu(self, name: str, mtu: int) -> None:
        fits = mtu >= self._needed_bytes
        if fits == self._fits:
            return
        self._fits = fits
        if fits:
            log.info("the MTU of %s is %d: full packets of the tunnel fit again", name, mtu)
        else:
            log.warning(
                "E_LINK_MTU the MTU of %s is %d, and full packets of the tunnel need %d",
                name,
                mtu,
                self._needed_bytes,
            )
