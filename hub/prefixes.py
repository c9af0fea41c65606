"""Inner addresses beside IPv4 ones: a hub's IPv6 subnet, and networks behind its nodes."""

import ipaddress
import logging
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from m13.errors import ConfigurationError, HostError, UsageError
from m13.host import routes
from m13.host.journal import Journal
from m13.identity import parse_fingerprint
from native.channel import PREFIXES_MAX

log = logging.getLogger("m13.hub")

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
SUBNET6_BITS_MAX = 96  # behind it every IPv4 host number finds a place


class Addressed(Protocol):
    """What of a node decides."""

    @property
    def name(self) -> str: ...
    @property
    def address6(self) -> ipaddress.IPv6Address | None: ...
    @property
    def allowed_ips(self) -> tuple[Network, ...]: ...


def local_subnet6(fingerprint: str) -> ipaddress.IPv6Network:
    """The hub's own unique local /64 (RFC 4193 §3.2): fd, 40 bits that nobody else is likely to
    have, here those of its key's hash, and subnet 0."""
    global_id = parse_fingerprint(fingerprint)[:5]
    return ipaddress.IPv6Network((b"\xfd" + global_id + bytes(10), 64))


def hub_interface6(
    subnet6: ipaddress.IPv6Network, hub: ipaddress.IPv4Interface
) -> ipaddress.IPv6Interface:
    """The hub's address in it: the host number it has in the IPv4 subnet."""
    number = int(hub.ip) - int(hub.network.network_address)
    return ipaddress.IPv6Interface((int(subnet6.network_address) + number, subnet6.prefixlen))


def parse_subnet6(text: str) -> ipaddress.IPv6Network | None:
    """Of --subnet6: None for "off". UsageError when it is neither that nor a prefix."""
    if text == "off":
        return None
    try:
        network = ipaddress.IPv6Network(text)
    except ValueError as error:
        raise UsageError(f"--subnet6: '{text}' is not an IPv6 prefix or off: {error}") from error
    if network.prefixlen > SUBNET6_BITS_MAX:
        raise UsageError(f"--subnet6: {network} is too small, /{SUBNET6_BITS_MAX} at most")
    if network.is_multicast or network.is_link_local or network.is_loopback:
        raise UsageError(f"--subnet6: {network} cannot be routed")
    return network


def parse_address6(
    entry: Any, place: str, hub: ipaddress.IPv4Interface
) -> ipaddress.IPv6Address | None:
    """A node's `address6`. Host numbers that follow from IPv4 addresses are not given away."""
    text = entry.get("address6")
    if text is None:
        return None
    try:
        address = ipaddress.IPv6Address(text if isinstance(text, str) else "")
    except ValueError:
        raise ConfigurationError(f"{place}: {text!r} is not an IPv6 address") from None
    if address.is_multicast or address.is_link_local or address.is_loopback:
        raise ConfigurationError(f"{place}: {address} cannot be a node's address")
    host_numbers = 2 ** (32 - hub.network.prefixlen)
    if int(address) % 2**64 < host_numbers:
        raise ConfigurationError(
            f"{place}: {address} may be another node's by its IPv4 address; end it with a number"
            f" above {host_numbers - 1:x}"
        )
    return address


def parse_allowed_ips(entry: Any, place: str, hub: ipaddress.IPv4Interface) -> tuple[Network, ...]:
    """A node's `allowed_ips`: networks behind it, which the hub routes to it."""
    texts = entry.get("allowed_ips", [])
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise ConfigurationError(f"{place}: allowed_ips must be a list of prefixes")
    if len(texts) > PREFIXES_MAX:
        raise ConfigurationError(f"{place}: {len(texts)} allowed_ips, {PREFIXES_MAX} at most")
    found: list[Network] = []
    for text in texts:
        try:
            network = ipaddress.ip_network(text)
        except ValueError as error:
            raise ConfigurationError(f"{place}: allowed_ips: {error}") from None
        if network.is_multicast or network.is_link_local or network.is_loopback:
            raise ConfigurationError(f"{place}: allowed_ips: {network} cannot be routed")
        if not network.prefixlen:
            raise ConfigurationError(f"{place}: allowed_ips: {network} is everybody's")
        for other in (*found, hub.network):
            if _overlap(network, other):
                raise ConfigurationError(f"{place}: allowed_ips: {network} overlaps {other}")
        found.append(network)
    return tuple(found)


def check_overlaps(place: str, name: str, node: Addressed, others: Sequence[Addressed]) -> None:
    """ConfigurationError when an inner address could be of two nodes."""
    for other in others:
        for network in _owned(node):
            for theirs in _owned(other):
                if _overlap(network, theirs):
                    raise ConfigurationError(
                        f"{place}: {network} of '{name}' overlaps {theirs} of '{other.name}'"
                    )


def _owned(node: Addressed) -> list[Network]:
    own = [ipaddress.IPv6Network(node.address6)] if node.address6 else []
    return [*node.allowed_ips, *own]


def _overlap(one: Network, other: Network) -> bool:
    return one.version == other.version and one.overlaps(other)


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
        wanted = {network for node in nodes for network in _owned(node) if self._is_ours(network)}
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
        return self._subnet6 is not None and not _overlap(network, self._subnet6.network)
