"""The hub's list of nodes: what is admitted, at which address, and how mistakes are told."""

from ipaddress import IPv4Address, IPv4Interface

import pytest

from hub import roster
from m13.errors import ConfigurationError
from m13.identity import format_fingerprint

SUBNET = IPv4Interface("10.13.0.1/24")
KEYS = [format_fingerprint(bytes([number]) * 32) for number in range(9)]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "nodes.toml"


def entry(name, key, address=None):
    line = f'address = "{address}"\n' if address else ""
    return f'[[node]]\nname = "{name}"\nkey = "{key}"\n{line}\n'


def test_free_addresses_are_given_in_file_order_around_those_taken(path):
    path.write_text(
        entry("a", KEYS[0])
        + entry("b", KEYS[1], "10.13.0.3")
        + entry("c", KEYS[2])
        + entry("d", KEYS[3], "10.13.0.254")
    )
    nodes = roster.load(path, SUBNET)
    assert [(node.name, str(node.address)) for node in nodes] == [
        ("a", "10.13.0.2"),
        ("b", "10.13.0.3"),
        ("c", "10.13.0.4"),
        ("d", "10.13.0.254"),
    ]
    assert nodes[1].entry() == {
        "name": "b", "key": KEYS[1], "address": "10.13.0.3", "prefix": 24
    }  # fmt: skip


def test_appending_a_node_changes_nobodys_address(path):
    path.write_text(entry("a", KEYS[0]) + entry("b", KEYS[1]))
    before = roster.load(path, SUBNET)
    path.write_text(path.read_text() + entry("c", KEYS[2]))
    assert roster.load(path, SUBNET)[:2] == before


def test_hub_address_is_never_given_away(path):
    path.write_text(entry("a", KEYS[0]) + entry("b", KEYS[1]))
    nodes = roster.load(path, IPv4Interface("10.13.0.2/24"))
    assert [node.address for node in nodes] == [IPv4Address("10.13.0.1"), IPv4Address("10.13.0.3")]


def test_empty_file_admits_nobody(path):
    path.write_text("# none yet\n")
    assert roster.load(path, SUBNET) == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[[node]\n", "line 1"),
        ("nodes = 1\n", r"only \[\[node\]\]"),
        ("node = 1\n", r"only \[\[node\]\]"),
        ("node = [1]\n", r"must be a \[\[node\]\] table"),
        ('[[node]]\nname = "a"\n', "line 1, node 1: key must be"),
        (entry("a", "SHA256:short"), "key must be"),
        (entry("", KEYS[0]), "name must be"),
        (entry("-a", KEYS[0]), "name must be"),
        (entry("a b", KEYS[0]), "name must be"),
        (entry("é", KEYS[0]), "name must be"),
        (entry("a" * 32, KEYS[0]), "name must be"),
        (f'[[node]]\nname = 1\nkey = "{KEYS[0]}"\n', "name must be"),
        (entry("a", KEYS[0]) + 'adress = "x"\n', "unknown adress"),
        (entry("a", KEYS[0]) + entry("a", KEYS[1]), "line 5, node 2: .* already that of 'a'"),
        (entry("a", KEYS[0]) + entry("b", KEYS[0]), "line 5, node 2: .* already that of 'a'"),
        (entry("a", KEYS[0], "10.14.0.2"), "outside 10.13.0.0/24"),
        (entry("a", KEYS[0], "10.13.0.1"), "the hub's own"),
        (entry("a", KEYS[0], "10.13.0.0"), "the subnet's own"),
        (entry("a", KEYS[0], "10.13.0.255"), "the broadcast address"),
        (entry("a", KEYS[0], "10.13.0.x"), "not an IPv4 address"),
        (entry("a", KEYS[0], "2001:db8::1"), "not an IPv4 address"),
        (entry("a", KEYS[0]) + "address = 168624130\n", "not an IPv4 address"),
        (
            entry("a", KEYS[0], "10.13.0.9") + entry("b", KEYS[1], "10.13.0.9"),
            "line 6, node 2: 10.13.0.9 is already that of node 1",
        ),
    ],
)
def test_mistakes_are_told_with_their_place(path, text, said):
    path.write_text(text)
    with pytest.raises(ConfigurationError, match=said) as caught:
        roster.load(path, SUBNET)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_full_subnet_is_told(path):
    path.write_text("".join(entry(f"n{number}", KEYS[number]) for number in range(2)))
    with pytest.raises(ConfigurationError, match="no free address left"):
        roster.load(path, IPv4Interface("10.13.0.1/30"))


@pytest.mark.parametrize(("count", "admitted"), [(256, True), (257, False)])
def test_a_hub_serves_256_nodes(path, count, admitted):
    keys = [format_fingerprint(number.to_bytes(32)) for number in range(count)]
    path.write_text("".join(entry(f"n{number}", key) for number, key in enumerate(keys)))
    if admitted:
        assert len(roster.load(path, IPv4Interface("10.13.0.1/16"))) == count
        return
    with pytest.raises(ConfigurationError, match="257 nodes, a hub serves 256 at most"):
        roster.load(path, IPv4Interface("10.13.0.1/16"))


def test_missing_and_unreadable_files_are_told(path):
    with pytest.raises(ConfigurationError, match="no list of nodes"):
        roster.load(path, SUBNET)
    path.mkdir()
    with pytest.raises(ConfigurationError, match="cannot read"):
        roster.load(path, SUBNET)
    path.rmdir()
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigurationError, match="utf-8"):
        roster.load(path, SUBNET)
