"""Phase 2: a request takes effect once. Works on phase 3's transaction and never commits."""

from sqlalchemy import Connection, func, insert, select

from hub.registry import schema
from hub.registry.codes import Code, Refused
from hub.registry.envelope import (
    REGISTER,
    AuthorityDecision,
    ConsumeRecord,
    RequestKeys,
    logical_request_key,
)
from m13.canonical import canonical

PHASE = 2
ATTEMPT_CHARACTERS = 32
LOCK_DIGITS = 15  # of the key, as many as fit a bigint


def check(keys: RequestKeys, authority: AuthorityDecision) -> None:
    """The three identities are three things, and the nonce is the one that was approved."""
    if not keys.authorization_nonce or keys.authorization_nonce != authority.authorization_nonce:
        raise Refused(Code.NONCE_UNBOUND, "the approvals are for another nonce", PHASE)
    derived = logical_request_key(
        authority.action, authority.subject, authority.artifact_hash_bound, authority.revision
    )
    if keys.logical_request_key != derived:
        raise Refused(
            Code.REPLAY_ATTEMPT_NO_BYPASS, "the request key does not follow from the effect", PHASE
        )
    well_formed = len(keys.attempt_id) == ATTEMPT_CHARACTERS and keys.attempt_id.isalnum()
    if not well_formed or keys.attempt_id in (derived, keys.authorization_nonce):
        raise Refused(Code.REPLAY_ATTEMPT_NO_BYPASS, "the attempt id is not one", PHASE)


def consume(
    connection: Connection, keys: RequestKeys, authority: AuthorityDecision, run_id: str, now: int
) -> ConsumeRecord:
    """Uses up key and nonce and records the attempt. The database's own uniqueness decides races:
    what is asked here first only tells the loser in better words."""
    check(keys, authority)
    if connection.dialect.name == "postgresql":
        # who comes second waits here and reads what the first one did
        number = int(keys.logical_request_key[:LOCK_DIGITS], 16)
        connection.execute(select(func.pg_advisory_xact_lock(number)))
    table, attempt = schema.consumed_request, schema.attempt
    found = connection.execute(
        select(table).where(table.c.logical_request_key == keys.logical_request_key)
    ).first()
    if found:
        raise Refused(Code.REPLAY_DUPLICATE, f"took effect by attempt {found.attempt_id}", PHASE)
    nonce = table.c.authorization_nonce == keys.authorization_nonce
    if connection.execute(select(table.c.attempt_id).where(nonce)).first():
        raise Refused(Code.REPLAY_NONCE_CONSUMED, "the nonce served another request", PHASE)
    used = connection.execute(select(attempt).where(attempt.c.attempt_id == keys.attempt_id))
    if used.first():
        raise Refused(Code.REPLAY_ATTEMPT_NO_BYPASS, "the attempt id was used before", PHASE)
    consumed = ConsumeRecord(
        logical_request_key=keys.logical_request_key,
        authorization_nonce=keys.authorization_nonce,
        attempt_id=keys.attempt_id,
        apr_ref=authority.apr_ref,
        action=authority.action,
        subject=authority.subject,
    )
    decision = {"action": authority.action, "outcome": "DONE", "run_id": run_id}
    connection.execute(
        insert(table).values(
            logical_request_key=keys.logical_request_key,
            authorization_nonce=keys.authorization_nonce,
            attempt_id=keys.attempt_id,
            apr_ref=authority.apr_ref,
            action=authority.action,
            subject=authority.subject,
            dot_code=authority.subject if authority.action == REGISTER else None,
            decision=canonical(decision).decode(),
            consumed_at=now,
        )
    )
    connection.execute(
        insert(attempt).values(
            attempt_id=keys.attempt_id,
            logical_request_key=keys.logical_request_key,
            run_id=run_id,
            action=authority.action,
            committed_at=now,
        )
    )
    return consumed
