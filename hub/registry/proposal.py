"""Approval requests: what is asked for, with its nonce, and the operators' signatures under it."""

import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, exists, insert, select
from sqlalchemy.exc import IntegrityError

from hub.registry import audit, schema
from hub.registry.authority import APPROVAL_CONTEXT
from hub.registry.codes import Code, RegistryError
from hub.registry.database import unavailable
from hub.registry.envelope import (
    EASING,
    RECOVER_KEY,
    AuditEnvelope,
    RequestKeys,
    logical_request_key,
)
from hub.registry.registry import Registry
from m13 import identity
from m13.canonical import canonical, digest, parse_canonical

DEFAULT_SECONDS = 7 * 86400


@dataclass(frozen=True)
class Wish:
    """What a proposer wants done."""

    action: str
    object_type: str
    subject: str
    artifact_hash: str
    revision: int = 0
    tunnel_address: str = ""

    @property
    def key(self) -> str:
        return logical_request_key(self.action, self.subject, self.artifact_hash, self.revision)


@dataclass(frozen=True)
class Approvals:
    """Where an approval request stands."""

    apr_ref: str
    body: dict[str, Any]
    given: tuple[str, ...]  # names of operators
    missing: int
    candidates: tuple[str, ...]  # operators who could give what is missing

    @property
    def complete(self) -> bool:
        return self.missing <= 0

    def keys(self) -> RequestKeys:
        """For a new attempt at this request."""
        return RequestKeys(
            self.body["logical_request_key"],
            self.body["authorization_nonce"],
            secrets.token_hex(16),
        )


def propose(
    registry: Registry,
    wish: Wish,
    proposer: identity.Identity,
    *,
    seconds: int = DEFAULT_SECONDS,
    extra: Mapping[str, Any] | None = None,
) -> str:
    """The reference of a new approval request, or of an open one for the same thing."""
    known = open_request(registry, wish)
    if known is not None:
        return known
    now = int(time.time())
    body = {
        "action": wish.action,
        "artifact_hash": wish.artifact_hash,
        "authorization_nonce": secrets.token_hex(16),
        "expires_at": now + seconds,
        "logical_request_key": wish.key,
        "object_type": wish.object_type,
        "registry_id": registry.fact("registry_id"),
        "revision": wish.revision,
        "subject": wish.subject,
        "tunnel_address": wish.tunnel_address,
        "extra": dict(extra or {}),
    }
    text = canonical(body).decode()
    apr_ref = digest(text.encode())
    columns = ("action", "object_type", "subject", "artifact_hash", "logical_request_key")
    with unavailable(), registry.database.writing.begin() as connection:
        connection.execute(
            insert(schema.approval_request).values(
                apr_ref=apr_ref,
                **{name: body[name] for name in columns},
                authorization_nonce=body["authorization_nonce"],
                expires_at=body["expires_at"],
                body=text,
                proposed_by=proposer.fingerprint,
                created_at=now,
            )
        )
    _tell(registry, "proposed", apr_ref, body, proposer.fingerprint)
    return apr_ref


def open_request(registry: Registry, wish: Wish) -> str | None:
    table, consumed = schema.approval_request, schema.consumed_request
    used = exists().where(consumed.c.logical_request_key == table.c.logical_request_key)
    with unavailable(), registry.database.engine.connect() as connection:
        rows = connection.execute(
            select(table)
            .where(table.c.logical_request_key == wish.key, table.c.expires_at > int(time.time()))
            .where(~used)
            .order_by(table.c.created_at.desc())
        ).all()
    for row in rows:
        if parse_canonical(row.body.encode())["tunnel_address"] == wish.tunnel_address:
            return str(row.apr_ref)
    return None


def approve(registry: Registry, apr_ref: str, operator: identity.Identity) -> None:
    """Signs a request; again by the same operator: nothing changes."""
    request = find(registry, apr_ref)
    role = "hub" if request.action == RECOVER_KEY else "operator"
    table = schema.governance_key
    with unavailable(), registry.database.engine.connect() as connection:
        key = connection.execute(
            select(table).where(table.c.fingerprint == operator.fingerprint)
        ).first()
    if key is None or key.role != role or key.state != "active":
        raise RegistryError(
            Code.QUORUM_NOT_PROVEN, f"{operator.fingerprint} is not an active {role} key here"
        )
    signing_key, _ = registry.provider.sign_load(operator.seed)
    signature = registry.provider.sign(signing_key, request.body.encode(), APPROVAL_CONTEXT)
    try:
        with unavailable(), registry.database.writing.begin() as connection:
            table = schema.approval
            known = (table.c.apr_ref == apr_ref) & (table.c.approver == operator.fingerprint)
            if connection.execute(select(table.c.apr_ref).where(known)).first():
                return
            connection.execute(
                insert(table).values(
                    apr_ref=apr_ref,
                    approver=operator.fingerprint,
                    signature=signature,
                    created_at=int(time.time()),
                )
            )
    except RegistryError as error:
        if isinstance(error.__cause__, IntegrityError):
            return  # the same operator, at the same time
        raise
    _tell(registry, "approved", apr_ref, parse_canonical(request.body.encode()), key.name)


def find(registry: Registry, prefix: str) -> Row[Any]:
    """By the reference or enough of its beginning."""
    table = schema.approval_request
    with unavailable(), registry.database.engine.connect() as connection:
        rows = connection.execute(
            select(table).where(table.c.apr_ref.startswith(prefix, autoescape=True)).limit(2)
        ).all()
    if len(rows) != 1 or len(prefix) < 6:
        what = "several approval requests" if len(rows) == 2 else "no approval request"
        raise RegistryError(Code.APR_NOT_BOUND_TO_ARTIFACT, f"{what} '{prefix[:64]}'")
    return rows[0]


def standing(registry: Registry, apr_ref: str) -> Approvals:
    """Counts what was given, for people; phase 1 verifies it."""
    request = find(registry, apr_ref)
    head, key, given = schema.governance_object_ownership, schema.governance_key, schema.approval
    with unavailable(), registry.database.engine.connect() as connection:
        owner = connection.execute(
            select(head).where(head.c.object_type == request.object_type, head.c.is_head)
        ).first()
        wanted = key.c.role == "hub" if request.action == RECOVER_KEY else key.c.role == "operator"
        keys = connection.execute(select(key).where(wanted, key.c.state == "active")).all()
        names = set(
            connection.execute(
                select(given.c.approver).where(given.c.apr_ref == request.apr_ref)
            ).scalars()
        )
    if owner is None:
        raise RegistryError(Code.OWNER_ABSENT, f"nobody owns {request.object_type}")
    if request.action != RECOVER_KEY:
        keys = [entry for entry in keys if entry.owner == owner.owner]
    easy = request.action in EASING or request.action == RECOVER_KEY
    quorum = 1 if easy else owner.quorum
    have = tuple(entry.name for entry in keys if entry.fingerprint in names)
    others = tuple(entry.name for entry in keys if entry.fingerprint not in names)
    body = parse_canonical(request.body.encode())
    return Approvals(request.apr_ref, body, have, quorum - len(have), others)


def _tell(registry: Registry, event: str, apr_ref: str, body: dict[str, Any], who: str) -> None:
    payload = {"apr_ref": apr_ref, "by": who, **{k: v for k, v in body.items() if k != "extra"}}
    audit.append(
        registry.database,
        AuditEnvelope(
            run_id=secrets.token_hex(16),
            phase=1,
            event=event,
            logical_request_key=body["logical_request_key"],
            subject=body["subject"],
            payload=payload,
        ),
    )
