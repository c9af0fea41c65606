"""Settings that hub and node share: option types, the TOML file, common options."""

import ipaddress
import os
import re
import socket
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from m13.errors import ConfigurationError
from m13.host.wakefulness import POLICIES
from native.event import MTU_MAX, MTU_MIN

FILE = click.Path(path_type=Path, dir_okay=False)
PORT = click.IntRange(1, 65535)
MTU = click.IntRange(MTU_MIN, MTU_MAX)
KEEPALIVE_MS = click.IntRange(20, 60_000)
SERVED_PORT = 443  # shares the port of HTTPS over QUIC, which firewalls let through

HOST_BYTES_MAX = 253
BROADCAST = ipaddress.IPv4Address("255.255.255.255")

EVERYBODY = b"\xff" * 6

# What a person types to look at something is no setting of a service.
NOT_IN_FILE = {"config", "help", "version", "monitor", "json", "once"}

# Handshake profiles by the names of docs/PROTOCOL.md §4.
VERSIONS = {"v1": (1,), "v2": (2,), "both": (1, 2), "v1-full": (1,)}


class HostPort(click.ParamType[tuple[str, int]]):
    """HOST:PORT, the port may be left out; an IPv6 address stands in brackets. The host comes
    without them."""

    name = "HOST:PORT"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[str, int]:
        if isinstance(value, tuple):
            return value
        literal = re.fullmatch(r"\[([^\[\]]*)\](?::(.*))?", str(value))
        if literal:
            host, port = literal[1], str(SERVED_PORT) if literal[2] is None else literal[2]
        else:
            host, colon, port = str(value).rpartition(":")
            if not colon:
                host, port = port, str(SERVED_PORT)
        if ":" in host and not literal:
            self.fail(f"'{value}': write an IPv6 address as [2001:db8::1]:443", param, ctx)
        if not host or not re.fullmatch("[0-9]{1,5}", port) or not 1 <= int(port) <= 65535:
            self.fail(f"'{value}' is not HOST:PORT with a port from 1 to 65535", param, ctx)
        if not (_is_address6(host) if literal else _is_host_name(host)):
            kind = "no IPv6 address" if literal else "neither a host name nor an IP address"
            self.fail(f"'{host}' is {kind}", param, ctx)
        if not _is_one_host(host):
            self.fail(f"'{host}' is not the address of one host", param, ctx)
        return host, int(port)


class Station(click.ParamType[tuple[str, bytes]]):
    """IFACE or IFACE/MAC: a station on an interface's Ethernet, by default whoever answers."""

    name = "IFACE[/MAC]"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[str, bytes]:
        if isinstance(value, tuple):
            return value
        interface, slash, text = str(value).partition("/")
        if not interface or (
            slash and not re.fullmatch("[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2}){5}", text)
        ):
            self.fail(f"'{value}' is not IFACE or IFACE/MAC, as eth0/02:00:00:00:00:01", param, ctx)
        mac = bytes.fromhex(text.replace(":", "")) if slash else EVERYBODY
        if mac != EVERYBODY and (mac[0] & 1 or not any(mac)):
            self.fail(f"'{text}' is not the MAC of one station", param, ctx)
        return interface, mac


def _is_host_name(host: str) -> bool:
    """Whether the resolver can be asked: its encoding refuses empty and over-long labels. What ends
    in a number is an address or nothing (RFC 3696 §2), and nobody need wait for a resolver's no."""
    try:
        encoded = host.encode("idna")
    except UnicodeError:
        return False
    if len(encoded) > HOST_BYTES_MAX or not host.isprintable() or " " in host:
        return False
    last = host.removesuffix(".").rpartition(".")[2]
    return not last.isdecimal() or _is_address4(host)


def _is_address4(host: str) -> bool:
    """In any form the resolver takes."""
    try:
        socket.inet_aton(host)
    except (OSError, ValueError):
        return False
    return True


def _is_address6(host: str) -> bool:
    try:
        return ipaddress.IPv6Address(host).scope_id is None
    except ValueError:
        return False


def _is_one_host(host: str) -> bool:
    """False for a literal, of IPv4 in any form the resolver takes, that no single host can have or
    that only names a host together with a link."""
    address: ipaddress.IPv4Address | ipaddress.IPv6Address
    try:
        if ":" in host:
            address = ipaddress.IPv6Address(host)
            if address.is_link_local or address.ipv4_mapped:
                return False
        else:
            address = ipaddress.IPv4Address(socket.inet_aton(host))
    except OSError:
        return True
    return not (address.is_multicast or address.is_unspecified or address == BROADCAST)


class Interface4(click.ParamType[ipaddress.IPv4Interface]):
    """An IPv4 address with the length of its subnet, such as 10.13.0.1/24."""

    name = "ADDRESS/BITS"

    def convert(self, value: Any, param: Any, ctx: Any) -> ipaddress.IPv4Interface:
        try:
            interface = ipaddress.IPv4Interface(value)
        except ValueError:
            self.fail(f"'{value}' is not an IPv4 address with a prefix length", param, ctx)
        network = interface.network
        if network.prefixlen > 30:
            self.fail(f"'{value}' leaves no room for hub and nodes", param, ctx)
        if interface.ip in (network.network_address, network.broadcast_address):
            self.fail(f"'{value}' is no host's address in {network}", param, ctx)
        return interface


