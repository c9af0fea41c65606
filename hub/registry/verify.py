"""Phase 4: what was committed, read back over a connection that had no part in writing it."""

import ipaddress
from typing import Any

from sqlalchemy import Connection, Row, select
from sqlalchemy.exc import SQLAlchemyError

from hub.registry import schema
from hub.registry.codes import Code, Refused
from hub.registry.database import Database, missing_triggers
from hub.registry.envelope import RegisteredRowIntent, VerifierReadback

PHASE = 4


def verify(
    database: Database,
    intent: RegisteredRowIntent,
    receipt: tuple[int, str],
    expected_status: str = "inert",
) -> VerifierReadback:
    """`receipt`: sequence and hash of the audit entry that tells of the registration. Nothing but
    what is read here counts: not an exit status, not the writer's word."""
    table = schema.dot_tools
    try:
        with database.fresh.connect() as connection:
            rows = connection.execute(select(table).where(table.c.dot_code == intent.dot_code))
            found = rows.all()
            findings = [] if len(found) == 1 else [f"{len(found)} rows for {intent.dot_code}"]
            for row in found:
                findings += _differences(row, intent, expected_status)
            findings += _missing_records(connection, intent)
            findings += _audit_findings(connection, intent, receipt)
            findings += [f"no trigger {name}" for name in missing_triggers(database, connection)]
    except SQLAlchemyError as error:
        raise Refused(Code.POST_COMMIT_VERIFY_FAIL, "the row cannot be read back", PHASE) from error
    return VerifierReadback(
        dot_code=intent.dot_code,
        rows=len(found),
        status=found[0].status if found else "",
        artifact_hash=found[0].artifact_hash if found else "",
        audit_sequence=receipt[0],
        matches=not findings,
        findings=tuple(findings),
    )


def _differences(row: Row[Any], intent: RegisteredRowIntent, expected_status: str) -> list[str]:
    trusted = intent.trusted
    wanted: dict[str, object] = {
        "artifact_type": trusted.artifact_type,
        "artifact_hash": trusted.artifact_hash,
        "hash_algorithm": trusted.hash_algorithm,
        "canonicalization_version": trusted.canonicalization_version,
        "canonical_path": trusted.canonical_path,
        "source_carrier_ref": trusted.source_carrier_ref,
        "origin": trusted.origin,
        "admission_ref": trusted.admission_ref,
        "identity": trusted.identity,
        "public_key": trusted.public_key,
        "name": trusted.name,
        "tier": intent.tier,
        "owner": intent.owner,
        "attempt_id": intent.keys.attempt_id,
        "logical_request_key": intent.keys.logical_request_key,
        "status": expected_status,
    }
    if intent.tunnel_address:
        wanted["tunnel_address"] = int(ipaddress.IPv4Address(intent.tunnel_address))
    fields = row._mapping
    return [name for name, value in wanted.items() if fields[name] != value]


def _missing_records(connection: Connection, intent: RegisteredRowIntent) -> list[str]:
    keys = intent.keys
    consumed, attempt = schema.consumed_request, schema.attempt
    has_consumed = connection.execute(
        select(consumed.c.attempt_id).where(
            consumed.c.logical_request_key == keys.logical_request_key,
            consumed.c.authorization_nonce == keys.authorization_nonce,
            consumed.c.attempt_id == keys.attempt_id,
            consumed.c.dot_code == intent.dot_code,
        )
    ).first()
    has_attempt = connection.execute(
        select(attempt.c.attempt_id).where(
            attempt.c.attempt_id == keys.attempt_id,
            attempt.c.logical_request_key == keys.logical_request_key,
        )
    ).first()
    missing = [("no consume record", has_consumed), ("no attempt record", has_attempt)]
    return [words for words, present in missing if present is None]


def _audit_findings(
    connection: Connection, intent: RegisteredRowIntent, receipt: tuple[int, str]
) -> list[str]:
    table = schema.event_outbox
    entry = connection.execute(
        select(table.c.entry_hash, table.c.logical_request_key).where(
            table.c.sequence == receipt[0]
        )
    ).first()
    if entry is None or entry.entry_hash != receipt[1]:
        return ["the audit entry is not durable"]
    if entry.logical_request_key != intent.keys.logical_request_key:
        return ["the audit entry is of another request"]
    return []
