"""`m13 registry audit`: read it, verify it, prove an entry to somebody else."""

import json
from pathlib import Path
from typing import Any

import click
from sqlalchemy import select

from hub.registry import audit as sink
from hub.registry import audit_proof, schema, view
from hub.registry.database import unavailable
from hub.registry.options import FILE, opened, registry_options
from m13 import identity, pqc
from m13.errors import ConfigurationError

SHOWN = 50


@click.group("audit")
def audit() -> None:
    """The append-only record of every decision."""


@audit.command("show")
@registry_options
@click.option("--subject", help="Only of this dot_code, gate or key.")
@click.option("--last", type=click.IntRange(1), default=SHOWN, show_default=True)
def show(location: str, store: Path, as_json: bool, subject: str | None, last: int) -> int:
    """Show the last entries, oldest first."""
    table = schema.event_outbox
    query = select(table).order_by(table.c.sequence.desc()).limit(last)
    if subject:
        query = query.where(table.c.subject == subject)
    with (
        opened(location, store) as registry,
        unavailable(),
        registry.database.engine.connect() as connection,
    ):
        entries = [dict(row._mapping) for row in connection.execute(query)][::-1]
    rows = [
        (
            entry["sequence"],
            view.moment(entry["recorded_at_ms"] / 1000),
            entry["phase"],
            entry["event"],
            entry["subject"],
            ", ".join(json.loads(entry["reject_codes"])),
        )
        for entry in entries
    ]
    columns = ("entry", "when", "phase", "event", "subject", "codes")
    view.show(entries, as_json, view.table("audit", columns, rows))
    return 0


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except OSError as error:
        raise ConfigurationError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise ConfigurationError(f"{path} is not JSON") from error


@audit.command("verify")
@registry_options
@click.option(
    "--against",
    type=FILE,
    help="Checkpoints kept elsewhere, as 'checkpoint --json' printed them: shows what was cut off.",
)
def verify(location: str, store: Path, as_json: bool, against: Path | None) -> int:
    """Prove the chain: finds any edit, cut or reorder."""
    kept = _read(against) if against else []
    with opened(location, store) as registry:
        size, count = audit_proof.verify(registry, kept if isinstance(kept, list) else [kept])
    view.show({"entries": size, "checkpoints": count}, as_json)
    if not as_json:
        click.echo(f"{size} entries in order, {count} checkpoints hold")
    return 0


@audit.command("checkpoint")
@registry_options
@click.option(
    "--identity",
    "identity_path",
    type=FILE,
    default=identity.DEFAULT_PATH,
    show_default=True,
    help="The hub's identity.",
)
def checkpoint(location: str, store: Path, as_json: bool, identity_path: Path) -> int:
    """Sign the audit as it stands; keep what --json prints on another machine."""
    me = identity.load(identity_path, pqc.choose())
    with opened(location, store) as registry:
        with unavailable():
            sink.checkpoint(registry.database, me, registry.provider)
        with unavailable(), registry.database.engine.connect() as connection:
            made = audit_proof.checkpoints(connection)[-1]
    view.show(made, as_json)
    if not as_json:
        click.echo(f"{made['tree_size']} entries under {made['root']}")
    return 0


@audit.command("prove")
@registry_options
@click.argument("entry", type=click.IntRange(1))
def prove(location: str, store: Path, as_json: bool, entry: int) -> int:
    """Print an inclusion proof of ENTRY as JSON, which 'audit check' needs no registry for."""
    del as_json  # a proof is JSON in any case
    with opened(location, store) as registry:
        view.show(audit_proof.prove(registry, entry), True)
    return 0


@audit.command("check")
@click.option("--json", "as_json", is_flag=True, help="The entry as JSON.")
@click.option("--hub-key", required=True, help="Fingerprint of the hub trusted to sign.")
@click.argument("proof", type=FILE)
def check(as_json: bool, hub_key: str, proof: Path) -> int:
    """Check an inclusion proof, anywhere."""
    entry = audit_proof.check_proof(_read(proof), hub_key, pqc.choose())
    view.show(entry, as_json, view.table("proven entry", ("field", ""), entry.items()))
    return 0


COMMANDS: tuple[Any, ...] = (audit,)
