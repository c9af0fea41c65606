"""Single phases, taken by hand, and hands in the database."""

import json
import os
import pickle
from pathlib import Path
from typing import Any

from sqlalchemy import insert

from hub.registry import schema
from hub.registry.authority import authorise
from hub.registry.consume import consume
from hub.registry.envelope import (
    AuthorityClaim,
    RegisteredRowIntent,
    RequestProposed,
)
from hub.registry.proposal import approve
from hub.registry.register import register
from hub.registry.registry import Registry
from hub.registry.resolve import resolve
from m13.canonical import canonical, digest
from tests.hub.registry.office import Office, Request, make_identity

# After these statements a look for any code finds two rows.
SAME_CODE_TWICE = (
    "ALTER TABLE dot_tools RENAME TO dot_tools_kept",
    "CREATE VIEW dot_tools AS SELECT * FROM dot_tools_kept UNION ALL SELECT * FROM dot_tools_kept",
)


def codes(office: Office, request) -> tuple[str, ...]:
    """Of a request that must be refused and leave nothing but its audit."""
    tables = (schema.dot_tools, schema.consumed_request, schema.attempt)
    before = [office.count(table) for table in tables]
    decision = office.register(request)
    assert decision.outcome == "REJECTED", decision
    assert [office.count(table) for table in tables] == before
    assert json.loads(office.events()[-1].reject_codes) == list(decision.reject_codes)
    return decision.reject_codes


def prepared(office: Office, request: Request) -> tuple[RegisteredRowIntent, Any]:
    """Phases 0 and 1 of a request: the intent, and phase 2's step."""
    registry = office.registry
    proposed = RequestProposed.parse(request.proposed)
    trusted = resolve(proposed, registry.store, registry.operators(), registry.provider)
    claim = AuthorityClaim(
        "register_dot",
        trusted.artifact_type,
        trusted.dot_code,
        trusted.artifact_hash,
        0,
        request.keys,
        request.apr_ref,
    )
    with registry.database.engine.connect() as connection:
        authority = authorise(connection, claim, registry.provider)
    intent = RegisteredRowIntent(trusted.dot_code, trusted, authority.owner, "watch", request.keys)
    return intent, lambda connection: consume(connection, request.keys, authority, "run", 1)


def interface(office: Office, body: dict[str, Any]) -> str:
    """An approval request with any body, approved by the quorum; its reference."""
    text = canonical(body).decode()
    apr_ref = digest(text.encode())
    names = ("action", "object_type", "subject", "artifact_hash", "logical_request_key")
    with office.registry.database.writing.begin() as connection:
        connection.execute(
            insert(schema.approval_request).values(
                apr_ref=apr_ref,
                **{name: body[name] for name in names},
                authorization_nonce=body["authorization_nonce"],
                expires_at=body["expires_at"],
                body=text,
                proposed_by="test",
                created_at=0,
            )
        )
    for name in office.approvers:
        approve(office.registry, apr_ref, make_identity(name))
    return apr_ref


def race(office: Office, requests: list[Request], tries: int = 1) -> list[str]:
    """Every request in a process of its own, all at once; how each ended, in no order."""
    begin_read, begin_write = os.pipe()
    readers, children = [], []
    for request in requests:
        reader, writer = os.pipe()
        child = os.fork()
        if not child:
            os.close(begin_write)
            status = _racer(office, request, tries, begin_read, writer)
            os._exit(status)
        os.close(writer)
        readers.append(reader)
        children.append(child)
    os.close(begin_read)
    os.close(begin_write)  # the starting shot: every child's read ends
    outcomes: list[str] = []
    for reader in readers:
        with open(reader, "rb") as file:
            outcomes += pickle.load(file)
    for child in children:
        assert os.waitpid(child, 0)[1] == 0
    return outcomes


def _racer(office: Office, request: Any, tries: int, begin: int, writer: int) -> int:
    try:
        store: Path = office.registry.store.directory
        with Registry(office.location, store) as registry:
            os.read(begin, 1)
            several = request if isinstance(request, list) else [request] * tries
            done = [
                register(registry, one.proposed, one.apr_ref, one.keys, one.tunnel_address).outcome
                for one in several
            ]
        with open(writer, "wb") as file:
            pickle.dump(done, file)
    except BaseException:
        import traceback

        traceback.print_exc()
        return 1
    return 0
