"""The `m13-hub` command: its options, checked before anything on the machine is changed."""

import ipaddress
import sys
from pathlib import Path

import click

from hub import roster
from m13 import __version__, config, identity, log
from m13.cli import run

EPILOG = (
    "Exit status: 0 ended by a signal; 1 the machine refused; 2 bad argument, port or interface;"
    " 3 bad key, node list or configuration file; 5 the registry refused; 130 interrupted or 143"
    " terminated before it served. Everything changed on the machine is put back on exit, and by"
    " the next start after a crash. Environment: M13_RUN_DIR, where the journal of changes is"
    " [/run/m13]; M13_MOCK_CMDLINE, a kernel command line to read isolcpus= from instead of the"
    " machine's; M13_DEBUG=1, tell more."
)


@click.command(epilog=EPILOG)
@click.argument("interface", required=False, metavar="[IFACE]")
@click.option("-i", "--iface", metavar="IFACE", help="Network interface, instead of the argument.")
@config.shared_options
@click.option(
    "--port",
    "--listen",
    type=config.PORT,
    envvar="M13_LISTEN_PORT",
    default=config.SERVED_PORT,
    show_default=True,
    help="UDP port nodes come to [M13_LISTEN_PORT].",
)
@click.option(
    "--l2",
    is_flag=True,
    help="Serve nodes on the interface's own Ethernet too (EtherType 0x88B5), which needs no IP.",
)
@click.option(
    "--single-queue",
    type=click.IntRange(0, 1023),
    metavar="Q",
    help="Use receive queue Q and leave the NIC's channels alone; else they become one.",
)
@click.option(
    "--workers",
    type=click.IntRange(1, 8),
    default=1,
    show_default=True,
    help="Workers, each on a receive queue of its own; more than one with AF_XDP only.",
)
@click.option(
    "--identity",
    type=config.FILE,
    default=identity.DEFAULT_PATH,
    show_default=True,
    help="This hub's identity.",
)
@click.option(
    "--nodes",
    type=config.FILE,
    default=roster.DEFAULT_PATH,
    show_default=True,
    help="TOML list of admitted nodes.",
)
@click.option(
    "--registry",
    metavar="URL",
    help="Admit the active rows of this registry instead of a list: an SQLite file or"
    " postgresql://...; followed while the hub runs.",
)
@click.option(
    "--subnet",
    type=config.Interface4(),
    default="10.13.0.1/24",
    show_default=True,
    help="The hub's address in the tunnel, with the subnet's length.",
)
@click.option(
    "--subnet6",
    metavar="PREFIX|off",
    help="The tunnel's IPv6 subnet; nodes have their IPv4 host numbers in it. [a unique local /64"
    " that follows from this hub's key]",
)
@click.option(
    "--routed6",
    is_flag=True,
    help="Do not masquerade IPv6: the subnet is routed to this machine.",
)
@click.option(
    "--relay",
    is_flag=True,
    help="Packets between nodes do not pass this machine's kernel and its firewall.",
)
@click.option(
    "--mtu", type=config.MTU, help="Tunnel MTU  [default: 1400, or what the interface leaves]"
)
@click.option(
    "--keepalive-ms",
    type=config.KEEPALIVE_MS,
    default=1000,
    show_default=True,
    help="Interval of sealed keepalives; a peer silent for five is lost.",
)
@config.rekey_options(seconds=3660)  # nodes ask by themselves at 3600
@click.option(
    "--handshake",
    type=click.Choice(["v1", "v2", "both"]),
    default="both",
    show_default=True,
    help="Handshake versions to accept.",
)
@click.option(
    "--v1-profile",
    type=click.Choice(["v1", "v1-full"]),
    default="v1",
    show_default=True,
    help="What version 1 signs.",
)
@click.option(
    "--rx",
    type=click.Choice(["auto", "xdp", "udp"]),
    default="auto",
    show_default=True,
    help="Serve through AF_XDP or a UDP socket; auto takes AF_XDP where the NIC has zero-copy or an"
    " option of it is given, and else measures for 0.2 s which costs clearly less.",
)
@click.option(
    "--xdp",
    type=click.Choice(["auto", "native", "generic"]),
    default="auto",
    show_default=True,
    help="How AF_XDP's steering program is attached.",
)
@click.option(
    "--feedback/--no-feedback",
    default=True,
    show_default=True,
    help="Hub and nodes tell each other what arrived, which shows round trip and losses.",
)
@click.version_option(__version__, prog_name="m13-hub")
def hub(
    interface: str | None,
    iface: str | None,
    tunnel: bool,
    monitor: bool,
    as_json: bool,
    once: bool,
    tun_name: str,
    subnet: ipaddress.IPv4Interface,
    handshake: str,
    identity: Path,
    mtu: int | None,
    subnet6: str | None,
    **options: object,
) -> int:
    """Serve M13 nodes on IFACE: AF_XDP or a UDP socket towards them, a TUN with NAT towards the
    internet."""
    if monitor:
        # here and not above, where Ctrl-C while it loads would not be caught
        from m13.monitor import run_monitor

        run_monitor("hub", tun_name, as_json, once)
        return 0
    if as_json or once:
        raise click.UsageError("--json and --once belong to --monitor")
    if not tunnel:
        raise click.UsageError("nothing to do: --tunnel serves, --monitor watches")
    if interface and iface and interface != iface:
        raise click.UsageError(f"two interfaces given: {interface} and {iface}")
    name = interface or iface
    if not name:
        raise click.UsageError("which interface do the nodes come to? m13-hub IFACE --tunnel")
    config.check_root("m13-hub")
    # here, because watching and --help need none of what serving loads
    from hub.app import Settings, serve

    settings = Settings(
        interface=name,
        tun_name=tun_name,
        subnet=subnet,
        identity=identity,
        mtu=mtu or 0,
        handshake_versions=config.VERSIONS[handshake],
        **options,  # type: ignore[arg-type]
    )
    serve(settings, subnet6)
    return 0


def main() -> None:
    log.setup()
    sys.exit(run(hub, "m13-hub"))


if __name__ == "__main__":
    main()
