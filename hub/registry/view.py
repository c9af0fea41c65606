"""How the registry is shown: rich tables for people, one JSON object for programs."""

import datetime
import ipaddress
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from hub.registry.codes import AWAITING_EXIT_STATUS, Code, RegistryError
from hub.registry.envelope import Decision, record
from hub.registry.proposal import Approvals

HIDDEN = {"public_key"}  # 3456 characters that nobody reads
PIPE_COLUMNS = 200
PHASES = {
    "request_proposed": "0 request_proposed",
    "trusted_attested": "0 trusted_attested",
    "authority": "1 authority",
    "consume": "2 consume",
    "registered_row": "3 registered row",
    "readback": "4 readback",
    "status_change": "6 status change",
    "audit": "5 audit",
}


def show(value: object, as_json: bool, table: Table | None = None) -> None:
    if as_json:
        click.echo(json.dumps(value, sort_keys=True, default=str))
    elif table is not None:
        # folding is for a terminal; what reads a pipe wants a line a row
        width = None if sys.stdout.isatty() else PIPE_COLUMNS
        Console(highlight=False, width=width).print(table)


def table(title: str, columns: Sequence[str], rows: Iterable[Iterable[object]]) -> Table:
    made = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for column in columns:
        made.add_column(column, overflow="fold")
    for row in rows:
        made.add_row(*(str(value) for value in row))
    return made


def address(value: int | None) -> str:
    return "" if value is None else str(ipaddress.IPv4Address(value))


def moment(seconds: float) -> str:
    when = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    return when.strftime("%Y-%m-%d %H:%M:%SZ")


def row(value: Mapping[Any, Any]) -> dict[str, Any]:
    """A row of dot_tools, readable."""
    told = {name: entry for name, entry in value.items() if name not in HIDDEN}
    told["tunnel_address"] = address(value["tunnel_address"])
    return told


def proofs(decision: Decision) -> Table:
    """What each phase proved."""
    rows = []
    for name, proof in sorted(decision.proofs.items(), key=lambda entry: PHASES[entry[0]]):
        for field, value in _flat(proof):
            rows.append((PHASES.get(name, ""), field, value))
            name = ""
    title = f"{decision.action} {decision.subject}: {decision.outcome}"
    return table(title, ("phase", "proof", ""), rows)


def _flat(proof: Mapping[str, Any], prefix: str = "") -> list[tuple[str, object]]:
    found: list[tuple[str, object]] = []
    for name, value in proof.items():
        if name in HIDDEN:
            continue
        if isinstance(value, Mapping):
            found += _flat(value, f"{prefix}{name}.")
        else:
            found.append((prefix + name, value))
    return found


def decision(made: Decision, as_json: bool) -> int:
    """Shows it; 0, or RegistryError when the request was rejected."""
    if as_json:
        show(record(made), as_json)
    elif made.succeeded:
        show(None, as_json, proofs(made))
    elif made.outcome == "REPLAY_DUPLICATE":
        click.echo(f"{Code.REPLAY_DUPLICATE}: {made.detail}; the prior decision stands")
        show(None, as_json, table("", ("prior", ""), _flat(made.prior or {})))
    if made.outcome == "REJECTED":
        codes = ", ".join(made.reject_codes[1:])
        also = f" (also {codes})" if codes else ""
        raise RegistryError(Code(made.reject_codes[0]), made.detail + also)
    return 0


def awaiting(standings: Sequence[Approvals], as_json: bool) -> int:
    """Says who is still to approve what."""
    told = [
        {
            "apr_ref": entry.apr_ref,
            "action": entry.body["action"],
            "subject": entry.body["subject"],
            "given_by": entry.given,
            "missing": entry.missing,
            "by_any_of": entry.candidates,
            "expires": moment(entry.body["expires_at"]),
        }
        for entry in standings
        if not entry.complete
    ]
    if as_json:
        show({"awaiting": told}, as_json)
    for entry in [] if as_json else told:
        who = ", ".join(entry["by_any_of"]) or "nobody is left who could"
        click.echo(
            f"awaiting {entry['missing']} more approval(s) of {entry['action']} {entry['subject']}"
            f" by {who}: m13 registry approve {entry['apr_ref'][:12]} (until {entry['expires']})"
        )
    return AWAITING_EXIT_STATUS if told else 0
