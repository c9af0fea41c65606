"""The `m13 registry` command: begin a registry, look at it, explain its codes."""

import ipaddress
from pathlib import Path
from typing import Any

import click
from sqlalchemy import exists, select

from hub.registry import cli_audit, cli_govern, cli_requests, desk, schema, view
from hub.registry.codes import EXPLANATIONS, Code, RegistryError
from hub.registry.database import unavailable
from hub.registry.options import FILE, opened, registry_options
from hub.registry.proposal import standing
from hub.registry.registry import Registry, initialise
from m13 import config, identity, pqc
from m13.errors import UsageError


@click.group()
def registry() -> None:
    """Who is admitted, on whose authority, and the proof of it (docs/ADMISSION.md)."""


class KeyFile(click.ParamType[tuple[str, Path]]):
    """NAME=PATH of an operator's public key."""

    name = "NAME=PATH"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[str, Path]:
        if isinstance(value, tuple):
            return value
        name, equals, path = str(value).partition("=")
        if not name or not equals or not path:
            self.fail(f"'{value}' is not NAME=PATH, such as ann=ann.pub", param, ctx)
        return name, Path(path)


@registry.command()
@registry_options
@click.option(
    "--operator",
    "operators",
    type=KeyFile(),
    multiple=True,
    required=True,
    help="Who may deploy and approve: a name and a public key of 'm13 keygen'. Repeatable.",
)
@click.option("--owner", default="owner", show_default=True, help="Whose operators they are.")
@click.option(
    "--quorum", type=click.IntRange(1, 64), default=1, show_default=True, help="Approvals needed."
)
@click.option(
    "--subnet",
    type=config.Interface4(),
    default="10.13.0.1/24",
    show_default=True,
    help="The hub's address in the tunnel, with the subnet's length.",
)
@click.option(
    "--identity",
    "identity_path",
    type=FILE,
    default=identity.DEFAULT_PATH,
    show_default=True,
    help="The hub's identity or public key; it signs the audit's checkpoints.",
)
def init(
    location: str,
    store: Path,
    as_json: bool,
    operators: tuple[tuple[str, Path], ...],
    owner: str,
    quorum: int,
    subnet: ipaddress.IPv4Interface,
    identity_path: Path,
) -> int:
    """Create a registry: held, and with every runtime gate closed."""
    provider = pqc.choose()
    keys = {name: identity.load_public_key(path, provider) for name, path in operators}
    if len(set(keys.values())) != len(operators):
        raise UsageError("two operators have one name or one key")
    if quorum > len(keys):
        raise UsageError(f"a quorum of {quorum} needs as many operators, not {len(keys)}")
    hub_key = identity.load_public_key(identity_path, provider)
    registry_id = initialise(
        location,
        subnet=str(subnet),
        owner=owner,
        quorum=quorum,
        operators=keys,
        hub_key=hub_key,
    )
    opened(location, store).close()
    view.show({"registry_id": registry_id}, as_json)
    if not as_json:
        click.echo(f"registry {registry_id}: held; 'm13 registry gate open all' lets it work")
    return 0


@registry.command("list")
@registry_options
@click.option("--status", type=click.Choice(["inert", "active", "quarantined", "revoked"]))
@click.option("--open", "open_requests", is_flag=True, help="Approval requests not yet used.")
def list_(
    location: str, store: Path, as_json: bool, status: str | None, open_requests: bool
) -> int:
    """List what is registered, or what waits for approval."""
    with opened(location, store) as registry:
        return _list_open(registry, as_json) if open_requests else _list(registry, as_json, status)


def _list(registry: Registry, as_json: bool, status: str | None) -> int:
    table = schema.dot_tools
    query = select(table).order_by(table.c.artifact_type, table.c.name)
    if status:
        query = query.where(table.c.status == status)
    with unavailable(), registry.database.engine.connect() as connection:
        rows = [view.row(row._mapping) for row in connection.execute(query)]
    columns = ("dot_code", "status", "tunnel_address", "identity", "revision")
    listed = [[row[name] for name in columns] for row in rows]
    view.show(rows, as_json, view.table(f"{len(rows)} registered", columns, listed))
    return 0


