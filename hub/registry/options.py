"""Options that the registry's commands share, and what they open."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from hub.registry.database import DEFAULT_URL
from hub.registry.registry import Registry
from hub.registry.store import DEFAULT_STORE
from m13 import identity, pqc

F = TypeVar("F", bound=Callable[..., Any])
FILE = click.Path(path_type=Path, dir_okay=False)
DEFAULT_KEY = Path("/etc/m13/operator")


def registry_options(function: F) -> F:
    for option in (
        click.option("--json", "as_json", is_flag=True, help="One JSON object instead of tables."),
        click.option(
            "--store",
            type=click.Path(path_type=Path, file_okay=False),
            envvar="M13_STORE",
            default=DEFAULT_STORE,
            show_default=True,
            help="Folder of deployed artifacts [M13_STORE].",
        ),
        click.option(
            "--registry",
            "location",
            envvar="M13_REGISTRY",
            default=DEFAULT_URL,
            show_default=True,
            metavar="URL",
            help="SQLite file, or postgresql://ROLE@/DATABASE?host=... [M13_REGISTRY].",
        ),
    ):
        function = option(function)
    return function


def key_option(function: F) -> F:
    return click.option(
        "--key",
        type=FILE,
        envvar="M13_OPERATOR_KEY",
        default=DEFAULT_KEY,
        show_default=True,
        help="The operator's identity, as 'm13 keygen' makes it [M13_OPERATOR_KEY].",
    )(function)


def opened(location: str, store: Path) -> Registry:
    return Registry(location, store)


def operator(key: Path) -> identity.Identity:
    return identity.load(key, pqc.choose())
