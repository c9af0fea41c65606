"""The `m13-node` command: its options, checked before anything on the machine is changed."""

import sys
from pathlib import Path

import click

from m13 import __version__, config, identity, log
from m13.cli import run
from node import known_hubs

EPILOG = (
    "Exit status: 0 ended by a signal; 1 the machine refused; 2 bad argument or address; 3 bad key"
    " or configuration file; 4 no session with the hub; 130 interrupted or 143 terminated before it"
    " connected. Everything changed on the machine is put back on exit, and by the next start after"
    " a crash. Environment: M13_RUN_DIR, where the journal of changes is [/run/m13]; M13_DEBUG=1,"
    " tell more."
)


@click.command(epilog=EPILOG)
@click.option("--hub", "--hub-ip", "hub", type=config.HostPort(), help="Where the hub is.")
@click.option(
    "--hub-l2",
    type=config.Station(),
    help="The hub on the Ethernet of IFACE (EtherType 0x88B5), instead of --hub; without MAC"
    " whoever answers, so --hub-key is needed.",
)
@config.shared_options
@click.option("--echo", is_flag=True, help="Send tunnel packets back instead of delivering them.")
@click.option(
    "--identity",
    type=config.FILE,
    default=identity.DEFAULT_PATH,
    show_default=True,
    help="This node's identity.",
)
@click.option("--hub-key", metavar="SHA256:...", help="Fingerprint of the hub's key.")
@click.option(
    "--known-hubs",
    type=config.FILE,
    default=known_hubs.DEFAULT_PATH,
    show_default=True,
    help="File with lines 'HOST:PORT SHA256:...', used without --hub-key.",
)
@click.option(
    "--route",
    "routes",
    type=config.Prefix(),
    multiple=True,
    help="Send only this prefix through the tunnel; repeat for more. Default: everything.",
)
@click.option("--no-routes", is_flag=True, help="Change no route: the tunnel subnet only.")
@click.option(
    "--handshake",
    type=click.Choice(["v2", "v1", "v1-full"]),
    default="v2",
    show_default=True,
    help="Handshake profile; there is no falling back.",
)
@config.rekey_options(seconds=3600)
@click.option(
    "--sqpoll",
    type=click.Choice(["auto", "on", "off"]),
    default="auto",
    show_default=True,
    help="A kernel thread that submits for us; auto: from four cores on.",
)
@click.version_option(__version__, prog_name="m13-node")
def node(
    hub: tuple[str, int] | None,
    hub_l2: tuple[str, bytes] | None,
    tunnel: bool,
    monitor: bool,
    as_json: bool,
    once: bool,
    tun_name: str,
    identity: Path,
    hub_key: str | None,
    known_hubs: Path,
    routes: tuple[str, ...],
    no_routes: bool,
    handshake: str,
    **options: object,
) -> int:
    """Connect this machine to an M13 hub."""
    if monitor:
        # here and not above, where Ctrl-C while it loads would not be caught
        from m13.monitor import run_monitor

        run_monitor("node", tun_name, as_json, once)
        return 0
    if as_json or once:
        raise click.UsageError("--json and --once belong to --monitor")
    if not tunnel:
        raise click.UsageError("nothing to do: --tunnel connects, --monitor watches")
    if hub and hub_l2:
        raise click.UsageError("--hub and --hub-l2 exclude each other")
    if hub is None and hub_l2 is None:
        raise click.UsageError("which hub? m13-node --hub HOST:PORT --tunnel")
    if hub_l2 and hub_key is None:
        raise click.UsageError("--hub-l2 needs --hub-key: a MAC says nothing of whose it is")
    if routes and no_routes:
        raise click.UsageError("--route and --no-routes exclude each other")
    config.check_root("m13-node")
    # here, because watching and --help need none of what connecting loads
    from node.app import Settings, connect

    settings = Settings(
        hub_host=hub[0] if hub else "",
        hub_port=hub[1] if hub else 0,
        hub_l2=hub_l2,
        tun_name=tun_name,
        identity=identity,
        hub_key=hub_key,
        known_hubs=known_hubs,
        prefixes=() if no_routes else routes or None,
        handshake_versions=config.VERSIONS[handshake],
        v1_profile="v1-full" if handshake == "v1-full" else "v1",
        **options,  # type: ignore[arg-type]
    )
    connect(settings)
    return 0


def main() -> None:
    log.setup()
    sys.exit(run(node, "m13-node"))


if __name__ == "__main__":
    main()
