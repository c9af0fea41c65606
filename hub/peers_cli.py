"""`m13 peers`: the list of nodes changed by commands, and the hub that runs by it told."""

import fcntl
import ipaddress
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import click

from hub import roster, roster_text
from m13 import config
from m13.control import ask
from m13.errors import ConfigurationError, HostError, UsageError
from m13.identity import parse_fingerprint
from m13.running import Running, find, say_reloaded

# Where no hub runs to say its subnet, everything but "is it in the subnet" is checked.
ANY_SUBNET = ipaddress.IPv4Interface("0.0.0.1/0")

NODES = click.option(
    "--nodes",
    type=config.FILE,
    default=roster.DEFAULT_PATH,
    show_default=True,
    help="TOML list of admitted nodes.",
)


@click.group()
def peers() -> None:
    """Change the list of nodes; a hub that runs by it follows at once, untouched nodes unharmed.

    The file is replaced in one step and keeps its comments. Without a running hub the change counts
    from the next start.
    """


@peers.command()
@click.argument("name")
@click.argument("key")
@click.option("--address", metavar="ADDRESS", help="In the tunnel; otherwise the next free one.")
@NODES
def add(name: str, key: str, address: str | None, nodes: Path) -> None:
    """Admit the node NAME with the fingerprint KEY ('m13 fingerprint' on the node)."""
    _check_name(name)
    _check_key(key)
    if address is not None:
        try:
            address = str(ipaddress.IPv4Address(address))
        except ValueError:
            raise UsageError(f"--address: '{address}' is not an IPv4 address") from None
    _change(nodes, lambda text: roster_text.add(text, name, key, address))


@peers.command()
@click.argument("name")
@NODES
def remove(name: str, nodes: Path) -> None:
    """Expel the node NAME: its session ends, and it does not come back."""
    _change(nodes, lambda text: roster_text.remove(text, name))


@peers.command()
@click.argument("name")
@click.argument("key")
@NODES
def rekey(name: str, key: str, nodes: Path) -> None:
    """Admit the node NAME with the fingerprint KEY from now on, and its old key no more."""
    _check_key(key)
    _change(nodes, lambda text: roster_text.rekey(text, name, key))


def _check_name(name: str) -> None:
    if not roster.NAME.fullmatch(name):
        raise UsageError(f"NAME must be 1 to 31 letters, digits, '.', '_' or '-', not {name!r}")


def _check_key(key: str) -> None:
    try:
        parse_fingerprint(key)
    except ValueError:
        raise UsageError(
            f"KEY must be what 'm13 fingerprint' prints (SHA256:...), not {key!r}"
        ) from None


def _change(path: Path, edit: Callable[[str], str]) -> None:
    path = path.resolve()
    hubs = _hubs_by(path)
    with _only_one(path):
        text = _read(path)
        # before and after: what was wrong already is not blamed on the change
        for subnet in hubs.values() or [ANY_SUBNET]:
            if text:
                roster.load(path, subnet)
        _replace(path, edit(text), list(hubs.values()) or [ANY_SUBNET])
    if not hubs:
        click.echo(f"{path} is changed; no hub runs by it here: it counts from the next start")
    for hub in hubs:
        say_reloaded(hub, ask(hub.socket_path, "reload"))


def _hubs_by(path: Path) -> dict[Running, ipaddress.IPv4Interface]:
    """The hubs that run here by that list, with their subnets."""
    found = {}
    for one in find():
        with suppress(HostError):
            told = ask(one.socket_path, "describe") if one.role == "hub" else {}
            if told.get("nodes_file") == str(path):
                found[one] = ipaddress.IPv4Interface(told["subnet"])
    return found


@contextmanager
def _only_one(path: Path) -> Iterator[None]:
    """Two commands at once: the second waits, and sees what the first wrote."""
    try:
        directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise ConfigurationError(f"cannot write to {path.parent}: {error.strerror}") from error
    try:
        fcntl.flock(directory, fcntl.LOCK_EX)
        yield
        os.fsync(directory)
    finally:
        os.close(directory)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"cannot read {path}: {error}") from error


def _replace(path: Path, text: str, subnets: list[ipaddress.IPv4Interface]) -> None:
    """In one step, with the owner and mode it had; nothing changed when the new one is refused."""
    try:
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    except OSError as error:
        raise ConfigurationError(f"cannot write to {path.parent}: {error.strerror}") from error
    fresh = Path(name)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            with suppress(FileNotFoundError):
                before = path.stat()
                os.fchown(file.fileno(), before.st_uid, before.st_gid)
                os.fchmod(file.fileno(), before.st_mode & 0o777)
            file.flush()
            os.fsync(file.fileno())
        try:
            for subnet in subnets:
                roster.load(fresh, subnet)
        except ConfigurationError as error:
            message = str(error).replace(str(fresh), str(path))
            raise ConfigurationError(f"{message}; nothing changed") from error
        fresh.replace(path)
    except OSError as error:
        raise ConfigurationError(f"cannot write {path}: {error.strerror}") from error
    finally:
        fresh.unlink(missing_ok=True)
