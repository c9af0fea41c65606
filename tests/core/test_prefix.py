"""The prefix table against a list of networks of the standard library."""

import ipaddress
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from native.prefix import NONE, PrefixTable

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address
ROOM = 4096


def network(address: Address, bits: int) -> Network:
    return ipaddress.ip_network(f"{address}/{bits}", strict=False)


def of(prefix: Network) -> tuple[bytes, int]:
    return prefix.network_address.packed, prefix.prefixlen


def longest(model: dict[Network, int], address: Address) -> int:
    around = [prefix for prefix in model if address in prefix]
    return model[max(around, key=lambda prefix: prefix.prefixlen)] if around else NONE


LENGTHS = [(version, bits) for version, most in ((4, 32), (6, 128)) for bits in range(most + 1)]


@pytest.mark.parametrize(("version", "bits"), LENGTHS)
def test_every_length_matches_what_is_in_it_and_nothing_beside(version: int, bits: int) -> None:
    kind = ipaddress.IPv4Address if version == 4 else ipaddress.IPv6Address
    top = 2 ** (32 if version == 4 else 128) - 1
    dice = random.Random(bits)
    table = PrefixTable(1)
    prefix = network(kind(dice.randint(0, top)), bits)
    assert table.set(*of(prefix), 5)
    first, last = int(prefix.network_address), int(prefix.broadcast_address)
    for inside in (first, last, dice.randint(first, last)):
        assert table.find(kind(inside).packed) == 5
    for outside in {(first - 1) % (top + 1), (last + 1) % (top + 1)} - {first, last}:
        assert table.find(kind(outside).packed) == (5 if kind(outside) in prefix else NONE)


def test_the_longest_prefix_wins_whatever_the_order() -> None:
    nested = [ipaddress.ip_network(f"10.0.0.0/{bits}") for bits in (8, 16, 24, 32)]
    for order in (nested, nested[::-1]):
        table = PrefixTable(8)
        for prefix in order:
            table.set(*of(prefix), prefix.prefixlen)
        for address, bits in (
            ("10.0.0.0", 32),
            ("10.0.0.1", 24),
            ("10.0.1.1", 16),
            ("10.1.1.1", 8),
            ("11.1.1.1", NONE),
        ):
            assert table.find(ipaddress.ip_address(address).packed) == bits


def test_the_two_families_do_not_see_each_other() -> None:
    table = PrefixTable(2)
    table.set(bytes(4), 0, 4)
    assert table.find(bytes(16)) == NONE
    table.set(bytes(16), 0, 6)
    assert (table.find(b"\x0a\x0d\x00\x02"), table.find(b"\xff" * 16)) == (4, 6)


def test_a_table_holds_as_many_as_it_was_made_for_and_loses_none_by_deletion() -> None:
    dice = random.Random(7)
    hosts = dice.sample(range(2**32), ROOM)
    table = PrefixTable(ROOM)
    keys = [(ipaddress.IPv4Address(host).packed, 32) for host in hosts]
    for slot, key in enumerate(keys):
        assert table.set(*key, slot)
    assert len(table) == ROOM
    order = list(range(ROOM))
    dice.shuffle(order)
    for count, slot in enumerate(order):
        table.remove(*keys[slot], slot)
        assert table.find(keys[slot][0]) == NONE
        if count % 512 == 0:
            assert all(table.find(keys[other][0]) == other for other in order[count + 1 :])
    assert len(table) == 0


def test_a_full_table_refuses_and_still_replaces() -> None:
    table = PrefixTable(3)
    hosts = [bytes([10, 0, 0, number]) for number in range(5)]
    assert [table.set(host, 32, 1) for host in hosts] == [True, True, True, False, False]
    assert table.set(hosts[0], 32, 9)
    assert (table.find(hosts[0]), len(table)) == (9, 3)


def test_another_owners_prefix_stays() -> None:
    table = PrefixTable(4)
    table.set(bytes([10, 0, 0, 0]), 8, 1)
    table.remove(bytes([10, 0, 0, 0]), 8, 2)
    table.remove(bytes([10, 0, 0, 0]), 9, 1)
    assert table.find(bytes([10, 1, 2, 3])) == 1


@pytest.mark.parametrize(
    ("address", "bits"), [(bytes(4), 33), (bytes(16), 129), (b"\x0a\0\0\1", 31), (bytes(5), 8)]
)
def test_what_is_no_prefix_is_refused(address: bytes, bits: int) -> None:
    with pytest.raises(ValueError, match=r"prefix|bytes"):
        PrefixTable(4).set(address, bits, 1)


# few addresses, so that prefixes lie in each other
addresses = st.one_of(
    st.integers(0, 2**32 - 1).map(lambda value: ipaddress.IPv4Address(value & 0x0F0F0003)),
    st.integers(0, 2**128 - 1).map(
        lambda value: ipaddress.IPv6Address(value & (0x3 << 126 | 0x7 << 61 | 0x3))
    ),
)
step = st.tuples(st.booleans(), addresses, st.integers(0, 128), st.integers(0, 3))


@settings(max_examples=200, deadline=None)
@given(steps=st.lists(step, max_size=60))
def test_table_behaves_like_a_list_of_networks(steps: list) -> None:
    table, model = PrefixTable(64), {}
    for is_added, address, bits, slot in steps:
        prefix = network(address, min(bits, address.max_prefixlen))
        if is_added:
            assert table.set(*of(prefix), slot)
            model[prefix] = slot
        else:
            table.remove(*of(prefix), slot)
            if model.get(prefix) == slot:
                del model[prefix]
        assert len(table) == len(model)
        assert table.holder(*of(prefix)) == model.get(prefix, NONE)
    for _, address, _, _ in steps:
        assert table.find(address.packed) == longest(model, address)
