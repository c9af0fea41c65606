"""The test cases of the phase model for phases 3 to 6, by their names, on both databases."""

import ast
import dataclasses
import os
import subprocess
import sys
from ipaddress import IPv4Interface
from pathlib import Path
from unittest.mock import patch

import pytest
from sqlalchemy import event, select
from sqlalchemy.exc import DBAPIError

import hub.registry
from hub.registry import register as composition
from hub.registry import schema
from hub.registry.codes import Code, Refused
from hub.registry.envelope import ACTIVATE, REGISTER
from hub.registry.register import register
from hub.registry.registry import Registry
from hub.registry.roster import load
from hub.registry.verify import verify
from hub.registry.write import write_inert
from tests.hub.registry.office import SUBNET, Office
from tests.hub.registry.steps import SAME_CODE_TWICE, codes, prepared

# --- phase 3 --------------------------------------------------------------------------------------


def test_T_P3_1_duplicate_identity(office):
    office.registered(data=office.document("alpha", key="k1"))
    again = office.request(office.document("beta", key="k1"))
    assert codes(office, again) == (Code.IDENTITY_DUPLICATE,)
    same_name = office.request(office.document("alpha", key="k2"))
    assert codes(office, same_name) == (Code.NAME_TAKEN,)
    office.registered(tunnel_address="10.13.0.77")
    assert codes(office, office.request(tunnel_address="10.13.0.77")) == (Code.ADDRESS_TAKEN,)
    for theirs in ("10.13.0.1", "10.13.0.0", "10.13.255.255", "10.14.0.1"):
        assert codes(office, office.request(tunnel_address=theirs)) == (Code.ADDRESS_TAKEN,)


@pytest.mark.parametrize("status", ["active", "quarantined", "revoked", "anything"])
def test_T_P3_2_active_status_attempt(office, status):
    intent, step = prepared(office, office.request())
    intent = dataclasses.replace(intent, status=status)
    with pytest.raises(Refused) as refused:
        write_inert(office.registry.database, intent, step, 1)
    assert refused.value.code == Code.ACTIVATION_AT_REGISTRATION
    assert office.count(schema.consumed_request, schema.consumed_request.c.action == REGISTER) == 0


def test_T_P3_3_gate_flip_attempt(held):
    held.open_gates(schema.REGISTRATION_HOLD)
    intent, step = prepared(held, held.request())
    intent = dataclasses.replace(intent, opens_gates=schema.RUNTIME_GATES)
    with pytest.raises(Refused) as refused:
        write_inert(held.registry.database, intent, step, 1)
    assert refused.value.code == Code.WOULD_OPEN_GATE
    # and the database itself, asked directly with a registration's consume for a pretext
    request = held.request()
    assert held.register(request).succeeded
    for name in schema.RUNTIME_GATES:
        with pytest.raises(DBAPIError, match="WOULD_OPEN_GATE"):
            held.tamper(
                "UPDATE runtime_gate SET is_open = true, revision = revision + 1,"
                f" change_ref = '{request.keys.logical_request_key}' WHERE name = '{name}'"
            )


@pytest.mark.parametrize("table", ["consumed_request", "attempt", "dot_tools"])
def test_T_P3_4_mid_write_crash(office, table):
    request = office.request()
    child = os.fork()
    if not child:
        crash_before_commit(office.location, office.registry.store.directory, request, table)
    assert os.waitpid(child, 0)[1] == 9
    for left in (schema.consumed_request, schema.attempt):
        assert office.count(left, left.c.action == REGISTER) == 0
    assert office.count(schema.dot_tools) == 0
    assert office.register(request).succeeded


def crash_before_commit(location, store, request, table):
    with Registry(location, store) as registry:

        def die(_connection, _cursor, statement, *_):
            if statement.startswith(f"INSERT INTO {table}"):
                os.kill(os.getpid(), 9)

        event.listen(registry.database.engine, "after_cursor_execute", die)
        register(registry, request.proposed, request.apr_ref, request.keys)
    os._exit(0)


