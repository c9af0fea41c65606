"""Tables, uniqueness and triggers of the first registry.

The DDL is written out, in the dialect both databases share, because the checks and triggers are the
point of it. {binary} and {later_dot_tools} are where they differ: SQLite cannot add a reference to
a table afterwards, PostgreSQL cannot name a table that does not exist yet.
"""

from alembic import op

from hub.registry.migrations import first_postgresql, first_sqlite

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

TABLES = """
CREATE TABLE registry_fact (name TEXT NOT NULL PRIMARY KEY, value TEXT NOT NULL);

CREATE TABLE governance_key (
    fingerprint TEXT NOT NULL PRIMARY KEY,
    public_key {binary} NOT NULL,
    name TEXT NOT NULL,
    owner TEXT NOT NULL,
    role TEXT NOT NULL CHECK (role IN ('operator', 'hub')),
    state TEXT NOT NULL CHECK (state IN ('active', 'revoked')),
    change_ref TEXT,
    added_at BIGINT NOT NULL
);

CREATE TABLE governance_object_ownership (
    owner_head_ref TEXT NOT NULL PRIMARY KEY,
    object_type TEXT NOT NULL,
    owner TEXT NOT NULL,
    quorum INTEGER NOT NULL CHECK (quorum >= 1),
    is_head BOOLEAN NOT NULL,
    created_at BIGINT NOT NULL
);
CREATE UNIQUE INDEX uq_ownership_head ON governance_object_ownership (object_type) WHERE is_head;

CREATE TABLE approval_request (
    apr_ref TEXT NOT NULL PRIMARY KEY,
    action TEXT NOT NULL,
    object_type TEXT NOT NULL,
    subject TEXT NOT NULL,
    artifact_hash TEXT NOT NULL,
    logical_request_key TEXT NOT NULL,
    authorization_nonce TEXT NOT NULL CONSTRAINT uq_approval_request_nonce UNIQUE,
    expires_at BIGINT NOT NULL,
    body TEXT NOT NULL,
    proposed_by TEXT NOT NULL,
    created_at BIGINT NOT NULL
);
CREATE INDEX ix_approval_request_key ON approval_request (logical_request_key);

CREATE TABLE approval (
    apr_ref TEXT NOT NULL REFERENCES approval_request (apr_ref),
    approver TEXT NOT NULL REFERENCES governance_key (fingerprint),
    signature {binary} NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (apr_ref, approver)
);

CREATE TABLE consumed_request (
    attempt_id TEXT NOT NULL PRIMARY KEY,
    logical_request_key TEXT NOT NULL CONSTRAINT uq_consumed_logical_request_key UNIQUE,
    authorization_nonce TEXT NOT NULL CONSTRAINT uq_consumed_authorization_nonce UNIQUE,
    apr_ref TEXT NOT NULL REFERENCES approval_request (apr_ref),
    action TEXT NOT NULL,
    subject TEXT NOT NULL,
    dot_code TEXT {later_dot_tools},
    decision TEXT NOT NULL,
    consumed_at BIGINT NOT NULL,
    CHECK (action <> 'register_dot' OR dot_code = subject)
);

CREATE TABLE attempt (
    attempt_id TEXT NOT NULL PRIMARY KEY REFERENCES consumed_request (attempt_id)
        DEFERRABLE INITIALLY DEFERRED,
    logical_request_key TEXT NOT NULL REFERENCES consumed_request (logical_request_key)
        DEFERRABLE INITIALLY DEFERRED,
    run_id TEXT NOT NULL,
    action TEXT NOT NULL,
    committed_at BIGINT NOT NULL
);

CREATE TABLE dot_tools (
    dot_code TEXT NOT NULL PRIMARY KEY,
    artifact_type TEXT NOT NULL
        CHECK (artifact_type IN ('node_identity', 'hub_identity', 'xdp_object')),
    artifact_hash TEXT NOT NULL,
    hash_algorithm TEXT NOT NULL,
    canonicalization_version TEXT NOT NULL,
    canonical_path TEXT NOT NULL,
    origin TEXT NOT NULL,
    admission_ref TEXT NOT NULL,
    source_carrier_ref TEXT NOT NULL,
    identity TEXT NOT NULL CONSTRAINT uq_dot_tools_identity UNIQUE,
    public_key TEXT NOT NULL,
    name TEXT NOT NULL,
    tunnel_address BIGINT,
    tier TEXT NOT NULL CHECK (tier IN ('watch', 'standard')),
    owner TEXT NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('inert', 'active', 'quarantined', 'revoked')),
    revision INTEGER NOT NULL,
    attempt_id TEXT NOT NULL CONSTRAINT uq_dot_tools_attempt UNIQUE
        REFERENCES attempt (attempt_id) DEFERRABLE INITIALLY DEFERRED,
    logical_request_key TEXT NOT NULL CONSTRAINT uq_dot_tools_logical_request_key UNIQUE
        REFERENCES consumed_request (logical_request_key) DEFERRABLE INITIALLY DEFERRED,
    change_ref TEXT REFERENCES consumed_request (logical_request_key),
    changed_generation BIGINT NOT NULL,
    registered_at BIGINT NOT NULL,
    CHECK (status <> 'active' OR change_ref IS NOT NULL),
    CHECK ((artifact_type = 'node_identity') = (tunnel_address IS NOT NULL))
);
CREATE UNIQUE INDEX uq_dot_tools_name ON dot_tools (artifact_type, name)
    WHERE status IN ('inert', 'active');
CREATE UNIQUE INDEX uq_dot_tools_address ON dot_tools (tunnel_address)
    WHERE status IN ('inert', 'active');
CREATE INDEX ix_dot_tools_generation ON dot_tools (changed_generation);

CREATE TABLE runtime_gate (
    name TEXT NOT NULL PRIMARY KEY,
    is_open BOOLEAN NOT NULL,
    revision INTEGER NOT NULL,
    change_ref TEXT REFERENCES consumed_request (logical_request_key)
);

CREATE TABLE event_outbox (
    sequence BIGINT NOT NULL PRIMARY KEY CHECK (sequence >= 1),
    run_id TEXT NOT NULL,
    phase INTEGER NOT NULL,
    event TEXT NOT NULL,
    reject_codes TEXT NOT NULL,
    logical_request_key TEXT NOT NULL,
    subject TEXT NOT NULL,
    payload_classification TEXT NOT NULL,
    delivery_lane TEXT NOT NULL CHECK (delivery_lane = 'audit'),
    payload TEXT NOT NULL,
    recorded_at_ms BIGINT NOT NULL,
    previous_hash TEXT NOT NULL CONSTRAINT uq_event_outbox_previous UNIQUE,
    entry_hash TEXT NOT NULL CONSTRAINT uq_event_outbox_entry UNIQUE
);
CREATE INDEX ix_event_outbox_key ON event_outbox (logical_request_key);

CREATE TABLE audit_checkpoint (
    tree_size BIGINT NOT NULL PRIMARY KEY,
    root TEXT NOT NULL,
    signer TEXT NOT NULL,
    signature {binary} NOT NULL,
    body TEXT NOT NULL,
    created_at BIGINT NOT NULL
);

CREATE TABLE registry_generation (
    id INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    generation BIGINT NOT NULL
);
INSERT INTO registry_generation (id, generation) VALUES (1, 1);
INSERT INTO runtime_gate (name, is_open, revision) VALUES
    ('registration', false, 0),
    ('process_dot_runtime.real_run_enabled', false, 0),
    ('iu_core.operator_runtime_enabled', false, 0),
    ('owner_real_run_gate_open', false, 0);
"""

ROW_OF_A_REGISTRATION = "REFERENCES dot_tools (dot_code) DEFERRABLE INITIALLY DEFERRED"


def upgrade() -> None:
    postgresql = op.get_bind().dialect.name == "postgresql"
    words = {
        "binary": "BYTEA" if postgresql else "BLOB",
        "later_dot_tools": "" if postgresql else ROW_OF_A_REGISTRATION,
    }
    for statement in TABLES.format(**words).split(";"):
        if statement.strip():
            op.execute(statement)
    if postgresql:
        op.execute(
            "ALTER TABLE consumed_request ADD CONSTRAINT fk_consumed_dot_code"
            f" FOREIGN KEY (dot_code) {ROW_OF_A_REGISTRATION}"
        )
    for statement in (first_postgresql if postgresql else first_sqlite).TRIGGERS:
        op.get_bind().exec_driver_sql(statement)


def downgrade() -> None:
    raise NotImplementedError("the first revision has nothing before it")
