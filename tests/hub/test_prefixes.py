"""A hub's IPv6 subnet and the networks behind its nodes, as the roster gives them."""

import ipaddress
from pathlib import Path

import pytest

from hub import prefixes, roster
from m13.errors import ConfigurationError, UsageError

HUB = ipaddress.IPv4Interface("10.13.0.1/24")
KEYS = [f"SHA256:{letter * 42}A" for letter in "BCD"]


def load(tmp_path: Path, *entries: str) -> list[roster.Node]:
    path = tmp_path / "nodes.toml"
    path.write_text(
        "".join(
            f'[[node]]\nname = "n{number}"\nkey = "{key}"\n{entry}\n'
            for number, (key, entry) in enumerate(zip(KEYS, entries, strict=False))
        )
    )
    return roster.load(path, HUB)


def test_the_local_subnet_follows_from_the_key_alone() -> None:
    subnets = [prefixes.local_subnet6(key) for key in KEYS]
    assert len(set(subnets)) == len(KEYS)
    assert subnets == [prefixes.local_subnet6(key) for key in KEYS]
    for subnet in subnets:
        assert subnet.prefixlen == 64
        assert subnet.subnet_of(ipaddress.IPv6Network("fd00::/8"))
        assert int(subnet.network_address) >> 64 & 0xFFFF == 0


def test_the_hub_has_its_ipv4_host_number() -> None:
    subnet = ipaddress.IPv6Network("2001:db8::/64")
    hub = ipaddress.IPv4Interface("10.0.1.7/22")
    assert str(prefixes.hub_interface6(subnet, hub)) == "2001:db8::107/64"


@pytest.mark.parametrize("text", ["", "10.0.0.0/8", "2001:db8::1/64", "2001:db8::/97", "ff00::/64"])
def test_what_is_no_subnet_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--subnet6"):
        prefixes.parse_subnet6(text)


def test_off_is_no_subnet() -> None:
    assert prefixes.parse_subnet6("off") is None


def test_entries_carry_what_was_listed(tmp_path: Path) -> None:
    nodes = load(
        tmp_path,
        'address6 = "fd00::1:0"\nallowed_ips = ["192.168.7.0/24", "2001:db8:7::/48"]',
        "",
    )
    assert nodes[0].entry()["address6"] == "fd00::1:0"
    assert nodes[0].entry()["prefixes"] == ["192.168.7.0/24", "2001:db8:7::/48"]
    assert nodes[1].entry().keys() == {"name", "key", "address", "prefix"}


WRONG = {
    "host bits": ('allowed_ips = ["192.168.7.1/24"]', "host bits"),
    "no list": ('allowed_ips = "192.168.7.0/24"', "list"),
    "no prefix": ('allowed_ips = ["lan"]', "lan"),
    "everything": ('allowed_ips = ["0.0.0.0/0"]', "everybody"),
    "the tunnel itself": ('allowed_ips = ["10.0.0.0/8"]', "overlaps 10.13.0.0/24"),
    "itself": ('allowed_ips = ["192.168.0.0/16", "192.168.7.0/24"]', "overlaps"),
    "too many": (f"allowed_ips = {[f'10.{n}.0.0/16' for n in range(20, 37)]}", "16 at most"),
    "multicast": ('allowed_ips = ["ff00::/16"]', "routed"),
    "no address": ('address6 = "10.13.0.9"', "not an IPv6 address"),
    "link local": ('address6 = "fe80::9"', "cannot be"),
    "a host number of IPv4": ('address6 = "fd00::ff"', "above ff"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_is_refused_in_one_line(tmp_path: Path, case: str) -> None:
    entry, said = WRONG[case]
    with pytest.raises(ConfigurationError) as refusal:
        load(tmp_path, entry)
    assert said in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ('allowed_ips = ["192.168.0.0/16"]', 'allowed_ips = ["192.168.7.0/24"]'),
        ('allowed_ips = ["2001:db8::/32"]', 'allowed_ips = ["2001:db8::/32"]'),
        ('allowed_ips = ["fd00::/16"]', 'address6 = "fd00::1:0"'),
        ('address6 = "fd00::1:0"', 'address6 = "fd00::1:0"'),
    ],
)
def test_what_two_nodes_claim_is_refused(tmp_path: Path, one: str, other: str) -> None:
    with pytest.raises(ConfigurationError, match=r"of 'n1' overlaps .* of 'n0'"):
        load(tmp_path, one, other)
