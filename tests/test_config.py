"""Option types and the configuration file: what is taken, what is refused and how it is told."""

from ipaddress import IPv4Interface
from pathlib import Path
from typing import Any

import click
import pytest

from hub.cli import hub
from m13 import config
from m13.errors import ConfigurationError
from node.cli import node

LABEL = "a" * 63


def parsed(command: click.Command, path: Path, *arguments: str) -> dict[str, Any]:
    return command.make_context("prog", ["--config", str(path), *arguments]).params


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "settings.toml"


@pytest.mark.parametrize(
    ("command", "text", "name", "value"),
    [
        (hub, "tunnel = true", "tunnel", True),
        (hub, "hexdump = false", "hexdump", False),
        (hub, "port = 4433", "port", 4433),
        (hub, "listen = 4433", "port", 4433),
        (hub, 'iface = "wan0"', "iface", "wan0"),
        (hub, 'subnet = "10.9.0.1/24"', "subnet", IPv4Interface("10.9.0.1/24")),
        (hub, 'identity = "/etc/x"', "identity", Path("/etc/x")),
        (hub, 'aead = "libcrypto"', "aead", "libcrypto"),
        (node, 'hub = "192.0.2.1:444"', "hub", ("192.0.2.1", 444)),
        (node, 'hub-ip = "192.0.2.1"', "hub", ("192.0.2.1", 443)),
        (node, 'route = ["10.0.0.0/8", "192.0.2.0/24"]', "routes", ("10.0.0.0/8", "192.0.2.0/24")),
        (node, "route = []", "routes", ()),
        (node, "no-routes = true", "no_routes", True),
    ],
)
def test_the_file_gives_any_setting(
    path: Path, command: click.Command, text: str, name: str, value: object
) -> None:
    path.write_text(text)
    assert parsed(command, path)[name] == value


def test_the_command_line_is_stronger_than_the_file(path: Path) -> None:
    path.write_text('port = 4433\nmtu = 1300\ntun-name = "x0"')
    found = parsed(hub, path, "--port", "5000", "--tun-name", "y0")
    assert (found["port"], found["mtu"], found["tun_name"]) == (5000, 1300, "y0")


