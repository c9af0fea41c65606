"""A registry that is open: its database, its artifact store, and what is asked of them often."""

import secrets
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sqlalchemy import Row, insert, or_, select

from hub.registry import audit, schema
from hub.registry.codes import Code, RegistryError
from hub.registry.database import (
    Database,
    check_file,
    check_schema,
    create_file,
    unavailable,
)
from hub.registry.envelope import ARTIFACT_TYPES, GOVERNANCE, AuditEnvelope
from hub.registry.store import ArtifactStore
from m13 import pqc
from m13.canonical import canonical, digest
from m13.identity import fingerprint

MIGRATIONS = Path(__file__).with_name("migrations")


class Registry:
    """With `with`. Opening one checks that the database enforces what admission rests on."""

    def __init__(self, location: str, store: Path, *, check: bool = True) -> None:
        self.database = Database(location)
        self.provider = pqc.choose()
        if not self.database.is_postgresql:
            check_file(self.database.url)
        try:
            if check:
                check_schema(self.database)
        except BaseException:
            self.database.close()
            raise
        self.store = ArtifactStore(store)

    def __enter__(self) -> "Registry":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.store.close()
        self.database.close()

    def fact(self, name: str) -> str:
        with self.database.engine.connect() as connection:
            return audit.fact(connection, name)

    def operators(self) -> dict[str, bytes]:
        """Public keys that may vouch for a deployment, by fingerprint."""
        table = schema.governance_key
        wanted = (table.c.role == "operator") & (table.c.state == "active")
        with self.database.engine.connect() as connection:
            rows = connection.execute(select(table).where(wanted))
            return {row.fingerprint: bytes(row.public_key) for row in rows}

    def row(self, name: str) -> Row[Any]:
        """Of a dot_code, a fingerprint or a name; of a name, the row that is not revoked first."""
        table = schema.dot_tools
        with unavailable(), self.database.engine.connect() as connection:
            named = or_(table.c.dot_code == name, table.c.identity == name, table.c.name == name)
            rows = connection.execute(select(table).where(named)).all()
        living = [row for row in rows if row.status in ("inert", "active")] or list(rows)
        exact = [row for row in living if name in (row.dot_code, row.identity)] or living
        if not exact:
            raise RegistryError(Code.NOT_REGISTERED, f"nothing is registered as '{name}'")
        if len(exact) > 1:
            codes = ", ".join(row.dot_code for row in exact)
            raise RegistryError(Code.REQUEST_MALFORMED, f"'{name}' may be {codes}")
        return exact[0]


def migrate(database: Database) -> None:
    """To the newest revision; a database that has it stays as it is."""
    # here, because it takes as long to load as everything else, and only init needs it
    from alembic import command
    from alembic.config import Config

    if not database.is_postgresql:
        create_file(database.url)
        check_file(database.url)
    configuration = Config()
    configuration.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    configuration.set_main_option("path_separator", "os")
    with unavailable(), database.writing.begin() as connection:
        configuration.attributes["connection"] = connection
        command.upgrade(configuration, "head")


def initialise(
    location: str,
    *,
    subnet: str,
    owner: str,
    quorum: int,
    operators: Mapping[str, bytes],
    hub_key: bytes,
    object_types: tuple[str, ...] = (*ARTIFACT_TYPES, GOVERNANCE),
) -> str:
    """Creates a registry, held and with every gate closed; its id. RegistryError if there is one.
    operators: public keys by name, all of the owner; as many as the quorum at least."""
    now = int(time.time())
    registry_id = secrets.token_hex(16)
    with Database(location) as database:
        migrate(database)
        facts = {"registry_id": registry_id, "subnet": subnet}
        with unavailable(), database.writing.begin() as connection:
            if connection.execute(select(schema.registry_fact)).first():
                raise RegistryError(Code.STATUS_NOT_ELIGIBLE, "the registry exists already")
            for name, value in facts.items():
                connection.execute(insert(schema.registry_fact).values(name=name, value=value))
            for name, key in operators.items():
                connection.execute(_key(name, key, owner, "operator", now))
            connection.execute(_key("hub", hub_key, "", "hub", now))
            for object_type in object_types:
                head = {"object_type": object_type, "owner": owner, "quorum": quorum}
                connection.execute(
                    insert(schema.governance_object_ownership).values(
                        owner_head_ref=digest(canonical({**head, "registry_id": registry_id})),
                        **head,
                        is_head=True,
                        created_at=now,
                    )
                )
        told = {**facts, "owner": owner, "quorum": quorum}
        keys = {name: fingerprint(key) for name, key in operators.items()}
        payload = {**told, "operators": keys, "hub": fingerprint(hub_key)}
        audit.append(
            database,
            AuditEnvelope(secrets.token_hex(16), 5, "registry_initialised", payload=payload),
        )
    return registry_id


def _key(name: str, public_key: bytes, owner: str, role: str, now: int) -> Any:
    return insert(schema.governance_key).values(
        fingerprint=fingerprint(public_key),
        public_key=public_key,
        name=name,
        owner=owner,
        role=role,
        state="active",
        added_at=now,
    )
