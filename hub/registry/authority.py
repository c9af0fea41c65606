"""Phase 1: who may allow it, and whether they did, for exactly this. Writes nothing."""

import time
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, Row, and_, select

from hub.registry import schema
from hub.registry.codes import Code, Refused
from hub.registry.envelope import EASING, RECOVER_KEY, AuthorityClaim, AuthorityDecision
from m13 import pqc
from m13.canonical import digest, parse_canonical

PHASE = 1
APPROVAL_CONTEXT = b"M13-APPROVAL-1"


def authorise(
    connection: Connection, claim: AuthorityClaim, provider: pqc.Provider
) -> AuthorityDecision:
    """The authority for a claim, or Refused. Every signature is verified here and now."""
    head = owner_head(connection, claim.object_type)
    request = connection.execute(
        select(schema.approval_request).where(schema.approval_request.c.apr_ref == claim.apr_ref)
    ).first()
    if request is None:
        raise Refused(Code.APR_NOT_BOUND_TO_ARTIFACT, f"no {claim.action} approval request", PHASE)
    facts = schema.registry_fact
    registry_id = connection.scalar(select(facts.c.value).where(facts.c.name == "registry_id"))
    body = _bound_body(request, claim, str(registry_id))
    quorum = 1 if claim.action in EASING or claim.action == RECOVER_KEY else head.quorum
    if body["expires_at"] <= time.time():
        raise Refused(Code.QUORUM_NOT_PROVEN, "the approval request expired", PHASE)
    proofs = _approvals(connection, request, head.owner, provider)
    if len(proofs) < quorum:
        raise Refused(
            Code.QUORUM_NOT_PROVEN,
            f"{len(proofs)} of {quorum} approvals by {head.owner}'s operators verify",
            PHASE,
        )
    proof = "".join(f"{name}:{digest(proofs[name])}\n" for name in sorted(proofs))
    return AuthorityDecision(
        owner_head_ref=head.owner_head_ref,
        apr_ref=claim.apr_ref,
        quorum_proof_ref=digest(proof.encode()),
        artifact_hash_bound=body["artifact_hash"],
        action=claim.action,
        subject=claim.subject,
        revision=claim.revision,
        authorization_nonce=body["authorization_nonce"],
        owner=head.owner,
        quorum=quorum,
        approvers=tuple(sorted(proofs)),
    )


def owner_head(connection: Connection, object_type: str) -> Row[Any]:
    table = schema.governance_object_ownership
    head = connection.execute(
        select(table).where(table.c.object_type == object_type, table.c.is_head)
    ).first()
    if head is None:
        raise Refused(Code.OWNER_ABSENT, f"nobody owns {object_type}", PHASE)
    return head


def _bound_body(request: Row[Any], claim: AuthorityClaim, registry_id: str) -> Mapping[str, Any]:
    """The signed statement, when it is about this claim in every part."""
    if digest(request.body.encode()) != request.apr_ref:
        raise Refused(Code.APR_NOT_BOUND_TO_ARTIFACT, "the approval request was altered", PHASE)
    try:
        body: dict[str, Any] = dict(parse_canonical(request.body.encode()))
    except (ValueError, TypeError) as error:
        raise Refused(Code.APR_NOT_BOUND_TO_ARTIFACT, "not a statement", PHASE) from error
    wanted = {
        "action": claim.action,
        "object_type": claim.object_type,
        "subject": claim.subject,
        "artifact_hash": claim.artifact_hash,
        "revision": claim.revision,
        "logical_request_key": claim.keys.logical_request_key,
        "tunnel_address": claim.tunnel_address,
        "registry_id": registry_id,  # the same operators may have another registry
    }
    for name, value in wanted.items():
        if body.get(name) != value:
            detail = f"approved was another {name}: {str(body.get(name))[:64]}"
            raise Refused(Code.APR_NOT_BOUND_TO_ARTIFACT, detail, PHASE)
    if not isinstance(body.get("expires_at"), int) or not body.get("authorization_nonce"):
        raise Refused(Code.APR_NOT_BOUND_TO_ARTIFACT, "not a whole statement", PHASE)
    return body


def _approvals(
    connection: Connection, request: Row[Any], owner: str, provider: pqc.Provider
) -> dict[str, bytes]:
    """Signatures that verify, by the operator's fingerprint; each operator counts once."""
    approval, key = schema.approval, schema.governance_key
    rows = connection.execute(
        select(approval.c.approver, approval.c.signature, key.c.public_key)
        .join(key, key.c.fingerprint == approval.c.approver)
        .where(approval.c.apr_ref == request.apr_ref, key.c.state == "active")
        .where(
            key.c.role == "hub"
            if request.action == RECOVER_KEY
            else and_(key.c.role == "operator", key.c.owner == owner)
        )
    )
    message = request.body.encode()
    return {
        row.approver: bytes(row.signature)
        for row in rows
        if provider.verify(row.public_key, message, APPROVAL_CONTEXT, bytes(row.signature))
    }
