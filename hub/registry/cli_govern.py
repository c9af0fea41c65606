"""`m13 registry gate` and `m13 registry key`: what opens, and whose word counts."""

import base64
from pathlib import Path
from typing import Any

import click
from sqlalchemy import select

from hub.registry import desk, schema, view
from hub.registry.cli_requests import sign_and_carry_out
from hub.registry.codes import Code, RegistryError
from hub.registry.database import unavailable
from hub.registry.envelope import (
    ADD_KEY,
    CLOSE_GATE,
    GOVERNANCE,
    OPEN_GATE,
    RECOVER_KEY,
    REVOKE_KEY,
)
from hub.registry.lifecycle import key_hash
from hub.registry.options import FILE, key_option, opened, operator, registry_options
from hub.registry.proposal import Wish
from hub.registry.registry import Registry
from m13 import identity, pqc
from m13.canonical import digest
from m13.identity import fingerprint


@click.group("gate", invoke_without_command=True)
@registry_options
@click.pass_context
def gate(ctx: click.Context, location: str, store: Path, as_json: bool) -> int:
    """Show the gates: without a sub-command."""
    if ctx.invoked_subcommand:
        return 0
    with opened(location, store) as registry, unavailable():
        table = schema.runtime_gate
        with registry.database.engine.connect() as connection:
            rows = connection.execute(select(table).order_by(table.c.name)).all()
    told = {row.name: "open" if row.is_open else "closed" for row in rows}
    view.show(told, as_json, view.table("gates", ("gate", ""), told.items()))
    return 0


def _change(
    location: str, store: Path, as_json: bool, key: Path, names: tuple[str, ...], action: str
) -> int:
    """Each gate is a request of its own; one that is as wanted is left."""
    me, status = operator(key), 0
    chosen = schema.GATES if names == ("all",) else names
    with opened(location, store) as registry:
        for name in chosen:
            if _is_open(registry, name) != (action == OPEN_GATE):
                wish = desk.gate_change(registry, name, action)
                status = sign_and_carry_out(registry, wish, me, as_json) or status
    return status


def _is_open(registry: Registry, name: str) -> bool:
    table = schema.runtime_gate
    with unavailable(), registry.database.engine.connect() as connection:
        found = connection.scalar(select(table.c.is_open).where(table.c.name == name))
    if found is None:
        raise RegistryError(Code.REQUEST_MALFORMED, f"no gate {name}: {', '.join(schema.GATES)}")
    return bool(found)


@gate.command("open")
@registry_options
@key_option
@click.argument("names", nargs=-1, required=True)
def open_(location: str, store: Path, as_json: bool, key: Path, names: tuple[str, ...]) -> int:
    """Open gates, or all: registration is the hold, the others let rows become active."""
    return _change(location, store, as_json, key, names, OPEN_GATE)


@gate.command("close")
@registry_options
@key_option
@click.argument("names", nargs=-1, required=True)
def close(location: str, store: Path, as_json: bool, key: Path, names: tuple[str, ...]) -> int:
    """Close gates, or all; one operator suffices. What is active stays so."""
    return _change(location, store, as_json, key, names, CLOSE_GATE)


@click.group("key")
def key_() -> None:
    """Operators' keys: who may deploy and approve."""


@key_.command("list")
@registry_options
def list_(location: str, store: Path, as_json: bool) -> int:
    """List every key, its role and state."""
    table = schema.governance_key
    with (
        opened(location, store) as registry,
        unavailable(),
        registry.database.engine.connect() as connection,
    ):
        rows = connection.execute(select(table).order_by(table.c.role, table.c.name)).all()
    columns = ("name", "role", "owner", "state", "fingerprint")
    told = [{name: row._mapping[name] for name in columns} for row in rows]
    view.show(told, as_json, view.table("keys", columns, [row.values() for row in told]))
    return 0


def _key_wish(
    registry: Registry, action: str, name: str, path: Path
) -> tuple[Wish, dict[str, Any]]:
    head = schema.governance_object_ownership
    wanted = (head.c.object_type == GOVERNANCE) & head.c.is_head
    with unavailable(), registry.database.engine.connect() as connection:
        owner = connection.scalar(select(head.c.owner).where(wanted))
    public_key = identity.load_public_key(path, pqc.choose())
    extra = {
        "name": name,
        "owner": str(owner),
        "public_key": base64.b64encode(public_key).decode(),
    }
    return Wish(action, GOVERNANCE, fingerprint(public_key), key_hash(extra)), extra


@key_.command("add")
@registry_options
@key_option
@click.argument("name")
@click.argument("public_key", type=FILE)
def add(location: str, store: Path, as_json: bool, key: Path, name: str, public_key: Path) -> int:
    """Make NAME an operator, by the quorum of those there are."""
    me = operator(key)
    with opened(location, store) as registry:
        wish, extra = _key_wish(registry, ADD_KEY, name, public_key)
        return sign_and_carry_out(registry, wish, me, as_json, extra)


@key_.command("recover")
@registry_options
@click.option(
    "--identity",
    "identity_path",
    type=FILE,
    default=identity.DEFAULT_PATH,
    show_default=True,
    help="The hub's identity, whose word replaces the quorum's.",
)
@click.argument("name")
@click.argument("public_key", type=FILE)
def recover(
    location: str,
    store: Path,
    as_json: bool,
    identity_path: Path,
    name: str,
    public_key: Path,
) -> int:
    """Make NAME an operator by the hub's own key, when so many keys are lost that no quorum is
    left. It stands out in the audit as recover_key."""
    hub = identity.load(identity_path, pqc.choose())
    with opened(location, store) as registry:
        wish, extra = _key_wish(registry, RECOVER_KEY, name, public_key)
        return sign_and_carry_out(registry, wish, hub, as_json, extra)


@key_.command("revoke")
@registry_options
@key_option
@click.argument("name")
def revoke(location: str, store: Path, as_json: bool, key: Path, name: str) -> int:
    """Take an operator's word away; NAME is a name or a fingerprint."""
    me = operator(key)
    table = schema.governance_key
    with opened(location, store) as registry:
        named = (table.c.name == name) | (table.c.fingerprint == name)
        with unavailable(), registry.database.engine.connect() as connection:
            rows = connection.execute(
                select(table).where(named, table.c.role == "operator", table.c.state == "active")
            ).all()
        if len(rows) != 1:
            raise RegistryError(Code.STATUS_NOT_ELIGIBLE, f"{len(rows)} active keys are '{name}'")
        subject = rows[0].fingerprint
        wish = Wish(REVOKE_KEY, GOVERNANCE, subject, digest(bytes(rows[0].public_key)))
        return sign_and_carry_out(registry, wish, me, as_json)


COMMANDS: tuple[Any, ...] = (gate, key_)