def _list_open(registry: Registry, as_json: bool) -> int:
    table, consumed = schema.approval_request, schema.consumed_request
    used = exists().where(consumed.c.logical_request_key == table.c.logical_request_key)
    with unavailable(), registry.database.engine.connect() as connection:
        references = connection.execute(
            select(table.c.apr_ref).where(~used).order_by(table.c.created_at)
        ).scalars()
        standings = [standing(registry, reference) for reference in references.all()]
    rows = [
        {
            "apr_ref": entry.apr_ref[:12],
            "action": entry.body["action"],
            "subject": entry.body["subject"],
            "given by": ", ".join(entry.given),
            "missing": max(entry.missing, 0),
            "expires": view.moment(entry.body["expires_at"]),
        }
        for entry in standings
    ]
    columns = ("apr_ref", "action", "subject", "given by", "missing", "expires")
    listed = [[row[name] for name in columns] for row in rows]
    view.show(rows, as_json, view.table(f"{len(rows)} open", columns, listed))
    return 0


@registry.command()
@registry_options
@click.argument("name")
def show(location: str, store: Path, as_json: bool, name: str) -> int:
    """Show a row and what the audit tells of it; NAME is a dot_code, a name or a fingerprint."""
    with opened(location, store) as registry:
        found = view.row(registry.row(name)._mapping)
        table = schema.event_outbox
        with unavailable(), registry.database.engine.connect() as connection:
            history = [
                {
                    "sequence": entry.sequence,
                    "when": view.moment(entry.recorded_at_ms / 1000),
                    "event": entry.event,
                    "reject_codes": entry.reject_codes,
                }
                for entry in connection.execute(
                    select(table)
                    .where(table.c.subject == found["dot_code"])
                    .order_by(table.c.sequence)
                )
            ]
    if as_json:
        view.show({"row": found, "history": history}, True)
        return 0
    view.show(None, False, view.table(found["dot_code"], ("field", ""), found.items()))
    view.show(None, False, view.table("history", tuple(HISTORY), [h.values() for h in history]))
    return 0


HISTORY = ("entry", "when", "event", "codes")


@registry.command()
@registry_options
@click.argument("name", required=False)
def verify(location: str, store: Path, as_json: bool, name: str | None) -> int:
    """Read a row back against store and audit; without NAME finish all that a crash cut off."""
    with opened(location, store) as registry:
        if name:
            return view.decision(desk.check_row(registry, registry.row(name)), as_json)
        decisions = desk.look_after(registry)
    told = [
        {"action": d.action, "subject": d.subject, "outcome": d.outcome, "detail": d.detail}
        for d in decisions
    ]
    columns = ("action", "subject", "outcome", "detail")
    listed = view.table(f"{len(told)} looked after", columns, [entry.values() for entry in told])
    view.show(told, as_json, listed)
    for decision in decisions:
        if decision.outcome == "REJECTED":
            raise RegistryError(Code(decision.reject_codes[0]), decision.detail)
    return 0


@registry.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of text.")
@click.argument("code", required=False)
def explain(as_json: bool, code: str | None) -> int:
    """Say what a code means and what to do about it; without CODE all of them."""
    if code and code.upper() not in Code.__members__:
        raise UsageError(f"no code {code}: 'm13 registry explain' lists them")
    chosen = [Code(code.upper())] if code else list(Code)
    told = {
        str(entry): {"meaning": EXPLANATIONS[entry][0], "remedy": EXPLANATIONS[entry][1]}
        for entry in chosen
    }
    rows = [(name, entry["meaning"], entry["remedy"]) for name, entry in told.items()]
    view.show(told, as_json, view.table("", ("code", "meaning", "what to do"), rows))
    return 0


for module in (cli_requests, cli_govern, cli_audit):
    for command in module.COMMANDS:
        registry.add_command(command)

__all__ = ["registry"]
