"""Phase 6 for what rows depend on: the runtime gates and the operators' keys."""

from collections.abc import Callable

from sqlalchemy import Connection, func, insert, select, update
from sqlalchemy.exc import SQLAlchemyError

from hub.registry import integrity, schema
from hub.registry.codes import Code, Refused
from hub.registry.database import Database
from hub.registry.envelope import ConsumeRecord, RequestKeys

PHASE = 6


def set_gate(
    database: Database,
    name: str,
    is_open: bool,
    revision: int,
    keys: RequestKeys,
    consume: Callable[[Connection], ConsumeRecord],
) -> None:
    table = schema.runtime_gate
    try:
        with database.writing.begin() as connection:
            consume(connection)
            gate = connection.execute(
                select(table).where(table.c.name == name).with_for_update()
            ).first()
            if gate is None or gate.revision != revision or gate.is_open == is_open:
                raise Refused(Code.STATUS_NOT_ELIGIBLE, f"{name} is not as it was", PHASE)
            connection.execute(
                update(table)
                .where(table.c.name == name)
                .values(is_open=is_open, revision=revision + 1, change_ref=keys.logical_request_key)
            )
    except SQLAlchemyError as error:
        raise integrity.refusal(error, PHASE) from error


def add_key(
    database: Database,
    row: dict[str, object],
    keys: RequestKeys,
    consume: Callable[[Connection], ConsumeRecord],
) -> None:
    """`row`: fingerprint, public_key, name and owner of an operator."""
    table = schema.governance_key
    try:
        with database.writing.begin() as connection:
            consume(connection)
            if connection.execute(
                select(table.c.name).where(table.c.fingerprint == row["fingerprint"])
            ).first():
                raise Refused(Code.STATUS_NOT_ELIGIBLE, "the key is known already", PHASE)
            made = {**row, "role": "operator", "state": "active"}
            connection.execute(insert(table).values(**made, change_ref=keys.logical_request_key))
    except SQLAlchemyError as error:
        raise integrity.refusal(error, PHASE) from error


def revoke_key(
    database: Database,
    fingerprint: str,
    keys: RequestKeys,
    consume: Callable[[Connection], ConsumeRecord],
) -> None:
    """An owner keeps as many operators as its quorum asks for."""
    table, head = schema.governance_key, schema.governance_object_ownership
    try:
        with database.writing.begin() as connection:
            database.lock(connection, "governance")  # two at once must not undercut the quorum
            consume(connection)
            key = connection.execute(
                select(table).where(table.c.fingerprint == fingerprint).with_for_update()
            ).first()
            if key is None or key.state != "active":
                raise Refused(Code.STATUS_NOT_ELIGIBLE, "no active key of that name", PHASE)
            left = connection.scalar(
                select(func.count()).where(
                    table.c.owner == key.owner,
                    table.c.role == "operator",
                    table.c.state == "active",
                    table.c.fingerprint != fingerprint,
                )
            )
            quorum = connection.scalar(
                select(func.max(head.c.quorum)).where(head.c.owner == key.owner, head.c.is_head)
            )
            if (left or 0) < (quorum or 1):
                raise Refused(Code.STATUS_NOT_ELIGIBLE, "fewer would be left than a quorum", PHASE)
            connection.execute(
                update(table)
                .where(table.c.fingerprint == fingerprint)
                .values(state="revoked", change_ref=keys.logical_request_key)
            )
    except SQLAlchemyError as error:
        raise integrity.refusal(error, PHASE) from error