class Prefix(click.ParamType[str]):
    """An IPv4 or IPv6 prefix such as 192.168.7.0/24 or 2001:db8:7::/48."""

    name = "PREFIX"

    def convert(self, value: Any, param: Any, ctx: Any) -> str:
        try:
            return str(ipaddress.ip_network(value))
        except ValueError as error:
            self.fail(f"'{value}' is not an IPv4 or IPv6 prefix: {error}", param, ctx)


def _read_file(ctx: click.Context, _param: click.Parameter, path: Path | None) -> Path | None:
    """The file's entries become defaults: what the command line says is stronger."""
    if path is None:
        return None
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise ConfigurationError(f"{path}: {error}") from error
    known = {o[2:]: p for p in ctx.command.params for o in p.opts if o.startswith("--")}
    defaults: dict[str, Any] = {}
    for name, value in table.items():
        parameter = known.get(name)
        if parameter is None:
            raise ConfigurationError(f"{path}: '{name}' is no option of {ctx.command_path}")
        if name in NOT_IN_FILE:
            raise ConfigurationError(f"{path}: '{name}' belongs on the command line")
        if str(parameter.name) in defaults:
            raise ConfigurationError(f"{path}: '{name}' is given under two names")
        _check_entry(ctx, path, name, value, parameter)
        defaults[str(parameter.name)] = value
    ctx.default_map = defaults
    return path


def _check_entry(
    ctx: click.Context, path: Path, name: str, value: Any, parameter: click.Parameter
) -> None:
    """Strictly by the option's type: left to itself, click takes 1 and "yes" for true."""
    if isinstance(parameter, click.Option) and parameter.is_flag:
        good, wanted = isinstance(value, bool), "true or false"
    elif isinstance(parameter.type, click.IntRange):
        good, wanted = isinstance(value, int) and not isinstance(value, bool), "an integer"
    elif isinstance(parameter.type, click.Choice):
        good = isinstance(value, str)
        wanted = f"a string ({', '.join(map(str, parameter.type.choices))})"
    elif parameter.multiple:
        good = isinstance(value, list) and all(isinstance(entry, str) for entry in value)
        wanted = "a list of strings"
    else:
        good, wanted = isinstance(value, str), "a string"
    if not good:
        raise ConfigurationError(f"{path}: {name} must be {wanted}, not {value!r}")
    try:
        parameter.type_cast_value(ctx, value)
    except click.BadParameter as error:
        raise click.BadParameter(f"{error.message} (in {path})", ctx, parameter) from error


F = TypeVar("F", bound=Callable[..., Any])


def shared_options(function: F) -> F:
    """Options that mean the same on both ends."""
    for option in reversed(
        [
            click.option(
                "--tunnel", is_flag=True, help="Serve the tunnel (hub) or connect (node)."
            ),
            click.option("--monitor", is_flag=True, help="Watch the one that runs here."),
            click.option("--json", "as_json", is_flag=True, help="With --monitor: JSON lines."),
            click.option("--once", is_flag=True, help="With --monitor: one look, then exit."),
            click.option(
                "--config",
                type=FILE,
                is_eager=True,
                expose_value=False,
                callback=_read_file,
                help="TOML file with these options by name; the command line is stronger.",
            ),
            click.option("--tun-name", default="m13tun0", show_default=True, help="TUN device."),
            click.option(
                "--hexdump",
                is_flag=True,
                envvar="M13_HEXDUMP",
                help="Print frames as they are on the wire, both directions [M13_HEXDUMP=1].",
            ),
            click.option(
                "--aead",
                type=click.Choice(["auto", "ipsec-mb", "libcrypto"]),
                default="auto",
                show_default=True,
                help="Library that seals and opens frames.",
            ),
            click.option(
                "--pqc",
                type=click.Choice(["auto", "cryptography", "pqcrypto"]),
                default="auto",
                show_default=True,
                help="Library of ML-KEM-1024 and ML-DSA-87.",
            ),
            click.option(
                "--low-latency",
                type=click.Choice(list(POLICIES)),
                is_flag=False,
                flag_value="on",
                default="auto",
                show_default=True,
                help="Keep cores from sleeping while packets flow: faster answers, more power."
                " auto: on at most four cores, not on battery, while packets are many.",
            ),
        ]
    ):
        function = option(function)
    return function


def rekey_options(seconds: int) -> Callable[[F], F]:
    """When a session gets new keys; the limits of docs/PROTOCOL.md §5 are the defaults."""

    def decorate(function: F) -> F:
        function = click.option(
            "--rekey-frames",
            type=click.IntRange(1000, 1 << 32),
            default=1 << 32,
            show_default=True,
            help="Frames sent after which the session gets new keys.",
        )(function)
        return click.option(
            "--rekey-seconds",
            type=click.IntRange(5, seconds),
            default=seconds,
            show_default=True,
            help="Age at which the session gets new keys.",
        )(function)

    return decorate


def check_root(program: str) -> None:
    """Before anything is touched: the machine can only be changed by root."""
    if os.geteuid() != 0:
        raise click.UsageError(f"{program} --tunnel must run as root")