@pytest.mark.parametrize(
    ("command", "text", "said"),
    [
        (hub, 'tunnel = "yes"', "tunnel must be true or false, not 'yes'"),
        (hub, "tunnel = 1", "tunnel must be true or false, not 1"),
        (hub, "port = true", "port must be an integer, not True"),
        (hub, 'port = "443"', "port must be an integer"),
        (hub, "port = 443.0", "port must be an integer"),
        (hub, "port = []", "port must be an integer"),
        (hub, "identity = 7", "identity must be a string"),
        (hub, "aead = true", "aead must be a string"),
        (node, "low-latency = true", "low-latency must be a string (off, auto, on), not True"),
        (hub, "subnet = 168624129", "subnet must be a string"),
        (hub, "subnet = {}", "subnet must be a string"),
        (hub, "tun-name = 2026-01-01", "tun-name must be a string"),
        (hub, '[identity]\npath = "x"', "identity must be a string"),
        (node, "hub = 1", "hub must be a string"),
        (node, 'hub = ["192.0.2.1", 443]', "hub must be a string"),
        (node, 'route = "10.0.0.0/8"', "route must be a list of strings"),
        (node, "route = [10]", "route must be a list of strings"),
        (hub, "version = true", "'version' belongs on the command line"),
        (hub, 'config = "x"', "'config' belongs on the command line"),
        (hub, "monitor = true", "'monitor' belongs on the command line"),
        (hub, "json = true", "'json' belongs on the command line"),
        (hub, "once = true", "'once' belongs on the command line"),
        (hub, "help = true", "'help' is no option of prog"),
        (hub, "as_json = true", "'as_json' is no option of prog"),
        (hub, 'terface = "wan0"', "'terface' is no option"),
        (hub, '"" = "wan0"', "'' is no option"),
        (hub, "port = 1\nlisten = 2", "'listen' is given under two names"),
        (hub, "port = \n", "line 1"),
    ],
)
def test_mistakes_in_the_file_are_configuration_errors(
    path: Path, command: click.Command, text: str, said: str
) -> None:
    path.write_text(text)
    with pytest.raises(ConfigurationError) as caught:
        parsed(command, path)
    assert str(caught.value).startswith(f"{path}: ")
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("command", "text"),
    [
        (hub, "port = 0"),
        (hub, "port = 65536"),
        (hub, 'aead = "rot13"'),
        (node, 'low-latency = "maybe"'),
        (hub, 'subnet = "10.0.0.0/24"'),
        (hub, 'identity = "/"'),
        (node, 'hub = "192.0.2.1:0"'),
        (node, 'route = ["10.0.0.0/33"]'),
    ],
)
def test_bad_values_name_the_file_they_are_in(
    path: Path, command: click.Command, text: str
) -> None:
    path.write_text(text)
    with pytest.raises(click.BadParameter) as caught:
        parsed(command, path)
    assert f"(in {path})" in caught.value.format_message()
    assert f"--{text.split()[0]}" in caught.value.format_message()


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("192.0.2.1", "192.0.2.1", 443),
        ("192.0.2.1:1", "192.0.2.1", 1),
        ("192.0.513", "192.0.513", 443),
        ("hub.4u", "hub.4u", 443),
        ("127.0.0.1:65535", "127.0.0.1", 65535),
        ("hub.example.org", "hub.example.org", 443),
        ("hub.example.org.:444", "hub.example.org.", 444),
        ("hub_1", "hub_1", 443),
        (f"{LABEL}.org", f"{LABEL}.org", 443),
        ("bücher.example:443", "bücher.example", 443),
        ("[2001:db8::1]:4433", "2001:db8::1", 4433),
        ("[2001:db8::1]", "2001:db8::1", 443),
        ("[::1]:443", "::1", 443),
    ],
)
def test_hosts_are_taken_with_or_without_a_port(text: str, host: str, port: int) -> None:
    assert config.HostPort().convert(text, None, None) == (host, port)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is not HOST:PORT"),
        (":443", "is not HOST:PORT"),
        ("hub:", "is not HOST:PORT"),
        ("hub:0", "is not HOST:PORT"),
        ("hub:65536", "is not HOST:PORT"),
        ("hub:²", "is not HOST:PORT"),
        ("hub:٤٤٣", "is not HOST:PORT"),
        ("hub:+443", "is not HOST:PORT"),
        ("hub:" + "9" * 5000, "is not HOST:PORT"),
        ("::1", "write an IPv6 address as"),
        ("2001:db8::1", "write an IPv6 address as"),
        ("2001:db8::1:443", "write an IPv6 address as"),
        ("[2001:db8::1]443", "write an IPv6 address as"),
        ("[2001:db8::1]:0", "is not HOST:PORT"),
        ("[2001:db8::1]:", "is not HOST:PORT"),
        ("[]:443", "is not HOST:PORT"),
        ("[hub]:443", "no IPv6 address"),
        ("[192.0.2.1]:443", "no IPv6 address"),
        ("[fe80::abcd%eth0]:443", "no IPv6 address"),
        ("[fe80::abcd]:443", "not the address of one host"),
        ("[ff02::1]:443", "not the address of one host"),
        ("[::]:443", "not the address of one host"),
        ("[::ffff:192.0.2.1]:443", "not the address of one host"),
        (".", "neither a host name"),
        (".hub", "neither a host name"),
        ("hub..example", "neither a host name"),
        (f"{LABEL}a.org", "neither a host name"),
        (".".join([LABEL] * 4), "neither a host name"),
        ("my hub", "neither a host name"),
        ("hub\x00", "neither a host name"),
        ("hub\n", "neither a host name"),
        ("\udcff", "neither a host name"),
        ("300.0.2.1:443", "neither a host name"),
        ("300.0.2.1.:443", "neither a host name"),
        ("1.2.3.4.5", "neither a host name"),
        ("1 .2", "neither a host name"),
        ("1\t.2", "neither a host name"),
        ("hub.٤", "neither a host name"),
        ("0.0.0.0", "not the address of one host"),
        ("0:443", "not the address of one host"),
        ("224.0.0.1", "not the address of one host"),
        ("239.255.255.255:443", "not the address of one host"),
        ("255.255.255.255", "not the address of one host"),
    ],
)
def test_what_no_hub_can_be_called_is_refused(text: str, said: str) -> None:
    with pytest.raises(click.BadParameter, match=said):
        config.HostPort().convert(text, None, None)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("10.13.0.0/24", "no host's address in 10.13.0.0/24"),
        ("10.13.0.255/24", "no host's address in 10.13.0.0/24"),
        ("10.13.0.3/30", "no host's address in 10.13.0.0/30"),
        ("10.13.0.1/31", "leaves no room"),
        ("10.13.0.1", "leaves no room"),
        ("10.13.0.300/24", "is not an IPv4 address"),
        ("2001:db8::1/64", "is not an IPv4 address"),
    ],
)
def test_subnets_without_an_address_for_the_hub_are_refused(text: str, said: str) -> None:
    with pytest.raises(click.BadParameter, match=said):
        config.Interface4().convert(text, None, None)


def test_the_smallest_subnet_is_taken() -> None:
    taken = config.Interface4().convert("10.13.0.2/30", None, None)
    assert taken == IPv4Interface("10.13.0.2/30")


@pytest.mark.parametrize(
    ("text", "station"),
    [
        ("eth0", ("eth0", b"\xff" * 6)),
        ("eth0/02:00:00:00:AB:cd", ("eth0", bytes.fromhex("02000000abcd"))),
        ("eth0/ff:ff:ff:ff:ff:ff", ("eth0", b"\xff" * 6)),
    ],
)
def test_stations_are_taken_with_or_without_a_mac(text: str, station: tuple[str, bytes]) -> None:
    assert config.Station().convert(text, None, None) == station


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is not IFACE"),
        ("/02:00:00:00:00:01", "is not IFACE"),
        ("eth0/", "is not IFACE"),
        ("eth0/02:00:00:00:00", "is not IFACE"),
        ("eth0/02:00:00:00:00:01:02", "is not IFACE"),
        ("eth0/02-00-00-00-00-01", "is not IFACE"),
        ("eth0/00:00:00:00:00:00", "not the MAC of one station"),
        ("eth0/01:00:5e:00:00:01", "not the MAC of one station"),
    ],
)
def test_what_no_station_can_be_called_is_refused(text: str, said: str) -> None:
    with pytest.raises(click.BadParameter, match=said):
        config.Station().convert(text, None, None)
