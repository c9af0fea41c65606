"""The active rows as a hub admits them: all of them, and those that changed since."""

import ipaddress
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, func, select

from hub.registry import schema
from hub.registry.codes import Code, RegistryError
from hub.registry.database import Database, unavailable
from hub.registry.envelope import HUB_IDENTITY, NODE_IDENTITY, XDP_OBJECT
from hub.roster import Node
from m13.canonical import digest

STATUS_CODES = {
    "inert": Code.REGISTERED_INERT,
    "quarantined": Code.QUARANTINED,
    "revoked": Code.REVOKED,
}


@dataclass(frozen=True)
class Change:
    """What is different from one generation of the roster to another."""

    generation: int
    admitted: tuple[Node, ...]
    expelled: tuple[str, ...]  # fingerprints


def load(database: Database, hub: ipaddress.IPv4Interface) -> tuple[list[Node], int]:
    """Active nodes with an address in the hub's subnet, and the generation they are of."""
    with unavailable(), _snapshot(database) as connection:
        generation = _generation(connection)
        return _nodes(connection, hub, -1)[0], generation


def changes(database: Database, hub: ipaddress.IPv4Interface, since: int) -> Change | None:
    """None when nothing changed after the generation `since`."""
    with unavailable(), _snapshot(database) as connection:
        generation = _generation(connection)
        if generation == since:
            return None
        admitted, expelled = _nodes(connection, hub, since)
        return Change(generation, tuple(admitted), tuple(expelled))


def _snapshot(database: Database) -> Connection:
    """Generation and rows of one moment."""
    connection = database.engine.connect()
    if database.is_postgresql:
        connection = connection.execution_options(isolation_level="REPEATABLE READ")
    return connection


def _generation(connection: Connection) -> int:
    return int(connection.scalar(select(schema.registry_generation.c.generation)) or 0)


def _nodes(
    connection: Connection, hub: ipaddress.IPv4Interface, since: int
) -> tuple[list[Node], list[str]]:
    table = schema.dot_tools
    columns = (table.c.identity, table.c.name, table.c.tunnel_address, table.c.status)
    query = select(*columns).where(table.c.artifact_type == NODE_IDENTITY)
    if since >= 0:
        query = query.where(table.c.changed_generation > since)
    else:
        query = query.where(table.c.status == "active")
    first, last = int(hub.network.network_address), int(hub.network.broadcast_address)
    own, bits = int(hub.ip), hub.network.prefixlen
    admitted, expelled = [], []
    for identity, name, address, status in connection.execute(query.order_by(table.c.dot_code)):
        if status != "active":
            expelled.append(identity)
        elif first < address < last and address != own:
            admitted.append(Node(name, identity, ipaddress.IPv4Address(address), bits))
    return admitted, expelled


def why_not(database: Database, fingerprint: str) -> Code | None:
    """Why a key is not let in; None for an active one."""
    table = schema.dot_tools
    with unavailable(), database.engine.connect() as connection:
        status = connection.scalar(select(table.c.status).where(table.c.identity == fingerprint))
    return Code.NOT_REGISTERED if status is None else STATUS_CODES.get(str(status))


def check_hub(database: Database, fingerprint: str, xdp_object: Path) -> None:
    """RegistryError when the registry governs hubs or XDP objects and these are not active."""
    table = schema.dot_tools
    wanted = {
        HUB_IDENTITY: (fingerprint, Code.HUB_NOT_ACTIVE),
        XDP_OBJECT: (f"sha256:{digest(xdp_object.read_bytes())}", Code.XDP_OBJECT_NOT_ACTIVE),
    }
    with unavailable(), database.engine.connect() as connection:
        for kind, (identity, code) in wanted.items():
            active = (table.c.artifact_type == kind) & (table.c.status == "active")
            count = connection.scalar(select(func.count()).select_from(table).where(active))
            ours = connection.execute(
                select(table.c.dot_code).where(active, table.c.identity == identity)
            ).first()
            if count and not ours:
                raise RegistryError(code, f"{identity} is not active")
