"""A registration: phases 0 to 5 in their order, joined by envelopes. Phase 6 is another request."""

import dataclasses
import time
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from hub.registry.activate import quarantine
from hub.registry.authority import authorise
from hub.registry.codes import Code, Refused
from hub.registry.consume import consume
from hub.registry.envelope import (
    REGISTER,
    XDP_OBJECT,
    AuditReceipt,
    AuthorityClaim,
    AuthorityDecision,
    Decision,
    RegisteredRowIntent,
    RequestKeys,
    RequestProposed,
    TrustedAttested,
    VerifierReadback,
    record,
)
from hub.registry.registry import Registry
from hub.registry.resolve import resolve
from hub.registry.run import Run, outcome, prior_keys
from hub.registry.verify import verify
from hub.registry.write import write_inert

REGISTERED, VERIFIED = "registered", "verified"


def register(
    registry: Registry,
    proposed: object,
    apr_ref: str,
    keys: RequestKeys,
    tunnel_address: str = "",
) -> Decision:
    """Never raises for what a request may contain or a database may do."""
    run = Run(registry.database, REGISTER, "", keys)
    try:
        trusted = _resolve(run, registry, proposed)  # phase 0
        authority = _authorise(run, registry, trusted, apr_ref, tunnel_address)  # phase 1
        intent = _intent(trusted, authority, keys, tunnel_address)
        run.audit(3, "attempted")  # phase 5 can write, or nothing is written
        try:
            _write(run, registry, intent, authority)  # phases 2 and 3
        except Refused as refusal:
            if refusal.code != Code.REPLAY_DUPLICATE:
                raise
            return run.duplicate(refusal, _prior(run, registry, intent))
        receipt = run.audit(3, REGISTERED, record(intent))  # phase 5
        _verify(run, registry, intent, receipt)  # phase 4
        return run.done(5)
    except Refused as refusal:
        return run.rejected(refusal)


def _resolve(run: Run, registry: Registry, proposed: object) -> TrustedAttested:
    request = run.keep("request_proposed", RequestProposed.parse(proposed))
    try:
        operators = registry.operators()
    except SQLAlchemyError as error:
        raise Refused(Code.WRITE_FAILED, "the registry cannot be read", 0) from error
    trusted = resolve(request, registry.store, operators, registry.provider)
    run.subject = trusted.dot_code
    return run.keep("trusted_attested", trusted)


def _authorise(
    run: Run, registry: Registry, trusted: TrustedAttested, apr_ref: str, tunnel_address: str
) -> AuthorityDecision:
    claim = AuthorityClaim(
        action=REGISTER,
        object_type=trusted.artifact_type,
        subject=trusted.dot_code,
        artifact_hash=trusted.artifact_hash,
        revision=0,
        keys=run.keys,
        apr_ref=apr_ref,
        tunnel_address=tunnel_address,
    )
    try:
        with registry.database.engine.connect() as connection:
            return run.keep("authority", authorise(connection, claim, registry.provider))
    except SQLAlchemyError as error:
        raise Refused(Code.WRITE_FAILED, "the registry cannot be read", 1) from error


def _intent(
    trusted: TrustedAttested, authority: AuthorityDecision, keys: RequestKeys, tunnel_address: str
) -> RegisteredRowIntent:
    return RegisteredRowIntent(
        dot_code=trusted.dot_code,
        trusted=trusted,
        owner=authority.owner,
        tier="standard" if trusted.artifact_type == XDP_OBJECT else "watch",
        keys=keys,
        tunnel_address=tunnel_address,
    )


def _write(
    run: Run, registry: Registry, intent: RegisteredRowIntent, authority: AuthorityDecision
) -> None:
    now = int(time.time())
    written = write_inert(
        registry.database,
        intent,
        lambda connection: run.keep(
            "consume", consume(connection, run.keys, authority, run.run_id, now)
        ),
        now,
    )
    run.keep("registered_row", written)


def _verify(
    run: Run,
    registry: Registry,
    intent: RegisteredRowIntent,
    receipt: AuditReceipt,
    expected_status: str = "inert",
) -> VerifierReadback:
    place = (receipt.sequence, receipt.entry_hash)
    readback = run.keep("readback", verify(registry.database, intent, place, expected_status))
    if not readback.matches:
        try:
            aside = quarantine(registry.database, intent.dot_code)
        except Refused:
            aside = False  # the finding must not hide behind what came of it
        event = "quarantined" if aside else "quarantine_failed"
        run.audit(4, event, record(readback), (Code.POST_COMMIT_VERIFY_FAIL,), "failure")
        raise Refused(Code.POST_COMMIT_VERIFY_FAIL, "; ".join(readback.findings), 4)
    run.audit(4, VERIFIED, record(readback))
    return readback


def _prior(run: Run, registry: Registry, intent: RegisteredRowIntent) -> dict[str, Any]:
    """The decision a duplicate gets: the first one's, brought to its end if a crash cut it off."""
    key = intent.keys.logical_request_key
    keys = prior_keys(registry.database, key)
    if keys is None:
        raise Refused(Code.WRITE_FAILED, "the prior decision is gone: retry", 2)
    if outcome(registry.database, key, VERIFIED) is None:
        finish(run, registry, dataclasses.replace(intent, keys=keys))
    return {"outcome": "DONE", "dot_code": intent.dot_code, "keys": record(keys), "verified": True}


def finish(
    run: Run, registry: Registry, intent: RegisteredRowIntent, expected_status: str = "inert"
) -> VerifierReadback:
    """Audit and verification of a row that was committed, by this run or by one that crashed."""
    receipt = outcome(registry.database, intent.keys.logical_request_key, REGISTERED)
    if receipt is None:
        receipt = run.audit(3, REGISTERED, {"recovered": True, **record(intent)})
    return _verify(run, registry, intent, receipt, expected_status)
