"""What the databases enforce by themselves, and which of them are not used at all."""

import os
import sqlite3
from pathlib import Path

import pytest
from sqlalchemy import MetaData, text
from sqlalchemy.exc import DBAPIError

from hub.registry import schema
from hub.registry.codes import Code, RegistryError
from hub.registry.database import Database, parse_url
from hub.registry.registry import Registry, migrate
from tests.hub.registry.office import Office, begin


def reopened(office: Office) -> Code:
    """The code with which the registry refuses to open."""
    with pytest.raises(RegistryError) as refused:
        Registry(office.location, office.registry.store.directory)
    return Code(str(refused.value.code))


def test_tables_are_as_the_migrations_made_them(office):
    """The mirror in Python and the DDL name the same columns, nullable alike."""
    found = MetaData()
    with office.registry.database.fresh.connect() as connection:
        found.reflect(connection)
    made = {name: table for name, table in found.tables.items() if name != "alembic_version"}
    assert made.keys() == schema.metadata.tables.keys()
    for name, table in schema.metadata.tables.items():
        mirrored = [(column.name, bool(column.nullable)) for column in table.columns]
        assert mirrored == [(c.name, bool(c.nullable)) for c in made[name].columns], name
        keys = [column.name for column in table.primary_key]
        assert sorted(keys) == sorted(c.name for c in made[name].primary_key), name


def test_migrating_twice_changes_nothing(office):
    before = office.count(schema.event_outbox)
    migrate(office.registry.database)
    assert office.count(schema.event_outbox) == before
    with pytest.raises(RegistryError, match="exists already"):
        begin(office.location)


@pytest.mark.parametrize("table", schema.APPEND_ONLY)
def test_append_only_tables_refuse_update_and_delete(office, table):
    office.active()
    if table == "audit_checkpoint":
        office.tamper(
            "INSERT INTO audit_checkpoint VALUES (1, 'r', 's', 'x', 'b', 0)"
            if not office.registry.database.is_postgresql
            else r"INSERT INTO audit_checkpoint VALUES (1, 'r', 's', '\x00', 'b', 0)"
        )
    column = next(iter(schema.metadata.tables[table].columns)).name
    for statement in (
        f"UPDATE {table} SET {column} = {column}",
        f"DELETE FROM {table}",
        *([f"TRUNCATE {table} CASCADE"] if office.registry.database.is_postgresql else []),
    ):
        before = office.count(schema.metadata.tables[table])
        assert before > 0
        with pytest.raises(DBAPIError, match="rows stay"):
            office.tamper(statement)
        assert office.count(schema.metadata.tables[table]) == before


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM dot_tools",
        "DELETE FROM runtime_gate",
        "DELETE FROM governance_key",
        "UPDATE dot_tools SET identity = 'x'",
        "UPDATE dot_tools SET artifact_hash = 'x'",
        "UPDATE dot_tools SET tunnel_address = 7",
        "UPDATE governance_key SET public_key = public_key, owner = 'x'",
        "UPDATE dot_tools SET status = 'active'",
        "UPDATE dot_tools SET status = 'active', revision = revision + 1",
        "UPDATE dot_tools SET status = 'active', revision = revision + 1,"
        " change_ref = logical_request_key",
        "UPDATE runtime_gate SET is_open = false",
        "INSERT INTO runtime_gate VALUES ('another', true, 0, NULL)",
    ],
)
def test_rows_change_only_by_requests(office, statement):
    office.registered()
    with pytest.raises(DBAPIError):
        office.tamper(statement)


def test_a_consume_cannot_be_committed_without_its_row(office):
    request = office.request()
    statement = (
        "INSERT INTO consumed_request (attempt_id, logical_request_key, authorization_nonce,"
        " apr_ref, action, subject, dot_code, decision, consumed_at) VALUES ('a', 'k', 'n',"
        f" '{request.apr_ref}', 'register_dot', 'node.x.1', 'node.x.1', '', 0)"
    )
    with pytest.raises(DBAPIError, match=r"(?i)foreign key"):
        office.tamper(statement)


@pytest.mark.parametrize(
    ("table", "constraint"),
    [
        ("consumed_request", "uq_consumed_logical_request_key"),
        ("consumed_request", "uq_consumed_authorization_nonce"),
        ("dot_tools", "uq_dot_tools_identity"),
    ],
)
def test_a_schema_without_its_uniqueness_is_not_used(office, table, constraint):
    if office.registry.database.is_postgresql:
        office.tamper(f"ALTER TABLE {table} DROP CONSTRAINT {constraint} CASCADE")
        assert reopened(office) == Code.IDENTITY_UNIQUE_ABSENT
        return
    # the same schema anew, but for the constraint
    other = str(office.registry.store.directory / "lacking.db")
    lacking = sqlite3.connect(other)
    with office.registry.database.fresh.connect() as connection:
        for sql in connection.scalars(text("SELECT sql FROM sqlite_master WHERE sql <> ''")):
            lacking.execute(sql.replace(f"CONSTRAINT {constraint} UNIQUE", ""))
    lacking.close()
    os.chmod(other, 0o600)
    assert reopened(Office(office.registry, other)) == Code.IDENTITY_UNIQUE_ABSENT


