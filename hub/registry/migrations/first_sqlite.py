"""What SQLite itself refuses, and how it numbers changes of the roster."""

APPEND_ONLY = (
    "approval",
    "approval_request",
    "attempt",
    "audit_checkpoint",
    "consumed_request",
    "event_outbox",
)
KEPT = ("dot_tools", "runtime_gate", "governance_key", "governance_object_ownership")

FIXED = {
    "dot_tools": (
        "dot_code artifact_type artifact_hash hash_algorithm canonicalization_version"
        " canonical_path origin admission_ref source_carrier_ref identity public_key name"
        " tunnel_address tier owner attempt_id logical_request_key registered_at"
    ),
    "governance_key": "fingerprint public_key name owner role added_at",
    "runtime_gate": "name",
}


def _refuse(table: str, verb: str) -> str:
    return f"""
    CREATE TRIGGER {table}_no_{verb.lower()} BEFORE {verb} ON {table}
    BEGIN SELECT RAISE(ABORT, '{table} rows stay: {verb} refused'); END
    """


def _fixed(table: str, columns: list[str]) -> str:
    changed = " OR ".join(f"NEW.{name} IS NOT OLD.{name}" for name in columns)
    return f"""
    CREATE TRIGGER {table}_fixed BEFORE UPDATE ON {table} WHEN {changed}
    BEGIN SELECT RAISE(ABORT, '{table}: what was registered does not change'); END
    """


INSERT = """
CREATE TRIGGER dot_tools_inert BEFORE INSERT ON dot_tools
WHEN NEW.status <> 'inert' OR NEW.change_ref IS NOT NULL OR NEW.revision <> 0
BEGIN SELECT RAISE(ABORT, 'ACTIVATION_AT_REGISTRATION'); END
"""

STATUS = """
CREATE TRIGGER dot_tools_status BEFORE UPDATE OF status, revision, change_ref ON dot_tools
WHEN NEW.revision <> OLD.revision + 1
  OR NOT (
    (NEW.status = 'quarantined' AND OLD.status IN ('inert', 'active')
     AND NEW.change_ref IS OLD.change_ref)
    OR (NEW.change_ref IS NOT OLD.change_ref AND EXISTS (
      SELECT 1 FROM consumed_request AS c
      WHERE c.logical_request_key = NEW.change_ref AND c.subject = NEW.dot_code AND (
        (c.action = 'activate_dot' AND OLD.status = 'inert' AND NEW.status = 'active')
        OR (c.action = 'deactivate_dot' AND OLD.status = 'active' AND NEW.status = 'inert')
        OR (c.action = 'revoke_dot' AND OLD.status <> 'revoked' AND NEW.status = 'revoked'))))
  )
BEGIN SELECT RAISE(ABORT, 'STATUS_NOT_ELIGIBLE'); END
"""

NOTIFY = """
CREATE TRIGGER dot_tools_notify AFTER UPDATE OF status ON dot_tools
WHEN NEW.tier = 'watch' AND (NEW.status = 'active') <> (OLD.status = 'active')
BEGIN
    UPDATE registry_generation SET generation = generation + 1;
    UPDATE dot_tools SET changed_generation = (SELECT generation FROM registry_generation)
    WHERE dot_code = NEW.dot_code;
END
"""

GATE = """
CREATE TRIGGER runtime_gate_change BEFORE UPDATE ON runtime_gate
WHEN NEW.revision <> OLD.revision + 1 OR NEW.change_ref IS OLD.change_ref OR NOT EXISTS (
    SELECT 1 FROM consumed_request AS c
    WHERE c.logical_request_key = NEW.change_ref AND c.subject = NEW.name
    AND c.action = CASE WHEN NEW.is_open THEN 'open_gate' ELSE 'close_gate' END)
BEGIN SELECT RAISE(ABORT, 'WOULD_OPEN_GATE'); END
"""

GATE_INSERT = """
CREATE TRIGGER runtime_gate_closed BEFORE INSERT ON runtime_gate WHEN NEW.is_open
BEGIN SELECT RAISE(ABORT, 'WOULD_OPEN_GATE'); END
"""

TRIGGERS = [
    *(_refuse(table, verb) for table in APPEND_ONLY for verb in ("UPDATE", "DELETE")),
    *(_refuse(table, "DELETE") for table in KEPT),
    *(_fixed(table, names.split()) for table, names in FIXED.items()),
    INSERT,
    STATUS,
    NOTIFY,
    GATE,
    GATE_INSERT,
]
