"""What the tests of admission do all the time: keys, a registry, requests taken part of the way."""

import functools
import itertools
import secrets
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import select, text

from hub.registry import schema
from hub.registry.envelope import (
    ACTIVATE,
    GOVERNANCE,
    NODE_IDENTITY,
    OPEN_GATE,
    REGISTER,
    Decision,
    RequestKeys,
    dot_code,
)
from hub.registry.lifecycle import carry_out
from hub.registry.proposal import Wish, approve, propose, standing
from hub.registry.register import register
from hub.registry.registry import Registry, initialise
from hub.registry.resolve import sniff
from m13 import enrollment, pqc
from m13.canonical import digest
from m13.identity import Identity, fingerprint

SUBNET = "10.13.0.1/16"
OPERATORS = ("ann", "ben", "cem")
QUORUM = 2
PROVIDER = pqc.choose()


@functools.cache
def make_identity(name: str) -> Identity:
    seed = digest(name.encode())[:32].encode()
    _, public_key = PROVIDER.sign_load(seed)
    return Identity(seed, public_key, fingerprint(public_key))


HUB = make_identity("hub")


def begin(location: str, quorum: int = QUORUM, **options: Any) -> str:
    operators = {name: make_identity(name).public_key for name in OPERATORS}
    return initialise(
        location,
        subnet=options.pop("subnet", SUBNET),
        owner="owner",
        quorum=quorum,
        operators=operators,
        hub_key=HUB.public_key,
        **options,
    )


def attempt_id() -> str:
    return secrets.token_hex(16)


@dataclass
class Request:
    """A registration that may still be altered before it is tried."""

    proposed: Any
    apr_ref: str
    keys: RequestKeys
    dot_code: str
    tunnel_address: str = ""


@dataclass
class Office:
    """An open registry and its operators."""

    registry: Registry
    location: str
    approvers: tuple[str, ...] = ("ann", "ben")
    number: Any = field(default_factory=itertools.count)

    def document(
        self, name: str | None = None, key: str | None = None, role: str = "node"
    ) -> bytes:
        name = name or f"node{next(self.number)}"
        return enrollment.write(make_identity(key or name), PROVIDER, name, role)

    def deploy(self, data: bytes, kind: str = NODE_IDENTITY, by: str = "ann") -> dict[str, str]:
        """request_proposed of a deployed artifact."""
        path = self.registry.store.deploy(data, kind, make_identity(by), PROVIDER)
        return {
            "artifact_path": path,
            "artifact_hash": digest(data),
            "hash_algorithm": "sha256",
            "canonicalization_version": "1",
            "artifact_type": kind,
            "origin": "test",
            "admission_ref": "T-1",
        }

    def wish(self, data: bytes, kind: str = NODE_IDENTITY, **options: Any) -> Wish:
        _, name, identity, _ = sniff(data, PROVIDER)
        return Wish(REGISTER, kind, dot_code(kind, name, identity), digest(data), **options)

    def approved(self, wish: Wish, by: tuple[str, ...] | None = None, **options: Any) -> str:
        apr_ref = propose(self.registry, wish, make_identity("ann"), **options)
        for name in self.approvers if by is None else by:
            approve(self.registry, apr_ref, make_identity(name))
        return apr_ref

    def request(
        self,
        data: bytes | None = None,
        kind: str = NODE_IDENTITY,
        by: tuple[str, ...] | None = None,
        **options: Any,
    ) -> Request:
        """Deployed, proposed and approved."""
        data = data or self.document()
        wish = self.wish(data, kind, **options)
        apr_ref = self.approved(wish, by)
        keys = standing(self.registry, apr_ref).keys()
        return Request(self.deploy(data, kind), apr_ref, keys, wish.subject, wish.tunnel_address)

    def register(self, request: Request | None = None, **options: Any) -> Decision:
        request = request or self.request(**options)
        return register(
            self.registry, request.proposed, request.apr_ref, request.keys, request.tunnel_address
        )

    def registered(self, **options: Any) -> str:
        request = self.request(**options)
        decision = self.register(request)
        assert decision.succeeded, decision
        return request.dot_code

    def step(self, action: str, subject: str, by: tuple[str, ...] | None = None) -> Decision:
        """A change of a row or a gate, approved and carried out."""
        wish = self.change(action, subject)
        apr_ref = self.approved(wish, by)
        return carry_out(self.registry, wish, apr_ref, standing(self.registry, apr_ref).keys())

    def change(self, action: str, subject: str) -> Wish:
        table = schema.runtime_gate if "gate" in action else schema.dot_tools
        key = table.c.name if "gate" in action else table.c.dot_code
        row = self.one(select(table).where(key == subject))
        if "gate" in action:
            return Wish(action, GOVERNANCE, subject, digest(subject.encode()), row.revision)
        return Wish(action, row.artifact_type, subject, row.artifact_hash, row.revision)

    def open_gates(self, *names: str) -> None:
        for name in names or schema.GATES:
            assert self.step(OPEN_GATE, name).succeeded

    def active(self, **options: Any) -> str:
        dot_code = self.registered(**options)
        decision = self.step(ACTIVATE, dot_code)
        assert decision.succeeded, decision
        return dot_code

    def one(self, query: Any) -> Any:
        with self.registry.database.fresh.connect() as connection:
            return connection.execute(query).one()

    def count(self, table: Any, *conditions: Any) -> int:
        with self.registry.database.fresh.connect() as connection:
            return len(connection.execute(select(table).where(*conditions)).all())

    def status(self, dot_code: str) -> str:
        table = schema.dot_tools
        return str(self.one(select(table.c.status).where(table.c.dot_code == dot_code)).status)

    def events(self, *names: str) -> list[Any]:
        table = schema.event_outbox
        with self.registry.database.fresh.connect() as connection:
            rows = connection.execute(select(table).order_by(table.c.sequence)).all()
        return [row for row in rows if not names or row.event in names]

    def tamper(self, *statements: str) -> None:
        """Past the triggers, as only whoever owns the database can."""
        with self.registry.database.writing.begin() as connection:
            for statement in statements:
                connection.execute(text(statement))

    def drop_trigger(self, name: str, table: str) -> None:
        on = f" ON {table}" if self.registry.database.is_postgresql else ""
        self.tamper(f"DROP TRIGGER {name}{on}")
