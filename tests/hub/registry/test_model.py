"""The life of identities, driven at random against a model a page long."""

import functools
import shutil
import tempfile
from dataclasses import dataclass
from ipaddress import IPv4Interface
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from sqlalchemy import select

from hub.registry import audit_proof, schema
from hub.registry.codes import Code
from hub.registry.envelope import (
    ACTIVATE,
    CLOSE_GATE,
    DEACTIVATE,
    GOVERNANCE,
    NODE_IDENTITY,
    OPEN_GATE,
    REVOKE,
)
from hub.registry.lifecycle import carry_out
from hub.registry.proposal import Wish, standing
from hub.registry.registry import Registry
from hub.registry.roster import load
from m13.canonical import digest
from tests.hub.registry.crash import assert_whole
from tests.hub.registry.office import OPERATORS, SUBNET, Office

NAMES = st.sampled_from(["alpha", "beta", "gamma"])
KEYS = st.sampled_from(["k1", "k2", "k3", "k4"])
APPROVERS = st.sets(st.sampled_from(OPERATORS)).map(lambda names: tuple(sorted(names)))
STEPS = {
    ACTIVATE: ({"inert"}, "active", 2),
    DEACTIVATE: ({"active"}, "inert", 1),
    REVOKE: ({"inert", "active"}, "revoked", 1),
}


@dataclass
class Row:
    name: str
    key: str
    hash: str
    status: str = "inert"
    revision: int = 0


@functools.cache
def document(name: str, key: str) -> bytes:
    return Office.document(Office(None, ""), name, key)  # type: ignore[arg-type]


