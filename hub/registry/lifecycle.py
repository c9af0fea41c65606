"""Requests after registration: activate, deactivate, revoke, gates, operator keys, recovery. Each
has its own authority and nonce, and goes through phases 1, 2 and 6."""

import base64
import time
from typing import Any

from sqlalchemy import Connection, select
from sqlalchemy.exc import SQLAlchemyError

from hub.registry import govern, schema
from hub.registry.activate import change_status
from hub.registry.authority import authorise
from hub.registry.codes import Code, Refused
from hub.registry.consume import consume
from hub.registry.envelope import (
    ADD_KEY,
    CLOSE_GATE,
    OPEN_GATE,
    RECOVER_KEY,
    REVOKE_KEY,
    AuthorityClaim,
    AuthorityDecision,
    ConsumeRecord,
    Decision,
    RequestKeys,
)
from hub.registry.proposal import Wish
from hub.registry.registry import Registry
from hub.registry.run import Run, outcome, prior_keys
from m13.canonical import canonical, digest

CHANGED = "changed"


def carry_out(
    registry: Registry,
    wish: Wish,
    apr_ref: str,
    keys: RequestKeys,
    extra: dict[str, Any] | None = None,
) -> Decision:
    """`extra` is what the approval request said besides: of add_key, the key. Never raises for
    what a request may contain or a database may do."""
    run = Run(registry.database, wish.action, wish.subject, keys)
    try:
        authority = _authorise(run, registry, wish, apr_ref)  # phase 1
        run.audit(6, "attempted")
        try:
            _apply(run, registry, wish, authority, extra or {})  # phases 2 and 6
        except Refused as refusal:
            if refusal.code != Code.REPLAY_DUPLICATE:
                raise
            return run.duplicate(refusal, _prior(run, registry, wish))
        run.audit(6, CHANGED, run.proofs)
        return run.done(6)
    except Refused as refusal:
        return run.rejected(refusal)


def _authorise(run: Run, registry: Registry, wish: Wish, apr_ref: str) -> AuthorityDecision:
    claim = AuthorityClaim(
        action=wish.action,
        object_type=wish.object_type,
        subject=wish.subject,
        artifact_hash=wish.artifact_hash,
        revision=wish.revision,
        keys=run.keys,
        apr_ref=apr_ref,
    )
    try:
        with registry.database.engine.connect() as connection:
            _check_artifact(connection, wish)
            return run.keep("authority", authorise(connection, claim, registry.provider))
    except SQLAlchemyError as error:
        raise Refused(Code.WRITE_FAILED, "the registry cannot be read", 1) from error


def _check_artifact(connection: Connection, wish: Wish) -> None:
    """An approval is for the artifact that is registered, not for the one a caller names."""
    table = schema.dot_tools
    if not wish.action.endswith("_dot"):
        return
    row = connection.execute(
        select(table.c.artifact_hash, table.c.artifact_type).where(table.c.dot_code == wish.subject)
    ).first()
    if row is None:
        raise Refused(Code.NOT_REGISTERED, f"no row {wish.subject}", 1)
    if (row.artifact_hash, row.artifact_type) != (wish.artifact_hash, wish.object_type):
        raise Refused(Code.APR_NOT_BOUND_TO_ARTIFACT, "another artifact is registered", 1)


def _apply(
    run: Run,
    registry: Registry,
    wish: Wish,
    authority: AuthorityDecision,
    extra: dict[str, Any],
) -> None:
    now, database = int(time.time()), registry.database

    def step(connection: Connection) -> ConsumeRecord:
        return run.keep("consume", consume(connection, run.keys, authority, run.run_id, now))

    if wish.action in (OPEN_GATE, CLOSE_GATE):
        is_open = wish.action == OPEN_GATE
        govern.set_gate(database, wish.subject, is_open, wish.revision, run.keys, step)
    elif wish.action in (ADD_KEY, RECOVER_KEY):
        govern.add_key(database, _key_row(wish, extra, now), run.keys, step)
    elif wish.action == REVOKE_KEY:
        govern.revoke_key(database, wish.subject, run.keys, step)
    else:
        change = change_status(database, wish.action, wish.subject, wish.revision, run.keys, step)
        run.keep("status_change", change)


def _key_row(wish: Wish, extra: dict[str, Any], now: int) -> dict[str, object]:
    """The hash that was approved covers the key and whose it is."""
    if key_hash(extra) != wish.artifact_hash:
        raise Refused(Code.APR_NOT_BOUND_TO_ARTIFACT, "another key was approved", 1)
    return {
        "fingerprint": wish.subject,
        "public_key": base64.b64decode(extra["public_key"]),
        "name": extra["name"],
        "owner": extra["owner"],
        "added_at": now,
    }


def key_hash(extra: dict[str, Any]) -> str:
    names = ("name", "owner", "public_key")
    return digest(canonical({name: str(extra.get(name)) for name in names}))


def _prior(run: Run, registry: Registry, wish: Wish) -> dict[str, Any]:
    keys = prior_keys(registry.database, wish.key)
    if keys is None:
        raise Refused(Code.WRITE_FAILED, "the prior decision is gone: retry", 2)
    if outcome(registry.database, wish.key, CHANGED) is None:
        run.audit(6, CHANGED, {"recovered": True})
    return {"outcome": "DONE", "subject": wish.subject, "attempt_id": keys.attempt_id}
