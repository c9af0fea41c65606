"""The `m13` command, and how every command of ours ends: one clear line and an exit status."""

import logging
import os
import platform
import sys
from pathlib import Path
from typing import Any

import click

from m13 import __version__, config, identity, log, pqc
from m13.errors import M13Error, UsageError

COMMANDS_GROUP = "m13.commands"
EXIT_INTERRUPTED = 130
EXIT_BROKEN_PIPE = 141

KEY_PATH = click.Path(path_type=Path, dir_okay=False)


class Commands(click.Group):
    """Ours, and those that other packages of M13 bring: found by name, loaded when they are used,
    so that nothing here knows the hub or the node."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*super().list_commands(ctx), *_brought()})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        command = super().get_command(ctx, cmd_name)
        if command is None and cmd_name in (brought := _brought()):
            loaded: click.Command = brought[cmd_name].load()
            return loaded
        return command


def _brought() -> dict[str, Any]:
    """Entry points by the name of their command."""
    # here and not above: it takes 20 ms to load, which a node need not wait for
    from importlib.metadata import entry_points

    return {entry.name: entry for entry in entry_points(group=COMMANDS_GROUP)}


@click.group(
    cls=Commands,
    no_args_is_help=False,
    epilog="Exit status: 0 done; 1 the machine refused, or doctor found a failure; 2 bad argument;"
    " 3 bad key file; 5 the registry refused, with a code; 6 another operator must approve;"
    " 130 interrupted; 143 terminated. Environment: M13_DEBUG=1, tell more.",
)
@click.version_option(__version__, prog_name="m13")
def m13() -> None:
    """Identities of M13 hubs and nodes, their admission, what runs and what this machine can do."""


@m13.command()
@click.argument("path", type=KEY_PATH, default=identity.DEFAULT_PATH)
def keygen(path: Path) -> None:
    """Make an identity at PATH (default /etc/m13/identity) and its public key at PATH.pub.

    Nothing is overwritten. The fingerprint printed is what the other side is told.
    """
    made = identity.create(path, pqc.choose())
    click.echo(f"identity    {path} (keep it secret)", err=True)
    click.echo(f"public key  {identity.public_path(path)}", err=True)
    click.echo(made.fingerprint)


@m13.command()
@click.argument("path", type=KEY_PATH, default=identity.DEFAULT_PATH)
def fingerprint(path: Path) -> None:
    """Print the fingerprint of an identity or public key file."""
    click.echo(identity.load_fingerprint(path, pqc.choose()))


@m13.command()
@click.argument("request", type=KEY_PATH)
@click.option(
    "--identity",
    "identity_path",
    type=KEY_PATH,
    default=identity.DEFAULT_PATH,
    show_default=True,
    help="The identity that asks.",
)
@click.option("--name", metavar="NAME", help="What it is to be called [this host's name].")
@click.option("--role", type=click.Choice(["node", "hub"]), default="node", show_default=True)
def enroll(request: Path, identity_path: Path, name: str | None, role: str) -> None:
    """Write a signed request to be admitted to REQUEST, for the hub's operator.

    It holds the public key and the proof that whoever wrote it has the secret one; nothing in it is
    secret. Nothing is overwritten. On the hub: m13 admit REQUEST.
    """
    from m13 import enrollment

    provider = pqc.choose()
    me = identity.load(identity_path, provider)
    name = name or platform.node().partition(".")[0]
    try:
        document = enrollment.write(me, provider, name, role)
    except ValueError as error:
        raise UsageError(f"--name {name!r}: {error}") from error
    try:
        with request.open("xb") as file:
            file.write(document)
    except OSError as error:
        raise UsageError(f"cannot write {request}: {error.strerror}") from error
    click.echo(f"request     {request}, for the hub's operator ({role} {name})", err=True)
    click.echo(me.fingerprint)


@m13.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of a table.")
@click.option("--interface", metavar="IFACE", help="The hub's network interface [default route's].")
def doctor(as_json: bool, interface: str | None) -> int:
    """Check what M13 needs of this machine; changes nothing.

    Exit status 0 when nothing failed (warnings do not count), 1 when something did.
    """
    # here and not above, where Ctrl-C while it loads would not be caught
    from m13.doctor import run_doctor

    return run_doctor(interface, as_json)


@m13.command()
@click.option("--hub", type=config.HostPort(), help="Measure the tunnel to this hub [any].")
@click.option(
    "--seconds",
    type=click.FloatRange(0.5, 600),
    default=10,
    show_default=True,
    help="About how long all of it takes.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of tables.")
def bench(hub: tuple[str, int] | None, seconds: float, as_json: bool) -> int:
    """Measure what limits this machine: AEAD, rings, wake-ups, TUN, UDP, and the tunnel.

    The tunnel is measured through a node or hub that runs here, by pings and by about a second of
    as many echoes as it carries. TUN and sockets are measured in a network namespace that is gone
    afterwards; nothing on the machine changes. Who is not root gets what an ordinary user may
    measure, and hears what was left out.
    """
    # here and not above, where Ctrl-C while it loads would not be caught
    from m13.bench.run import run_bench

    return run_bench(hub, seconds, as_json)


@m13.command()
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="One JSON list instead of text.")
def show(name: str | None, as_json: bool) -> None:
    """Show the hubs and nodes that run here, and their peers; or the TUN or peer NAME.

    Who is not root sees what telemetry lets him see.
    """
    # here and not above, where Ctrl-C while it loads would not be caught
    from m13.show import run_show

    run_show(name, as_json)


@m13.command()
@click.argument("name", required=False, metavar="[TUN]")
def reload(name: str | None) -> None:
    """Make the hub that runs here read its list of nodes again, a node its known hubs.

    What did not change loses no packet. A file with a mistake changes nothing, and is told: exit
    status 3. SIGHUP does the same, and says so in the log.
    """
    # here and not above, where Ctrl-C while it loads would not be caught
    from m13 import running

    running.reload(name)


def run(command: click.Command, program: str) -> int:
    """Run a command line; whatever goes wrong becomes one line on stderr and an exit status."""
    # numpy comes with one PQC provider: threads of its own would only hold privileges
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    try:
        with command.make_context(program, sys.argv[1:]) as context:
            status = command.invoke(context)
        # Here and not at exit, where a closed pipe could no longer be caught.
        if sys.stdout:  # None when we were started with it closed
            sys.stdout.flush()
        return status if isinstance(status, int) else 0
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except click.UsageError as error:
        asked = error.ctx.command_path if error.ctx else program
        return _complain(program, f"{error.format_message().rstrip('.')} (see {asked} --help)", 2)
    except click.ClickException as error:
        return _complain(program, error.format_message(), error.exit_code)
    except M13Error as error:
        return _complain(program, str(error), error.exit_status)
    except (KeyboardInterrupt, click.Abort):
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader of our output left; nothing more can be said to it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_BROKEN_PIPE
    except Exception as error:
        logging.getLogger("m13").debug("the error in full", exc_info=True)
        return _complain(program, f"{error or type(error).__name__} (M13_DEBUG=1 tells more)", 1)


def main() -> None:
    log.setup()
    sys.exit(run(m13, "m13"))


def _complain(program: str, message: str, status: int) -> int:
    line = " ".join(message.split())
    click.echo(f"{program}: error: {line}", err=True)
    return status


if __name__ == "__main__":
    main()
