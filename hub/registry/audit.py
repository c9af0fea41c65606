"""Phase 5: what happened, kept where no rollback reaches it and no UPDATE or DELETE is let in."""

import dataclasses
import json
import time
from collections.abc import Iterator
from typing import Any

from sqlalchemy import Connection, func, insert, select
from sqlalchemy.exc import SQLAlchemyError

from hub.registry import schema
from hub.registry.chain import FIRST_PREVIOUS, MerkleTree, entry_hash, leaf_hash
from hub.registry.codes import Code, Refused
from hub.registry.database import Database
from hub.registry.envelope import AuditEnvelope, AuditReceipt
from m13 import identity, pqc
from m13.canonical import canonical

PHASE = 5
DELIVERY_LANE = "audit"  # nothing is executed off it
CHECKPOINT_CONTEXT = b"M13-CHECKPOINT-1"
BATCH_ROWS = 10_000


def append(database: Database, envelope: AuditEnvelope) -> AuditReceipt:
    """Durable when it returns; Refused with AUDIT_SINK_UNAVAILABLE when it cannot be. Has a
    transaction of its own, always."""
    try:
        with database.writing.begin() as connection:
            database.lock(connection, "audit")
            entry = _next_entry(connection, envelope)
            connection.execute(insert(schema.event_outbox).values(**entry))
    except SQLAlchemyError as error:
        detail = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
        raise Refused(Code.AUDIT_SINK_UNAVAILABLE, detail, PHASE) from error
    return AuditReceipt(entry["sequence"], entry["entry_hash"])


def _next_entry(connection: Connection, envelope: AuditEnvelope) -> dict[str, Any]:
    table = schema.event_outbox
    last = connection.execute(
        select(table.c.sequence, table.c.entry_hash).order_by(table.c.sequence.desc()).limit(1)
    ).first()
    entry: dict[str, Any] = {
        "sequence": last.sequence + 1 if last else 1,
        "run_id": envelope.run_id,
        "phase": envelope.phase,
        "event": envelope.event,
        "reject_codes": json.dumps(list(envelope.reject_codes)),
        "logical_request_key": envelope.logical_request_key,
        "subject": envelope.subject,
        "payload_classification": envelope.payload_classification,
        "delivery_lane": DELIVERY_LANE,
        "payload": canonical(envelope.payload).decode(),
        "recorded_at_ms": time.time_ns() // 1_000_000,
        "previous_hash": last.entry_hash if last else FIRST_PREVIOUS,
    }
    entry["entry_hash"] = entry_hash(entry)
    return entry


def entries(connection: Connection, last: int | None = None) -> Iterator[dict[str, Any]]:
    """In order, up to and with `last`."""
    table = schema.event_outbox
    query = select(table).order_by(table.c.sequence)
    if last is not None:
        query = query.where(table.c.sequence <= last)
    for row in connection.execution_options(yield_per=BATCH_ROWS).execute(query):
        yield dict(row._mapping)


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    tree_size: int
    root: str
    head_hash: str
    registry_id: str
    created_at: int

    def body(self) -> bytes:
        return canonical(dataclasses.asdict(self))


class Checkpointer:
    """Follows the audit with a Merkle tree that grows: a checkpoint costs what was added."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._tree = MerkleTree()
        self._head = FIRST_PREVIOUS

    def advance(self, rows_max: int = BATCH_ROWS) -> bool:
        """Takes in what was added, a part at a time; true when that is all of it."""
        table = schema.event_outbox
        query = (
            select(table.c.entry_hash)
            .where(table.c.sequence > self._tree.size)
            .order_by(table.c.sequence)
            .limit(rows_max)
        )
        with self._database.engine.connect() as connection:
            added = connection.execute(query).scalars().all()
        for hashed in added:
            self._tree.append(leaf_hash(hashed))
            self._head = hashed
        return len(added) < rows_max

    def sign(self, signer: identity.Identity, provider: pqc.Provider) -> Checkpoint | None:
        """A checkpoint of what was taken in; None when there is one of that size or larger."""
        table, size = schema.audit_checkpoint, self._tree.size
        with self._database.engine.connect() as connection:
            covered = connection.scalar(select(func.max(table.c.tree_size))) or 0
            registry_id = fact(connection, "registry_id")
        if size <= covered:
            return None
        made = Checkpoint(size, self._tree.root(), self._head, registry_id, int(time.time()))
        signing_key, _ = provider.sign_load(signer.seed)
        signature = provider.sign(signing_key, made.body(), CHECKPOINT_CONTEXT)
        with self._database.writing.begin() as connection:
            self._database.lock(connection, "audit")
            if connection.execute(select(table).where(table.c.tree_size == size)).first():
                return None  # another hub was faster
            connection.execute(
                insert(table).values(
                    tree_size=size,
                    root=made.root,
                    signer=signer.fingerprint,
                    signature=signature,
                    body=made.body().decode(),
                    created_at=made.created_at,
                )
            )
        return made


def checkpoint(
    database: Database, signer: identity.Identity, provider: pqc.Provider
) -> Checkpoint | None:
    """Signs the whole audit as it stands; None when nothing was added since the last one."""
    checkpointer = Checkpointer(database)
    while not checkpointer.advance():
        continue
    return checkpointer.sign(signer, provider)


def fact(connection: Connection, name: str) -> str:
    table = schema.registry_fact
    return str(connection.scalar(select(table.c.value).where(table.c.name == name)) or "")
