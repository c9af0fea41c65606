"""What an operator does at the registry, as a few calls: submit, sign, carry out, look after."""

import json
from typing import Any

from sqlalchemy import Row, exists, or_, select

from hub.registry import schema
from hub.registry.activate import STEPS
from hub.registry.codes import Code, Refused, RegistryError
from hub.registry.database import unavailable
from hub.registry.envelope import (
    ACTIVATE,
    ARTIFACT_TYPES,
    CANONICALIZATION_VERSION,
    GOVERNANCE,
    HASH_ALGORITHM,
    REGISTER,
    XDP_OBJECT,
    Decision,
    RegisteredRowIntent,
    RequestProposed,
    dot_code,
    record,
)
from hub.registry.lifecycle import carry_out
from hub.registry.proposal import Wish, approve, find, propose, standing
from hub.registry.register import REGISTERED, VERIFIED, finish, register
from hub.registry.registry import Registry
from hub.registry.resolve import resolve, sniff
from hub.registry.run import Run, prior_keys
from hub.registry.store import NotProven, carrier_path
from m13 import identity
from m13.canonical import digest, parse_canonical


def submit(
    registry: Registry,
    data: bytes,
    operator: identity.Identity,
    *,
    origin: str,
    admission_ref: str,
    tunnel_address: str = "",
) -> tuple[Wish, RequestProposed]:
    """Deploys an artifact into the store, vouched for by the operator, and says what to ask for.
    A carrier that is proven, or that a row was registered from, stays as it is: rows refer to it.
    """
    kind, name, key, _ = sniff(data, registry.provider)
    if kind not in ARTIFACT_TYPES:
        raise RegistryError(Code.ARTIFACT_TYPE_MISMATCH, kind)
    path = carrier_path(kind, data)
    request = RequestProposed(
        artifact_path=path,
        artifact_hash=digest(data),
        hash_algorithm=HASH_ALGORITHM,
        canonicalization_version=CANONICALIZATION_VERSION,
        artifact_type=kind,
        origin=origin,
        admission_ref=admission_ref,
    )
    subject = dot_code(kind, name, key)
    wish = Wish(REGISTER, kind, subject, digest(data), tunnel_address=tunnel_address)
    if not is_done(registry, wish) and not _is_proven(registry, path, data):
        registry.store.deploy(data, kind, operator, registry.provider)
    return wish, request


def _is_proven(registry: Registry, path: str, data: bytes) -> bool:
    try:
        carrier = registry.store.carrier(path, registry.operators(), registry.provider)
    except NotProven:
        return False
    return carrier.data == data


def sign(
    registry: Registry,
    wish: Wish,
    operator: identity.Identity,
    extra: dict[str, Any] | None = None,
) -> str:
    """Proposes, unless it is proposed already, and approves; the approval request's reference."""
    apr_ref = propose(registry, wish, operator, extra=extra)
    approve(registry, apr_ref, operator)
    return apr_ref


def execute(registry: Registry, apr_ref: str) -> Decision:
    """Takes an approved request through its phases."""
    request = find(registry, apr_ref)
    body = parse_canonical(request.body.encode())
    keys = standing(registry, request.apr_ref).keys()
    extra = body["extra"]
    if body["action"] == REGISTER:
        proposed = extra.get("request_proposed")
        return register(registry, proposed, request.apr_ref, keys, body["tunnel_address"])
    return carry_out(registry, wish_of(body), request.apr_ref, keys, extra)


def wish_of(body: dict[str, Any]) -> Wish:
    names = ("action", "object_type", "subject", "artifact_hash", "revision", "tunnel_address")
    return Wish(**{name: body[name] for name in names})


def is_done(registry: Registry, wish: Wish) -> bool:
    return prior_keys(registry.database, wish.key) is not None


def activation(registration: Wish) -> Wish:
    """The request that follows a registration; it can be made, and approved, ahead of it."""
    return Wish(
        ACTIVATE, registration.object_type, registration.subject, registration.artifact_hash
    )


def change_of(row: Row[Any], action: str) -> Wish:
    begin, _ = STEPS[action]
    if row.status not in begin:
        raise RegistryError(
            Code.STATUS_NOT_ELIGIBLE, f"{row.dot_code} is {row.status}, not {' or '.join(begin)}"
        )
    return Wish(action, row.artifact_type, row.dot_code, row.artifact_hash, row.revision)