class Life(RuleBasedStateMachine):
    """One registry and what the model says of it."""

    location: str
    store: Path

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="m13-model-"))
        self.location = self.begin(self.folder)
        self.office = Office(Registry(self.location, self.folder / "store"), self.location)
        self.rows: dict[str, Row] = {}
        self.gates = dict.fromkeys(schema.GATES, False)
        self.gate_revisions = dict.fromkeys(schema.GATES, 0)
        self.consumed: set[str] = set()

    def begin(self, folder: Path) -> str:
        raise NotImplementedError

    def end(self) -> None:
        raise NotImplementedError

    def teardown(self) -> None:
        audit_proof.verify(self.office.registry)
        self.office.registry.close()
        self.end()
        shutil.rmtree(self.folder)

    @rule(name=NAMES, key=KEYS, by=APPROVERS)
    def register(self, name: str, key: str, by: tuple[str, ...]) -> None:
        data = document(name, key)
        request = self.office.request(data, by=())
        self.office.approved(self.office.wish(data), by)
        given = standing(self.office.registry, request.apr_ref).given
        decision = self.office.register(request)
        said = {decision.outcome, *decision.reject_codes}
        living = {row.name for row in self.rows.values() if row.status in ("inert", "active")}
        if len(given) < 2:
            assert Code.QUORUM_NOT_PROVEN in said
        elif request.dot_code in self.rows:
            assert said == {"REPLAY_DUPLICATE"}
        elif not self.gates[schema.REGISTRATION_HOLD]:
            assert Code.REGISTRATION_HOLD in said
        elif key in {row.key for row in self.rows.values()} or name in living:
            assert said & {Code.IDENTITY_DUPLICATE, Code.NAME_TAKEN}
        else:
            assert said == {"DONE"}
            self.rows[request.dot_code] = Row(name, key, digest(data))

    @rule(data=st.data(), action=st.sampled_from(list(STEPS)), by=APPROVERS, stale=st.booleans())
    def step(self, data: st.DataObject, action: str, by: tuple[str, ...], stale: bool) -> None:
        if not self.rows:
            return
        code = data.draw(st.sampled_from(sorted(self.rows)))
        row = self.rows[code]
        revision = max(row.revision - stale, 0)
        wish = Wish(action, NODE_IDENTITY, code, row.hash, revision)
        begin, after, quorum = STEPS[action]
        said = self.carry_out(wish, by)
        if len(self.given) < quorum:
            assert Code.QUORUM_NOT_PROVEN in said
        elif wish.key in self.consumed:
            assert said == {"REPLAY_DUPLICATE"}
        elif row.status not in begin or revision != row.revision:
            assert Code.STATUS_NOT_ELIGIBLE in said
        elif action == ACTIVATE and not all(self.gates[n] for n in schema.RUNTIME_GATES):
            assert Code.GATE_CLOSED in said
        else:
            assert said == {"DONE"}
            self.consumed.add(wish.key)
            row.status, row.revision = after, row.revision + 1

    @rule(name=st.sampled_from(schema.GATES), is_open=st.booleans(), by=APPROVERS)
    def gate(self, name: str, is_open: bool, by: tuple[str, ...]) -> None:
        action = OPEN_GATE if is_open else CLOSE_GATE
        revision = self.gate_revisions[name]
        said = self.carry_out(Wish(action, GOVERNANCE, name, digest(name.encode()), revision), by)
        if len(self.given) < (2 if is_open else 1):
            assert Code.QUORUM_NOT_PROVEN in said
        elif self.gates[name] == is_open:
            assert Code.STATUS_NOT_ELIGIBLE in said
        else:
            assert said == {"DONE"}
            self.gates[name], self.gate_revisions[name] = is_open, revision + 1

    def carry_out(self, wish: Wish, by: tuple[str, ...]) -> set[str]:
        apr_ref = self.office.approved(wish, by)
        entry = standing(self.office.registry, apr_ref)
        self.given = entry.given  # those of earlier tries count, too
        decision = carry_out(self.office.registry, wish, apr_ref, entry.keys())
        return {decision.outcome, *decision.reject_codes}

    @rule()
    def open_everything(self) -> None:
        for name in schema.GATES:
            if not self.gates[name]:
                self.gate(name, True, ("ann", "cem"))

    @rule()
    def open_again(self) -> None:
        self.office.registry.close()
        self.office.registry = Registry(self.location, self.folder / "store")

    @invariant()
    def database_is_as_the_model(self) -> None:
        table, gate = schema.dot_tools, schema.runtime_gate
        database = self.office.registry.database
        with database.fresh.connect() as connection:
            found = {
                row.dot_code: (row.status, row.revision)
                for row in connection.execute(select(table))
            }
            gates = {row.name: row.is_open for row in connection.execute(select(gate))}
        assert found == {code: (row.status, row.revision) for code, row in self.rows.items()}
        assert gates == self.gates
        nodes, _ = load(database, IPv4Interface(SUBNET))
        active = {row.name for row in self.rows.values() if row.status == "active"}
        assert {node.name for node in nodes} == active
        assert len({node.address for node in nodes}) == len(nodes)
        assert_whole(self.office)


def model(request: pytest.FixtureRequest, backend: str) -> type[Life]:
    template = request.getfixturevalue(f"{backend}_template")
    if backend == "sqlite":

        class OnSqlite(Life):
            def begin(self, folder: Path) -> str:
                shutil.copyfile(template, folder / "registry.db")
                (folder / "registry.db").chmod(0o600)
                return str(folder / "registry.db")

            def end(self) -> None:
                pass

        return OnSqlite
    server = request.getfixturevalue("server")

    class OnPostgresql(Life):
        def begin(self, folder: Path) -> str:
            del folder
            self.name = server.create(template)
            return str(server.url(self.name))

        def end(self) -> None:
            server.drop(self.name)

    return OnPostgresql


BRIEF = {"sqlite": 12, "postgresql": 6}


def live(request: pytest.FixtureRequest, backend: str, examples: int, steps: int) -> None:
    run_state_machine_as_test(
        model(request, backend),
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
            database=None,
        ),
    )


def test_implementation_is_as_the_model(request, backend):
    live(request, backend, BRIEF[backend], 25)


@pytest.mark.soak
def test_implementation_is_as_the_model_for_long(request, backend):
    live(request, backend, 40 * BRIEF[backend], 50)
