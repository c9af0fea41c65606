"""One try at a request: what each phase proved so far, and how it ends, with its audit."""

import secrets
from collections.abc import Mapping
from typing import Any, TypeVar

from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from hub.registry import audit, schema
from hub.registry.codes import Code, Refused
from hub.registry.database import Database
from hub.registry.envelope import (
    AuditEnvelope,
    AuditReceipt,
    Dataclass,
    Decision,
    RequestKeys,
    record,
)

Envelope = TypeVar("Envelope", bound=Dataclass)


class Run:
    """Every way out writes its audit first; what cannot be written is not reported as done."""

    def __init__(self, database: Database, action: str, subject: str, keys: RequestKeys) -> None:
        self.database = database
        self.action, self.subject, self.keys = action, subject, keys
        self.run_id = secrets.token_hex(16)
        self.proofs: dict[str, Any] = {}

    def keep(self, name: str, envelope: Envelope) -> Envelope:
        self.proofs[name] = record(envelope)
        return envelope

    def audit(
        self,
        phase: int,
        event: str,
        payload: Mapping[str, Any] | None = None,
        codes: tuple[str, ...] = (),
        classification: str = "decision",
    ) -> AuditReceipt:
        envelope = AuditEnvelope(
            run_id=self.run_id,
            phase=phase,
            event=event,
            reject_codes=codes,
            logical_request_key=self.keys.logical_request_key,
            subject=self.subject,
            payload_classification=classification,
            payload={"action": self.action, **_told(self.keys), **(payload or {})},
        )
        receipt = audit.append(self.database, envelope)
        self.proofs.setdefault("audit", {})[event] = record(receipt)
        return receipt

    def done(self, phase: int) -> Decision:
        return self._decision("DONE", phase)

    def rejected(self, refusal: Refused) -> Decision:
        """The durable failure record, outside whatever was rolled back."""
        codes: tuple[str, ...] = (refusal.code,)
        if refusal.code != Code.AUDIT_SINK_UNAVAILABLE:
            # resolution has no effect on the registry, so its failures only advise
            classification = "advisory" if refusal.phase == 0 else "failure"
            told = {"detail": refusal.detail[:500]}
            try:
                self.audit(refusal.phase, "rejected", told, codes, classification)
            except Refused as unavailable:
                codes = (refusal.code, unavailable.code)
        return self._decision("REJECTED", refusal.phase, codes, refusal.detail)

    def duplicate(self, refusal: Refused, prior: dict[str, Any]) -> Decision:
        try:
            self.audit(refusal.phase, "replay_duplicate", {}, (refusal.code,), "failure")
        except Refused as unavailable:
            codes = (refusal.code, unavailable.code)
            return self._decision("REJECTED", refusal.phase, codes, unavailable.detail)
        return self._decision(
            "REPLAY_DUPLICATE", refusal.phase, (refusal.code,), refusal.detail, prior
        )

    def _decision(
        self,
        outcome: str,
        phase: int,
        codes: tuple[str, ...] = (),
        detail: str = "",
        prior: dict[str, Any] | None = None,
    ) -> Decision:
        return Decision(
            outcome=outcome,
            run_id=self.run_id,
            action=self.action,
            subject=self.subject,
            keys=self.keys,
            phase=phase,
            reject_codes=tuple(map(str, codes)),
            detail=detail,
            proofs=self.proofs,
            prior=prior,
        )


def _told(keys: RequestKeys) -> dict[str, str]:
    return {"attempt_id": keys.attempt_id, "authorization_nonce": keys.authorization_nonce}


def prior_keys(database: Database, logical_request_key: str) -> RequestKeys | None:
    """With which nonce and in which attempt a request took effect."""
    table = schema.consumed_request
    wanted = table.c.logical_request_key == logical_request_key
    try:
        with database.fresh.connect() as connection:
            row = connection.execute(select(table).where(wanted)).first()
    except SQLAlchemyError as error:
        raise Refused(Code.WRITE_FAILED, "the prior decision cannot be read", 2) from error
    if row is None:
        return None
    return RequestKeys(row.logical_request_key, row.authorization_nonce, row.attempt_id)


def outcome(database: Database, logical_request_key: str, event: str) -> AuditReceipt | None:
    """The audit entry that tells how a request ended, if it was written."""
    table = schema.event_outbox
    try:
        with database.fresh.connect() as connection:
            row = connection.execute(
                select(table.c.sequence, table.c.entry_hash)
                .where(table.c.logical_request_key == logical_request_key, table.c.event == event)
                .order_by(table.c.sequence)
                .limit(1)
            ).first()
    except SQLAlchemyError as error:
        raise Refused(Code.AUDIT_SINK_UNAVAILABLE, "the audit cannot be read", 5) from error
    return AuditReceipt(row.sequence, row.entry_hash) if row else None
