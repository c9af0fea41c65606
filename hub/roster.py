"""The hub's list of admitted nodes: a TOML file of names, key fingerprints and tunnel addresses."""

import ipaddress
import re
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from hub import prefixes
from m13.errors import ConfigurationError
from m13.identity import parse_fingerprint

DEFAULT_PATH = Path("/etc/m13/nodes.toml")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,30}")
FIELDS = {"name", "key", "address", "address6", "allowed_ips"}
NODES_MAX = 256  # as many sessions as the workers keep: M13_PEERS_ESTABLISHED_MAX


@dataclass(frozen=True)
class Node:
    name: str
    key: str  # fingerprint
    address: ipaddress.IPv4Address
    prefix: int  # bits of the tunnel subnet
    address6: ipaddress.IPv6Address | None = None  # None: by the host number of `address`
    allowed_ips: tuple[prefixes.Network, ...] = ()  # networks behind it

    def entry(self) -> dict[str, object]:
        """As the handshake worker takes it."""
        entry: dict[str, object] = {
            "name": self.name,
            "key": self.key,
            "address": str(self.address),
            "prefix": self.prefix,
        }
        if self.address6:
            entry["address6"] = str(self.address6)
        if self.allowed_ips:
            entry["prefixes"] = [str(network) for network in self.allowed_ips]
        return entry


def load(path: Path, hub: ipaddress.IPv4Interface, present: Iterable[Node] = ()) -> list[Node]:
    """The nodes of PATH. `hub` is the hub's own tunnel address with the subnet's prefix.

    Nodes without an address get the free ones in file order: append new nodes at the end, or give
    addresses, and nobody's address changes. Those among the `present` ones, which a running hub
    admits already, keep what they have, by key or else by name.
    """
    try:
        text = path.read_text(encoding="utf-8")
        document = tomllib.loads(text)
    except FileNotFoundError as error:
        raise ConfigurationError(
            f"no list of nodes at {path}: write one [[node]] with name and key for each node"
        ) from error
    except OSError as error:
        raise ConfigurationError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:  # TOML and UTF-8 alike
        raise ConfigurationError(f"{path}: {error}") from error
    entries = document.pop("node", [])
    if document or not isinstance(entries, list):
        raise ConfigurationError(f"{path}: only [[node]] tables belong here")
    if len(entries) > NODES_MAX:
        raise ConfigurationError(f"{path}: {len(entries)} nodes, a hub serves {NODES_MAX} at most")
    places = [_place(path, text, index) for index in range(len(entries))]
    given = _addresses(entries, places, hub)
    given |= _kept_addresses(entries, given, present)
    free = _free_addresses(hub, set(given.values()))
    nodes: list[Node] = []
    for index, (entry, place) in enumerate(zip(entries, places, strict=True)):
        name, key = _name_and_key(entry, place)
        for node in nodes:
            if name == node.name or key == node.key:
                raise ConfigurationError(f"{place}: name or key is already that of '{node.name}'")
        address = given.get(index) or next(free, None)
        if not address:
            raise ConfigurationError(f"{place}: {hub.network} has no free address left")
        nodes.append(
            Node(
                name,
                key,
                address,
                hub.network.prefixlen,
                prefixes.parse_address6(entry, place, hub),
                prefixes.parse_allowed_ips(entry, place, hub),
            )
        )
        prefixes.check_overlaps(place, name, nodes[-1], nodes[:-1])
    return nodes


def _place(path: Path, text: str, index: int) -> str:
    lines = [
        number
        for number, line in enumerate(text.splitlines(), 1)
        if re.match(r"\s*\[\[\s*node\s*\]\]", line)
    ]
    line = f" line {lines[index]}," if index < len(lines) else ""
    return f"{path}:{line} node {index + 1}"


def _name_and_key(entry: object, place: str) -> tuple[str, str]:
    if not isinstance(entry, dict):
        raise ConfigurationError(f"{place}: must be a [[node]] table")
    unknown = ", ".join(sorted(entry.keys() - FIELDS))
    if unknown:
        raise ConfigurationError(
            f"{place}: unknown {unknown}; use name, key, address, address6 and allowed_ips"
        )
    name, key = entry.get("name"), entry.get("key")
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise ConfigurationError(
            f"{place}: name must be 1 to 31 letters, digits, '.', '_' or '-', not {name!r}"
        )
    try:
        parse_fingerprint(str(key))
    except ValueError:
        raise ConfigurationError(
            f"{place}: key must be what 'm13 fingerprint' prints (SHA256:...), not {key!r}"
        ) from None
    return name, str(key)


def _addresses(
    entries: list[object], places: list[str], hub: ipaddress.IPv4Interface
) -> dict[int, ipaddress.IPv4Address]:
    """The addresses given in the file, by entry."""
    taken: dict[ipaddress.IPv4Address, str] = {
        hub.ip: "the hub's own",
        hub.network.network_address: "the subnet's own",
        hub.network.broadcast_address: "the broadcast address",
    }
    given = {}
    for index, (entry, place) in enumerate(zip(entries, places, strict=True)):
        text = entry.get("address") if isinstance(entry, dict) else None
        if text is None:
            continue
        try:
            address = ipaddress.IPv4Address(text if isinstance(text, str) else "")
        except ValueError:
            raise ConfigurationError(f"{place}: {text!r} is not an IPv4 address") from None
        if address not in hub.network:
            raise ConfigurationError(f"{place}: {address} is outside {hub.network}")
        if address in taken:
            raise ConfigurationError(f"{place}: {address} is {taken[address]}")
        taken[address] = f"already that of node {index + 1}"
        given[index] = address
    return given


def _kept_addresses(
    entries: list[object], given: dict[int, ipaddress.IPv4Address], present: Iterable[Node]
) -> dict[int, ipaddress.IPv4Address]:
    """What entries without an address had before, unless it was given to another meanwhile."""
    nodes = list(present)
    kept: dict[int, ipaddress.IPv4Address] = {}
    taken = set(given.values())
    for field in ("key", "name"):
        had = {getattr(node, field): node.address for node in nodes}
        for index, entry in enumerate(entries):
            if index in given or index in kept or not isinstance(entry, dict):
                continue
            address = had.get(str(entry.get(field)))
            if address and address not in taken:
                taken.add(address)
                kept[index] = address
    return kept


def _free_addresses(
    hub: ipaddress.IPv4Interface, taken: set[ipaddress.IPv4Address]
) -> Iterator[ipaddress.IPv4Address]:
    return (host for host in hub.network.hosts() if host != hub.ip and host not in taken)