def gate_change(registry: Registry, name: str, action: str) -> Wish:
    table = schema.runtime_gate
    with unavailable(), registry.database.engine.connect() as connection:
        gate = connection.execute(select(table).where(table.c.name == name)).first()
    if gate is None:
        raise RegistryError(Code.REQUEST_MALFORMED, f"no gate {name}: {', '.join(schema.GATES)}")
    return Wish(action, GOVERNANCE, name, digest(name.encode()), gate.revision)


def check_row(registry: Registry, row: Row[Any]) -> Decision:
    """Phase 4 again, for a row of any age: against the store and the audit, not against itself.
    What a crash left unfinished is finished; what does not match is quarantined."""
    keys = prior_keys(registry.database, row.logical_request_key)
    if keys is None:
        raise RegistryError(Code.POST_COMMIT_VERIFY_FAIL, f"{row.dot_code} has no consume record")
    run = Run(registry.database, REGISTER, row.dot_code, keys)
    try:
        expected = _expected_status(registry, row)
        intent = _registered_intent(registry, row)
        finish(run, registry, intent, expected)
        return run.done(4)
    except Refused as refusal:
        return run.rejected(refusal)


def _registered_intent(registry: Registry, row: Row[Any]) -> RegisteredRowIntent:
    request = RequestProposed(
        artifact_path=row.canonical_path,
        artifact_hash=row.artifact_hash,
        hash_algorithm=row.hash_algorithm,
        canonicalization_version=row.canonicalization_version,
        artifact_type=row.artifact_type,
        origin=row.origin,
        admission_ref=row.admission_ref,
    )
    trusted = resolve(request, registry.store, _vouchers(registry), registry.provider)
    keys = prior_keys(registry.database, row.logical_request_key)
    assert keys is not None
    told = _told_intent(registry, row.logical_request_key)
    return RegisteredRowIntent(
        dot_code=trusted.dot_code,
        trusted=trusted,
        owner=told.get("owner", row.owner),
        tier="standard" if trusted.artifact_type == XDP_OBJECT else "watch",
        keys=keys,
        tunnel_address=told.get("tunnel_address", ""),
    )


def _vouchers(registry: Registry) -> dict[str, bytes]:
    """Operators of any time: a key that was revoked since vouched while it was good."""
    table = schema.governance_key
    with registry.database.engine.connect() as connection:
        rows = connection.execute(select(table).where(table.c.role == "operator"))
        return {row.fingerprint: bytes(row.public_key) for row in rows}


def _told_intent(registry: Registry, logical_request_key: str) -> dict[str, Any]:
    """The intent as the audit has it."""
    table = schema.event_outbox
    with registry.database.fresh.connect() as connection:
        payload = connection.scalar(
            select(table.c.payload)
            .where(table.c.logical_request_key == logical_request_key)
            .where(table.c.event == REGISTERED)
            .order_by(table.c.sequence)
            .limit(1)
        )
    return dict(json.loads(payload)) if payload else {}


def _expected_status(registry: Registry, row: Row[Any]) -> str:
    """What the last request that took effect made of the row."""
    if row.change_ref is None:
        return "inert"
    table = schema.consumed_request
    with registry.database.fresh.connect() as connection:
        action = connection.scalar(
            select(table.c.action).where(
                table.c.logical_request_key == row.change_ref, table.c.subject == row.dot_code
            )
        )
    return STEPS[action][1] if action in STEPS else "inert"


def look_after(registry: Registry) -> list[Decision]:
    """Finishes what crashes cut off: rows without verification, changes without their entry."""
    rows, consumed, told = schema.dot_tools, schema.consumed_request, schema.event_outbox
    verified = exists().where(
        told.c.logical_request_key == rows.c.logical_request_key, told.c.event == VERIFIED
    )
    outcome = exists().where(
        told.c.logical_request_key == consumed.c.logical_request_key,
        or_(told.c.event == REGISTERED, told.c.event == "changed"),
    )
    living = rows.c.status.in_(("inert", "active"))
    with unavailable(), registry.database.engine.connect() as connection:
        unverified = connection.execute(select(rows).where(living, ~verified)).all()
        untold = connection.execute(
            select(consumed).where(~outcome, consumed.c.action != REGISTER)
        ).all()
    decisions = [check_row(registry, row) for row in unverified]
    for row in untold:
        keys = prior_keys(registry.database, row.logical_request_key)
        assert keys is not None
        run = Run(registry.database, row.action, row.subject, keys)
        try:
            run.audit(6, "changed", {"recovered": True, "keys": record(keys)})
            decisions.append(run.done(6))
        except Refused as refusal:
            decisions.append(run.rejected(refusal))
    return decisions
