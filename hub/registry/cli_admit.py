"""`m13 admit`: one operator takes a request as far as one operator can."""

from pathlib import Path
from typing import Any

import click

from hub.registry import desk, view
from hub.registry.cli_requests import address_text, read_artifact
from hub.registry.envelope import ACTIVATE, record
from hub.registry.options import FILE, key_option, opened, operator, registry_options
from hub.registry.proposal import Wish, standing
from hub.registry.registry import Registry
from m13 import identity


@click.command()
@registry_options
@key_option
@click.argument("request", type=FILE)
@click.option("--address", metavar="ADDRESS", help="The node's tunnel address [a free one].")
@click.option("--reference", default="-", help="Why: a ticket, an order; kept with the row.")
@click.option("--inert", is_flag=True, help="Register only; do not ask for activation.")
def admit(
    location: str,
    store: Path,
    as_json: bool,
    key: Path,
    request: Path,
    address: str | None,
    reference: str,
    inert: bool,
) -> int:
    """Admit REQUEST, a file of 'm13 enroll': every phase in turn, with what it proved.

    Signs the registration and, as a request of its own, the activation. With a quorum of more than
    one it stops where another operator is needed, says who, and goes on when they run the same
    command. Exit status 6 while somebody is missing.
    """
    me = operator(key)
    with opened(location, store) as registry:
        registration, proposed = desk.submit(
            registry,
            read_artifact(request),
            me,
            origin=f"operator:{me.fingerprint}",
            admission_ref=reference,
            tunnel_address=address_text(address),
        )
        if not as_json:
            click.echo(f"deployed {proposed.artifact_path}")
        extra = {"request_proposed": record(proposed)}
        wishes: list[tuple[Wish, dict[str, Any]]] = [(registration, extra)]
        if desk.is_done(registry, registration):
            wishes = []
        if not inert:
            wishes += [(wish, {}) for wish in _activation(registry, registration)]
        if not wishes:
            click.echo("nothing to do: it is admitted already", err=as_json)
        return _go(registry, wishes, me, as_json)


def _activation(registry: Registry, registration: Wish) -> list[Wish]:
    """None for what is active already; RegistryError for what never will be again."""
    if not desk.is_done(registry, registration):
        return [desk.activation(registration)]
    row = registry.row(registration.subject)
    return [] if row.status == "active" else [desk.change_of(row, ACTIVATE)]


def _go(
    registry: Registry,
    wishes: list[tuple[Wish, dict[str, Any]]],
    me: identity.Identity,
    as_json: bool,
) -> int:
    """Signs all there is to sign first, so that each operator comes once."""
    pending = [desk.sign(registry, wish, me, extra) for wish, extra in wishes]
    for apr_ref in pending:
        if standing(registry, apr_ref).missing > 0:
            return view.awaiting([standing(registry, other) for other in pending], as_json)
        view.decision(desk.execute(registry, apr_ref), as_json)
    return 0
