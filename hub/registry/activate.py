"""Phase 6: a registered row becomes active, or ceases to be, by a request of its own."""

from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection, Row, select, update
from sqlalchemy.exc import SQLAlchemyError

from hub.registry import integrity, schema
from hub.registry.codes import Code, Refused
from hub.registry.database import Database
from hub.registry.envelope import (
    ACTIVATE,
    DEACTIVATE,
    REVOKE,
    ConsumeRecord,
    RequestKeys,
    StatusChange,
)

PHASE = 6
VERIFIED = "verified"
# action: statuses it may begin from, the one it ends in
STEPS = {
    ACTIVATE: (("inert",), "active"),
    DEACTIVATE: (("active",), "inert"),
    REVOKE: (("inert", "active", "quarantined"), "revoked"),
}


def change_status(
    database: Database,
    action: str,
    dot_code: str,
    revision: int,
    keys: RequestKeys,
    consume: Callable[[Connection], ConsumeRecord],
) -> StatusChange:
    """`revision` is how often the row had changed when the request was made: one step, one request.
    The database numbers the change for the hubs that follow it."""
    table = schema.dot_tools
    begin, after = STEPS[action]
    try:
        with database.writing.begin() as connection:
            consume(connection)
            row = connection.execute(
                select(table).where(table.c.dot_code == dot_code).with_for_update()
            ).first()
            if row is None:
                raise Refused(Code.NOT_REGISTERED, f"no row {dot_code}", PHASE)
            if row.status not in begin or row.revision != revision:
                detail = f"{dot_code} is {row.status} at revision {row.revision}"
                raise Refused(Code.STATUS_NOT_ELIGIBLE, detail, PHASE)
            if action == ACTIVATE:
                _refuse_unready(connection, row)
            connection.execute(
                update(table)
                .where(table.c.dot_code == dot_code)
                .values(status=after, revision=revision + 1, change_ref=keys.logical_request_key)
            )
    except SQLAlchemyError as error:
        raise integrity.refusal(error, PHASE) from error
    return StatusChange(action, dot_code, row.status, after, revision + 1, keys)


def _refuse_unready(connection: Connection, row: Row[Any]) -> None:
    gate, audit = schema.runtime_gate, schema.event_outbox
    # locked where the database can, so that a gate does not close in between
    gates = connection.execute(
        select(gate).where(gate.c.name.in_(schema.RUNTIME_GATES)).with_for_update(read=True)
    ).all()
    closed = [entry.name for entry in gates if not entry.is_open]
    if closed or len(gates) != len(schema.RUNTIME_GATES):
        raise Refused(Code.GATE_CLOSED, ", ".join(closed) or "a gate is missing", PHASE)
    verified = connection.execute(
        select(audit.c.sequence).where(
            audit.c.logical_request_key == row.logical_request_key, audit.c.event == VERIFIED
        )
    ).first()
    if verified is None:
        raise Refused(Code.NOT_VERIFIED, f"{row.dot_code} has no durable verification", PHASE)


def quarantine(database: Database, dot_code: str) -> bool:
    """Compensation: sets a row aside whose verification failed; true when one was. Its keys stay
    consumed, and it is never deleted."""
    table = schema.dot_tools
    try:
        with database.writing.begin() as connection:
            changed = connection.execute(
                update(table)
                .where(table.c.dot_code == dot_code, table.c.status.in_(("inert", "active")))
                .values(status="quarantined", revision=table.c.revision + 1)
            )
    except SQLAlchemyError as error:
        raise integrity.refusal(error, PHASE) from error
    return changed.rowcount > 0