# --- phase 4 --------------------------------------------------------------------------------------


@pytest.mark.parametrize("column", ["artifact_hash", "name", "owner", "public_key"])
def test_T_P4_1_row_drift(office, column):
    office.drop_trigger("dot_tools_fixed", "dot_tools")
    decision = interrupted(office, f"UPDATE dot_tools SET {column} = 'another'")
    assert decision.reject_codes == (Code.POST_COMMIT_VERIFY_FAIL,)
    assert column in decision.detail
    assert office.one(select(schema.dot_tools.c.status)).status == "quarantined"


def test_T_P4_2_two_rows_for_one_code(office):
    decision = interrupted(office, *SAME_CODE_TWICE)
    assert decision.reject_codes == (Code.POST_COMMIT_VERIFY_FAIL,)
    assert decision.detail.startswith("2 rows for node.")


def test_T_P4_3_active_status_detected(office):
    office.drop_trigger("dot_tools_status", "dot_tools")
    decision = interrupted(
        office,
        "UPDATE dot_tools SET status = 'active', change_ref = logical_request_key",
    )
    assert decision.reject_codes == (Code.POST_COMMIT_VERIFY_FAIL,)
    assert "status" in decision.detail
    assert office.one(select(schema.dot_tools.c.status)).status == "quarantined"
    nodes, _ = load(office.registry.database, IPv4Interface(SUBNET))
    assert nodes == []


def interrupted(office: Office, *statements: str):
    """A registration with a hand in the database between its commit and its verification."""

    def after_commit(*arguments):
        office.tamper(*statements)
        return verify(*arguments)

    with patch.object(composition, "verify", after_commit):
        decision = office.register()
    assert decision.outcome == "REJECTED"
    assert office.events()[-1].event == "rejected"
    return decision


def test_T_P4_4_process_exit_is_no_success(office):
    """A registrar that ends with status 0 and wrote nothing, and one that says it wrote."""
    request = office.request()
    done = subprocess.run([sys.executable, "-c", "raise SystemExit(0)"], check=False)
    assert done.returncode == 0
    intent, _ = prepared(office, request)
    sequence = office.events()[-1]
    readback = verify(office.registry.database, intent, (sequence.sequence, sequence.entry_hash))
    assert not readback.matches
    assert readback.rows == 0
    with patch.object(composition, "_write", lambda *_: None):
        decision = office.register(request)
    assert decision.outcome == "REJECTED"
    assert decision.reject_codes == (Code.POST_COMMIT_VERIFY_FAIL,)


# --- phase 5 --------------------------------------------------------------------------------------


def test_T_P5_1_audit_survives_the_rollback(held):
    request = held.request()
    decision = held.register(request)  # held: refused inside the transaction
    assert decision.reject_codes == (Code.REGISTRATION_HOLD,)
    assert held.count(schema.consumed_request) == 0
    assert [row.event for row in held.events()[-2:]] == ["attempted", "rejected"]
    with Registry(held.location, held.registry.store.directory) as again:
        other = Office(again, held.location)
        assert other.events()[-1].run_id == decision.run_id


@pytest.mark.parametrize("when", ["before", "after the commit"])
def test_T_P5_2_sink_unavailable(office, when):
    request = office.request()
    if when == "before":
        refuse_entries(office)
        decision = office.register(request)
        assert decision.reject_codes == (Code.AUDIT_SINK_UNAVAILABLE,)
        assert office.count(schema.dot_tools) == 0
        return
    refuse_entries(office, "NEW.event = 'registered'")
    decision = office.register(request)
    assert decision.outcome == "REJECTED"
    assert decision.reject_codes == (Code.AUDIT_SINK_UNAVAILABLE,)
    assert office.status(request.dot_code) == "inert"
    # not audited, so not verified, so not to be activated
    office.drop_trigger("no_entries", "event_outbox")
    refused = office.step(ACTIVATE, request.dot_code)
    assert refused.reject_codes == (Code.NOT_VERIFIED,)
    assert office.register(request).outcome == "REPLAY_DUPLICATE"
    assert office.step(ACTIVATE, request.dot_code).outcome == "DONE"


