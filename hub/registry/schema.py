"""The registry's tables as SQLAlchemy sees them. What the database enforces of them, keys, checks
and triggers, is written once, in the migrations; the tests hold the two together."""

from sqlalchemy import BigInteger, Boolean, Column, Integer, LargeBinary, MetaData, Table, Text

metadata = MetaData()


def _table(name: str, *columns: Column) -> Table:
    return Table(name, metadata, *columns)


def _text(name: str, *, key: bool = False, null: bool = False) -> Column:
    return Column(name, Text, primary_key=key, nullable=null)


def _number(name: str, *, key: bool = False, null: bool = False) -> Column:
    return Column(name, BigInteger, primary_key=key, nullable=null, autoincrement=False)


registry_fact = _table("registry_fact", _text("name", key=True), _text("value"))

governance_key = _table(
    "governance_key",
    _text("fingerprint", key=True),
    Column("public_key", LargeBinary, nullable=False),
    _text("name"),
    _text("owner"),
    _text("role"),  # operator: deploys and approves; hub: signs checkpoints
    _text("state"),  # active, revoked
    _text("change_ref", null=True),  # the consumed request that made it so; NULL: at init
    _number("added_at"),
)

governance_object_ownership = _table(
    "governance_object_ownership",
    _text("owner_head_ref", key=True),
    _text("object_type"),
    _text("owner"),
    Column("quorum", Integer, nullable=False),
    Column("is_head", Boolean, nullable=False),
    _number("created_at"),
)

approval_request = _table(
    "approval_request",
    _text("apr_ref", key=True),  # SHA-256 of body
    _text("action"),
    _text("object_type"),
    _text("subject"),
    _text("artifact_hash"),
    _text("logical_request_key"),
    _text("authorization_nonce"),
    _number("expires_at"),
    _text("body"),  # canonical; what approvers sign
    _text("proposed_by"),
    _number("created_at"),
)

approval = _table(
    "approval",
    _text("apr_ref", key=True),
    _text("approver", key=True),
    Column("signature", LargeBinary, nullable=False),
    _number("created_at"),
)

consumed_request = _table(
    "consumed_request",
    _text("attempt_id", key=True),
    _text("logical_request_key"),
    _text("authorization_nonce"),
    _text("apr_ref"),
    _text("action"),
    _text("subject"),
    _text("dot_code", null=True),  # of a registration: the row that came of it
    _text("decision"),
    _number("consumed_at"),
)

attempt = _table(
    "attempt",
    _text("attempt_id", key=True),
    _text("logical_request_key"),
    _text("run_id"),
    _text("action"),
    _number("committed_at"),
)

dot_tools = _table(
    "dot_tools",
    _text("dot_code", key=True),
    _text("artifact_type"),
    _text("artifact_hash"),
    _text("hash_algorithm"),
    _text("canonicalization_version"),
    _text("canonical_path"),
    _text("origin"),
    _text("admission_ref"),
    _text("source_carrier_ref"),
    _text("identity"),
    _text("public_key"),
    _text("name"),
    _number("tunnel_address", null=True),  # IPv4, host order; of nodes
    _text("tier"),  # watch: hubs follow it live; standard
    _text("owner"),
    _text("status"),  # inert, active, quarantined, revoked
    Column("revision", Integer, nullable=False),  # status changes so far
    _text("attempt_id"),
    _text("logical_request_key"),
    _text("change_ref", null=True),  # the consumed request of the last status change
    _number("changed_generation"),
    _number("registered_at"),
)

runtime_gate = _table(
    "runtime_gate",
    _text("name", key=True),
    Column("is_open", Boolean, nullable=False),
    Column("revision", Integer, nullable=False),
    _text("change_ref", null=True),
)

event_outbox = _table(
    "event_outbox",
    _number("sequence", key=True),
    _text("run_id"),
    Column("phase", Integer, nullable=False),
    _text("event"),
    _text("reject_codes"),
    _text("logical_request_key"),
    _text("subject"),
    _text("payload_classification"),
    _text("delivery_lane"),
    _text("payload"),
    _number("recorded_at_ms"),
    _text("previous_hash"),
    _text("entry_hash"),
)

audit_checkpoint = _table(
    "audit_checkpoint",
    _number("tree_size", key=True),
    _text("root"),
    _text("signer"),
    Column("signature", LargeBinary, nullable=False),
    _text("body"),
    _number("created_at"),
)

registry_generation = _table(
    "registry_generation",
    Column("id", Integer, primary_key=True, autoincrement=False),
    _number("generation"),
)

REGISTRATION_HOLD = "registration"
RUNTIME_GATES = (
    "process_dot_runtime.real_run_enabled",
    "iu_core.operator_runtime_enabled",
    "owner_real_run_gate_open",
)
GATES = (REGISTRATION_HOLD, *RUNTIME_GATES)

APPEND_ONLY = (
    "approval",
    "approval_request",
    "attempt",
    "audit_checkpoint",
    "consumed_request",
    "event_outbox",
)
"""Tables whose rows the database itself lets nobody change or take away."""

UNIQUE = {
    "approval_request": [("authorization_nonce",)],
    "attempt": [("attempt_id",)],
    "consumed_request": [("logical_request_key",), ("authorization_nonce",), ("attempt_id",)],
    "dot_tools": [("dot_code",), ("identity",), ("attempt_id",), ("logical_request_key",)],
    "event_outbox": [("sequence",), ("previous_hash",)],
}
"""Uniqueness that admission rests on: a database without it is not used."""
