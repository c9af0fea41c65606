"""The five obligations that go across phases, a test each."""

import ast
import dataclasses
import json
from pathlib import Path

import pytest
from sqlalchemy import event, select

import hub.registry
from hub.registry import envelope, schema
from hub.registry import register as composition
from hub.registry.codes import Code
from hub.registry.envelope import REGISTER
from hub.registry.lifecycle import carry_out
from hub.registry.proposal import standing
from hub.registry.registry import Registry
from tests.hub.registry.office import Office

FOLDER = Path(hub.registry.__file__).parent
PHASES = ("resolve", "authority", "consume", "write", "verify", "audit", "activate")
# What phases may know besides envelopes and codes; none of it is another phase.
SHARED = {"envelope", "codes", "schema", "database", "integrity", "store", "chain"}
GOVERNED = ("consumed_request", "attempt", "dot_tools", "runtime_gate")


def transactions(office: Office) -> list[list[str]]:
    """The statements of every transaction that a registration makes, in order."""
    seen: list[list[str]] = [[]]
    engine = office.registry.database.engine

    def begin(_connection: object) -> None:
        seen.append([])

    def execute(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        seen[-1].append(statement)

    listeners = [("begin", begin), ("before_cursor_execute", execute)]
    for name, listener in listeners:
        event.listen(engine, name, listener)
    office.register()
    for name, listener in listeners:
        event.remove(engine, name, listener)
    return seen


def test_atomic_boundary(held):
    """One transaction writes what is governed; what must be known before it was read before it; no
    gate is written in it."""
    held.open_gates(schema.REGISTRATION_HOLD)
    request_tables = ("approval_request", "approval", "governance_object_ownership")
    writes = []
    for statements in transactions(held):
        written = {
            table
            for table in (*GOVERNED, "event_outbox")
            for statement in statements
            if statement.startswith((f"INSERT INTO {table} ", f"UPDATE {table} "))
        }
        if written & set(GOVERNED):
            writes.append(written)
            reads = [s for s in statements if any(f"FROM {table}" in s for table in request_tables)]
            assert reads == []
    assert writes == [{"consumed_request", "attempt", "dot_tools"}]


def test_audit_after_rollback(held):
    decision = held.register()
    assert decision.reject_codes == (Code.REGISTRATION_HOLD,)  # found within the transaction
    assert held.count(schema.attempt) == 0
    with Registry(held.location, held.registry.store.directory) as again:
        last = Office(again, held.location).events()[-1]
    assert (last.event, last.payload_classification) == ("rejected", "failure")
    assert json.loads(last.reject_codes) == [Code.REGISTRATION_HOLD]


def test_consumed_state_is_durable(office, monkeypatch):
    """A failure after the commit gives neither key nor nonce back."""
    request = office.request()
    real = composition.verify

    def disagree(*arguments):
        readback = real(*arguments)
        return dataclasses.replace(readback, matches=False, findings=("made up",))

    monkeypatch.setattr(composition, "verify", disagree)
    decision = office.register(request)
    assert decision.reject_codes == (Code.POST_COMMIT_VERIFY_FAIL,)
    monkeypatch.undo()
    table = schema.consumed_request
    keys = office.one(select(table).where(table.c.action == REGISTER))
    assert keys.logical_request_key == request.keys.logical_request_key
    assert keys.authorization_nonce == request.keys.authorization_nonce
    assert office.status(request.dot_code) == "quarantined"
    # not by the same request again, nor by a fresh one for the same key
    assert office.register(request).reject_codes == (Code.POST_COMMIT_VERIFY_FAIL,)
    name = request.dot_code.split(".")[1]
    other = office.request(office.document("renamed", key=name))
    assert office.register(other).reject_codes == (Code.IDENTITY_DUPLICATE,)


def test_no_activation(office):
    """Registration is inert even where every gate is open, and cannot be asked to be otherwise."""
    generation = select(schema.registry_generation.c.generation)
    before = office.one(generation).generation
    gates = select(schema.runtime_gate).order_by(schema.runtime_gate.c.name)
    with office.registry.database.fresh.connect() as connection:
        gates_before = connection.execute(gates).all()
    dot_code = office.registered()
    assert office.status(dot_code) == "inert"
    assert office.one(generation).generation == before
    with office.registry.database.fresh.connect() as connection:
        assert connection.execute(gates).all() == gates_before
    # the registration's own nonce and approvals do not activate
    table = schema.consumed_request
    used = office.one(select(table).where(table.c.dot_code == dot_code))
    keys = standing(office.registry, used.apr_ref).keys()
    wish = office.change("activate_dot", dot_code)
    decision = carry_out(office.registry, wish, used.apr_ref, keys)
    assert decision.reject_codes == (Code.APR_NOT_BOUND_TO_ARTIFACT,)


def imports(path: Path) -> set[str]:
    """Modules of the registry that a module imports."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "hub.registry":
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("hub.registry."):
            found.add((node.module or "").split(".")[2])
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
            found |= {name.split(".")[2] for name in names if name.startswith("hub.registry.")}
    return found


@pytest.mark.parametrize("phase", PHASES)
def test_no_mega(phase):
    """No phase knows another; only the compositions do, and they are short."""
    assert imports(FOLDER / f"{phase}.py") <= SHARED
    for shared in SHARED:
        assert imports(FOLDER / f"{shared}.py") <= SHARED, shared
    tree = ast.parse((FOLDER / "register.py").read_text())
    body = next(n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == "register")
    assert (body.end_lineno or 0) - body.lineno < 35


def test_envelopes_are_frozen():
    classes = [
        value
        for value in vars(envelope).values()
        if isinstance(value, type) and hasattr(value, "__dataclass_fields__")
    ]
    kept = [c for c in classes if c.__module__ == envelope.__name__ and c is not envelope.Dataclass]
    assert len(kept) >= 10
    assert all(value.__dataclass_params__.frozen for value in kept)