def refuse_entries(office: Office, when: str = "1 = 1") -> None:
    if office.registry.database.is_postgresql:
        office.tamper(
            "CREATE FUNCTION no_entries() RETURNS trigger LANGUAGE plpgsql AS"
            " 'BEGIN RAISE EXCEPTION ''disk full''; END'",
            "CREATE TRIGGER no_entries BEFORE INSERT ON event_outbox FOR EACH ROW"
            f" WHEN ({when}) EXECUTE FUNCTION no_entries()",
        )
    else:
        office.tamper(
            f"CREATE TRIGGER no_entries BEFORE INSERT ON event_outbox WHEN {when}"
            " BEGIN SELECT RAISE(ABORT, 'disk full'); END"
        )


def test_T_P5_3_audit_is_on_no_execution_lane(office):
    office.registered()
    assert {row.delivery_lane for row in office.events()} == {"audit"}
    with pytest.raises(DBAPIError):
        office.tamper(
            "INSERT INTO event_outbox SELECT sequence + 1, run_id, phase, event, reject_codes,"
            " logical_request_key, subject, payload_classification, 'execute', payload,"
            " recorded_at_ms, entry_hash, 'x' FROM event_outbox ORDER BY sequence DESC LIMIT 1"
        )


# --- phase 6 --------------------------------------------------------------------------------------


def test_T_P6_1_watch_tier_active_insert_blocked(office):
    dot_code = office.registered()
    columns = [column.name for column in schema.dot_tools.columns]
    changed = {
        "dot_code": "'node.copy.1'",
        "identity": "'copy'",
        "name": "'copy'",
        "tunnel_address": "1",
        "attempt_id": "'1'",
        "logical_request_key": "'1'",
        "status": "'active'",
        "change_ref": "logical_request_key",
    }
    values = ", ".join(changed.get(name, name) for name in columns)
    copy = (
        f"INSERT INTO dot_tools ({', '.join(columns)}) SELECT {values} FROM dot_tools"
        f" WHERE dot_code = '{dot_code}'"
    )
    with pytest.raises(DBAPIError, match="ACTIVATION_AT_REGISTRATION"):
        office.tamper(copy)


def test_T_P6_2_gates_untouched_by_registration(held):
    held.open_gates(schema.REGISTRATION_HOLD)
    table = schema.runtime_gate
    query = select(table).order_by(table.c.name)
    with held.registry.database.fresh.connect() as connection:
        before = connection.execute(query).all()
    dot_code = held.registered()
    with held.registry.database.fresh.connect() as connection:
        assert connection.execute(query).all() == before
    assert {row.name: row.is_open for row in before} == {
        name: name == schema.REGISTRATION_HOLD for name in schema.GATES
    }
    refused = held.step(ACTIVATE, dot_code)
    assert refused.reject_codes == (Code.GATE_CLOSED,)


def test_T_P6_3_agent_api_not_wired(office):
    """What agents hear of, the roster and its generation, does not move at a registration; and no
    module of phases 0 to 5 so much as imports what activates, serves or steers."""
    generation = select(schema.registry_generation.c.generation)
    before = office.one(generation).generation
    office.registered()
    assert office.one(generation).generation == before
    assert load(office.registry.database, IPv4Interface(SUBNET)) == ([], before)
    folder = Path(hub.registry.__file__).parent
    forbidden = ("activate", "lifecycle", "watch", "roster", "govern")
    for name in ("resolve", "authority", "consume", "write", "verify", "audit"):
        tree = ast.parse((folder / f"{name}.py").read_text())
        imported = {
            alias.name if isinstance(node, ast.Import) else f"{node.module}.{alias.name}"
            for node in ast.walk(tree)
            if isinstance(node, ast.Import | ast.ImportFrom)
            for alias in node.names
        }
        for word in imported:
            assert not word.startswith(tuple(f"hub.registry.{f}" for f in forbidden)), name
            assert not word.startswith(("native", "hub.app", "node")), name
