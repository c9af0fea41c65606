"""`m13 registry propose | approve | register | activate | deactivate | revoke`."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from hub.registry import desk, view
from hub.registry.envelope import ACTIVATE, DEACTIVATE, REVOKE
from hub.registry.options import FILE, key_option, opened, operator, registry_options
from hub.registry.proposal import Wish, approve, find, propose, standing
from hub.registry.registry import Registry
from m13 import config, identity
from m13.errors import UsageError

ARTIFACT_BYTES_MAX = 16 << 20


def read_artifact(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(ARTIFACT_BYTES_MAX + 1)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
    if len(data) > ARTIFACT_BYTES_MAX:
        raise UsageError(f"{path} is larger than any artifact")
    return data


def address_text(value: str | None) -> str:
    if not value:
        return ""
    return str(config.Interface4().convert(f"{value}/8", None, None).ip)


@click.command("propose")
@registry_options
@key_option
@click.argument("file", type=FILE)
@click.option("--address", metavar="ADDRESS", help="The node's tunnel address [a free one].")
@click.option("--reference", default="-", help="Why: a ticket, an order; kept with the row.")
def propose_(
    location: str,
    store: Path,
    as_json: bool,
    key: Path,
    file: Path,
    address: str | None,
    reference: str,
) -> int:
    """Deploy FILE into the store and ask for its registration."""
    me = operator(key)
    with opened(location, store) as registry:
        wish, request = desk.submit(
            registry,
            read_artifact(file),
            me,
            origin=f"operator:{me.fingerprint}",
            admission_ref=reference,
            tunnel_address=address_text(address),
        )
        extra = {"request_proposed": request.__dict__}
        apr_ref = propose(registry, wish, me, extra=extra)
        return _tell(registry, apr_ref, as_json)


def _tell(registry: Registry, apr_ref: str, as_json: bool) -> int:
    """Where an approval request stands; the exit status is 0, whatever is missing."""
    entry = standing(registry, apr_ref)
    if not view.awaiting([entry], as_json):
        if as_json:
            view.show({"apr_ref": apr_ref, "complete": True}, True)
        else:
            click.echo(f"complete: m13 registry register {apr_ref[:12]}")
    return 0


@click.command("approve")
@registry_options
@key_option
@click.argument("request")
def approve_(location: str, store: Path, as_json: bool, key: Path, request: str) -> int:
    """Sign an approval request; REQUEST is the beginning of its reference."""
    me = operator(key)
    with opened(location, store) as registry:
        apr_ref = find(registry, request).apr_ref
        approve(registry, apr_ref, me)
        return _tell(registry, apr_ref, as_json)


@click.command("register")
@registry_options
@click.argument("request")
def register_(location: str, store: Path, as_json: bool, request: str) -> int:
    """Carry out an approved request: a registration, or any other."""
    with opened(location, store) as registry:
        return view.decision(desk.execute(registry, request), as_json)


def sign_and_carry_out(
    registry: Registry,
    wish: Wish,
    me: identity.Identity,
    as_json: bool,
    extra: dict[str, Any] | None = None,
) -> int:
    """Signs, and carries out when the quorum is met; else says who is missing, exit status 6."""
    apr_ref = desk.sign(registry, wish, me, extra)
    waiting = view.awaiting([standing(registry, apr_ref)], as_json)
    return waiting or view.decision(desk.execute(registry, apr_ref), as_json)


def _step(action: str, word: str, text: str) -> Callable[..., int]:
    @click.command(word, help=text)
    @registry_options
    @key_option
    @click.argument("name")
    def step(location: str, store: Path, as_json: bool, key: Path, name: str) -> int:
        me = operator(key)
        with opened(location, store) as registry:
            wish = desk.change_of(registry.row(name), action)
            return sign_and_carry_out(registry, wish, me, as_json)

    return step


COMMANDS: tuple[Any, ...] = (
    propose_,
    approve_,
    register_,
    _step(ACTIVATE, "activate", "Let a registered NAME in; running hubs follow within a second."),
    _step(DEACTIVATE, "deactivate", "Shut NAME out for now; its session ends within a second."),
    _step(REVOKE, "revoke", "Shut NAME out for good; its session ends within a second."),
)