@pytest.mark.parametrize("trigger", ["event_outbox_no_update", "event_outbox_no_delete"])
def test_a_sink_that_is_not_append_only_is_not_used(office, trigger):
    office.drop_trigger(trigger, "event_outbox")
    assert reopened(office) == Code.AUDIT_SINK_UNAVAILABLE
    decision = office.register()
    assert decision.reject_codes == (Code.POST_COMMIT_VERIFY_FAIL,)


def test_a_disabled_trigger_is_a_missing_one(server, request):
    name = server.create(request.getfixturevalue("postgresql_open"))
    server.administer("ALTER TABLE event_outbox DISABLE TRIGGER ALL", database=name)
    with pytest.raises(RegistryError, match="AUDIT_SINK_UNAVAILABLE"):
        Registry(server.url(name), Path("/nonexistent"))
    server.drop(name)


def test_a_superuser_is_a_privileged_path(server, request, tmp_path):
    name = server.create(request.getfixturevalue("postgresql_open"))
    with pytest.raises(RegistryError, match="PRIVILEGED_PATH_USED"):
        Registry(server.url(name, "postgres"), tmp_path)
    server.drop(name)


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_a_file_that_others_write_is_a_privileged_path(sqlite_open, tmp_path, mode):
    path = tmp_path / "registry.db"
    path.write_bytes(sqlite_open.read_bytes())
    path.chmod(mode)
    with pytest.raises(RegistryError, match="PRIVILEGED_PATH_USED"):
        Registry(str(path), tmp_path)


@pytest.mark.parametrize(
    ("location", "code"),
    [
        ("postgresql://m13@db.example.net/m13", Code.INSECURE_TRANSPORT),
        ("postgresql://m13@127.0.0.1/m13", Code.INSECURE_TRANSPORT),
        ("postgresql://m13@/m13?host=db.example.net", Code.INSECURE_TRANSPORT),
        ("postgresql://m13@db.example.net/m13?sslmode=prefer", Code.INSECURE_TRANSPORT),
        ("mysql://m13@/m13", Code.REGISTRY_UNAVAILABLE),
        ("sqlite://", Code.REGISTRY_UNAVAILABLE),
    ],
)
def test_a_location_that_is_not_safe_is_refused(location, code):
    with pytest.raises(RegistryError) as refused:
        parse_url(location)
    assert refused.value.code == code


@pytest.mark.parametrize(
    "location",
    [
        "postgresql://m13@/m13?host=/run/postgresql",
        "postgresql://m13@db.example.net/m13?sslmode=verify-full",
    ],
)
def test_sockets_and_tls_are_taken(location):
    assert parse_url(location).drivername == "postgresql+psycopg"


def test_sqlite_is_durable(office):
    if office.registry.database.is_postgresql:
        query = "SELECT current_setting('synchronous_commit'), current_setting('fsync')"
        wanted = ("on", "on")
    else:
        query = "SELECT (SELECT * FROM pragma_journal_mode), (SELECT * FROM pragma_synchronous)"
        wanted = ("wal", 2)  # FULL
    with office.registry.database.engine.connect() as connection:
        assert tuple(connection.execute(text(query)).one()) == wanted


def test_nothing_to_open_is_one_line(tmp_path):
    with pytest.raises(RegistryError, match="run 'm13 registry init'"):
        Registry(str(tmp_path / "none.db"), tmp_path)
    (tmp_path / "empty.db").touch(0o600)
    with pytest.raises(RegistryError, match="the database is empty"):
        Registry(str(tmp_path / "empty.db"), tmp_path)
    (tmp_path / "other.db").write_bytes(b"not a database at all, but long enough to look at" * 20)
    (tmp_path / "other.db").chmod(0o600)
    with pytest.raises(RegistryError, match="REGISTRY_UNAVAILABLE"):
        Registry(str(tmp_path / "other.db"), tmp_path)
    with (
        pytest.raises(RegistryError, match="REGISTRY_UNAVAILABLE"),
        Database("postgresql://m13@/m13?host=/nonexistent") as database,
    ):
        migrate(database)
