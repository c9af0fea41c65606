"""The hub's routes to what lies behind its nodes."""

import ipaddress
import logging
from collections.abc import Iterable

from hub.prefixes import Addressed, Network, overlap, owned
from m13.errors import HostError
from m13.host import routes
from m13.host.journal import Journal

log = logging.getLogger("m13.hub")


class NodeRoutes:
    """Routes to the TUN for what lies behind nodes, whether they are here or not: while a node is
    away its networks are unreachable, and packets for them do not leave by the default route."""

    def __init__(
        self, journal: Journal, tun_index: int, subnet6: ipaddress.IPv6Interface | None
    ) -> None:
        self._journal, self._tun_index, self._subnet6 = journal, tun_index, subnet6
        self._tokens: dict[Network, int | None] = {}

    def follow(self, nodes: Iterable[Addressed], *, serving: bool = False) -> None:
        """Adds what is missing and removes what is no node's any more. HostError when a network is
        somebody else's on this machine; while the hub is serving that is said once instead."""
        wanted = {network for node in nodes for network in owned(node) if self._is_ours(network)}
        for network in [network for network in self._tokens if network not in wanted]:
            token = self._tokens.pop(network)
            if token is not None:
                self._journal.undo(token)
        for network in wanted - self._tokens.keys():
            try:
                token = routes.add(self._journal, str(network), interface=self._tun_index)
            except HostError as error:
                if not serving:
                    raise
                log.warning("%s", error)
                token = None
            self._tokens[network] = token

    def _is_ours(self, network: Network) -> bool:
        """Whether it needs a route of its own, and can have one."""
        if network.version == 4:
            return True
        return self._subnet6 is not None and not overlap(network, self._subnet6.network)
