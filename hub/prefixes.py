"""Inner addresses beside IPv4 ones: a hub's IPv6 subnet, and networks behind its nodes."""

import ipaddress
from collections.abc import Sequence
from typing import Any, Protocol

from m13.errors import ConfigurationError, UsageError
from m13.identity import parse_fingerprint
from native.channel import PREFIXES_MAX

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
            if overlap(network, other):
                raise ConfigurationError(f"{place}: allowed_ips: {network} overlaps {other}")
        found.append(network)
    return tuple(found)


def check_overlaps(place: str, name: str, node: Addressed, others: Sequence[Addressed]) -> None:
    """ConfigurationError when an inner address could be of two nodes."""
    for other in others:
        for network in owned(node):
            for theirs in owned(other):
                if overlap(network, theirs):
                    raise ConfigurationError(
                        f"{place}: {network} of '{name}' overlaps {theirs} of '{other.name}'"
                    )


def owned(node: Addressed) -> list[Network]:
    """Inner addresses that are the node's beside the one by its number."""
    own = [ipaddress.IPv6Network(node.address6)] if node.address6 else []
    return [*node.allowed_ips, *own]


def overlap(one: Network, other: Network) -> bool:
    """Whether an address could be in both."""
    return one.version == other.version and one.overlaps(other)
