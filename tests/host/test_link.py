"""Links, addresses and queueing against iproute2.

ours: lo, ve0 192.0.2.1/24 ── theirs: ve1
"""

import errno
import json
import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from m13.host import link
from m13.host.rtnetlink import attribute
from tests.host.namespace import Namespace

OBJECT = Path(__file__).parents[2] / "hub/steer.bpf.o"
UP, LOOPBACK, LOWER_UP = link.IFF_UP, link.IFF_LOOPBACK, link.IFF_LOWER_UP
SCOPES = {"global": 0, "site": 200, "link": 253, "host": 254}
# IFA_F_... of linux/if_addr.h; 1 is secondary of IPv4 and temporary of IPv6
FLAGS = {"secondary": 0x01, "nodad": 0x02, "dadfailed": 0x08, "deprecated": 0x20}
FLAGS |= {"tentative": 0x40, "noprefixroute": 0x200}
NEAR, FAR = bytes.fromhex("020000000001"), bytes.fromhex("020000000002")


@pytest.fixture
def theirs(tmp_path: Path) -> Iterator[Namespace]:
    with Namespace(tmp_path) as made:
        yield made


@pytest.fixture
def ours(tmp_path: Path, theirs: Namespace) -> Iterator[Namespace]:
    """This thread is in it."""
    with Namespace(tmp_path) as made:
        made.veth("ve0", "ve1", "192.0.2.1/24", peer_namespace=theirs.name)
        with made.inside():
            yield made


def look(namespace: Namespace, name: str) -> dict[str, Any]:
    return next(entry for entry in namespace.ip("link") if entry["ifname"] == name)


def index(name: str = "ve0") -> int:
    return socket.if_nametoindex(name)


def wait_for(namespace: Namespace, words: str) -> None:
    loop = f"until ip addr | grep -q '{words}'; do sleep .05; done"
    namespace.command("timeout", "5", "sh", "-c", loop)


def assert_refused(number: int, call: Callable[..., object], *arguments: object) -> None:
    with pytest.raises(OSError, match=os.strerror(number)) as refused:
        call(*arguments)
    assert refused.value.errno == number


def test_facts_of_every_link_are_those_iproute2_tells(ours: Namespace, theirs: Namespace) -> None:
    ours.ip("link", "add", "many", "mtu", "1400", "numrxqueues", "4", "type", "veth")
    ours.ip("tuntap", "add", "nomac", "mode", "tun")
    ours.ip("link", "set", "ve0", "mode", "dormant")  # has a carrier, and is not running yet
    theirs.ip("link", "set", "ve1", "up")
    listed = ours.ip("link")
    assert "LOWER_UP" in look(ours, "ve0")["flags"]
    assert len(listed) == 5
    for entry, found in zip(listed, link.all_links(), strict=True):
        assert (found.index, found.name) == (entry["ifindex"], entry["ifname"])
        assert (found.mtu, found.mac.hex(":")) == (entry["mtu"], entry.get("address", ""))
        assert found.rx_queues == entry["num_rx_queues"]
        assert found.is_up == ("UP" in entry["flags"])
        flags = {"UP": UP, "LOOPBACK": LOOPBACK, "LOWER_UP": LOWER_UP}
        seen = {name for name, bit in flags.items() if found.flags & bit}
        assert seen == flags.keys() & set(entry["flags"])
        assert not found.has_xdp
        assert link.find(found.index) == link.find_name(found.name) == found
    ours.ip("link", "property", "add", "dev", "ve0", "altname", "another")
    assert link.find_name("another") == link.find_name("ve0")


@pytest.mark.skipif(not OBJECT.exists(), reason="hub/steer.bpf.o is not built (clang)")
@pytest.mark.parametrize("mode", ["xdpdrv", "xdpgeneric"])
def test_an_xdp_program_is_noticed(ours: Namespace, mode: str) -> None:
    ours.command("ip", "link", "set", "ve0", mode, "object", str(OBJECT), "section", "xdp")
    assert [entry.name for entry in link.all_links() if entry.has_xdp] == ["ve0"]
    ours.command("ip", "link", "set", "ve0", mode, "off")
    assert not link.find_name("ve0").has_xdp


@pytest.mark.usefixtures("ours")
@pytest.mark.parametrize(
    ("call", "values"),
    [
        *((call, ()) for call in (link.find, link.set_up, link.forgo_link_local6)),
        *((link.queue_fairly, ()), (link.set_mtu, (1400,)), (link.set_queue_packets, (1,))),
        *((change, ("192.0.2.9", 24)) for change in (link.add_address, link.remove_address)),
    ],
)
def test_an_unknown_index_is_no_device(call: Callable[..., object], values: tuple[Any]) -> None:
    assert_refused(errno.ENODEV, call, 4711, *values)
    assert link.addresses(4711) == []


@pytest.mark.usefixtures("ours")
@pytest.mark.parametrize("name", ["nosuch0", "", "ve"])
def test_an_unknown_name_is_no_device(name: str) -> None:
    assert_refused(errno.ENODEV, link.find_name, name)


@pytest.mark.parametrize(
    ("change", "values", "name", "seen"),
    [
        (link.set_mtu, (1300,), "mtu", 1300),
        (link.set_queue_packets, (77,), "txqlen", 77),
        (link.forgo_link_local6, (), "inet6_addr_gen_mode", "none"),
    ],
)
def test_one_setting_is_changed_and_no_other(
    ours: Namespace, change: Callable[..., None], values: tuple[int], name: str, seen: object
) -> None:
    before = ours.ip("link")
    change(index(), *values)
    after = ours.ip("link")
    assert look(ours, "ve0")[name] == seen
    for old, new in zip(before, after, strict=True):
        expected = {name: seen} if old["ifname"] == "ve0" else {}
        # the kernel works out in its own time whether a link operates
        assert new == {**old, **expected, "operstate": new["operstate"]}


def test_a_link_goes_down_and_up(ours: Namespace, theirs: Namespace) -> None:
    link.set_up(index(), False)
    assert not {"UP", "LOWER_UP"} & set(look(ours, "ve0")["flags"])
    link.set_up(index())
    assert {"UP", "NO-CARRIER"} <= set(look(ours, "ve0")["flags"])
    theirs.ip("link", "set", "ve1", "up")
    assert {"UP", "LOWER_UP"} <= set(look(ours, "ve0")["flags"])
    assert link.find_name("ve0").flags & LOWER_UP


def test_without_an_address_of_its_own_making_there_is_none(ours: Namespace) -> None:
    ours.ip("link", "add", "one", "type", "veth", "peer", "two")
    link.forgo_link_local6(index("one"))
    for name in ("one", "two"):
        link.set_up(index(name))
    wait_for(ours, "fe80:.* scope link")
    made = {name: [own.scope for own in link.addresses(index(name))] for name in ("one", "two")}
    assert made == {"one": [], "two": [SCOPES["link"]]}


def test_queueing_is_fair_where_the_kernel_can(
    ours: Namespace, theirs: Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool = ["ip", "netns", "exec", theirs.name, "tc", "qdisc", "add", "dev", "ve1", "root", "fq"]
    kind = "fq"
    if subprocess.run(tool, capture_output=True).returncode != 0:
        assert_refused(errno.ENOENT, link.queue_fairly, index())
        kind = "pfifo"  # which every kernel has, to see the rest of the order
        monkeypatch.setattr(link, "attribute", lambda number, _: attribute(number, kind))
    for _ in range(2):
        link.queue_fairly(index())
        (seen,) = json.loads(ours.command("tc", "-json", "qdisc", "show", "dev", "ve0"))
        assert (seen["kind"], seen["root"]) == (kind, True)


def as_iproute2_tells(namespace: Namespace) -> list[tuple[Any, ...]]:
    found = []
    for entry in namespace.ip("addr"):
        for own in entry["addr_info"]:
            flags = {name for name in FLAGS if own.get(name)}
            place = (own["family"], own["local"], own["prefixlen"], SCOPES[own["scope"]])
            found.append((entry["ifindex"], *place, flags))
    return sorted(found, key=str)


def as_found(*arguments: int) -> list[tuple[Any, ...]]:
    families = {2: "inet", 10: "inet6"}
    found = []
    for own in link.addresses(*arguments):
        flags = {name for name, bit in FLAGS.items() if own.flags & bit}
        place = (families[own.family], own.address, own.prefix_bits, own.scope)
        found.append((own.interface, *place, flags))
    return sorted(found, key=str)


def test_addresses_are_those_iproute2_tells(ours: Namespace) -> None:
    for words in (
        ("192.0.2.9/24",),  # secondary
        ("10.0.0.1", "peer", "10.0.0.2/32"),
        ("198.51.100.1/25", "scope", "link", "noprefixroute"),
        ("2001:db8::1/64", "nodad", "noprefixroute"),
        ("2001:db8::2", "peer", "2001:db8:1::2/128", "nodad"),
        ("fec0::1/64", "preferred_lft", "0", "nodad"),
        ("fe80::7/64", "nodad"),  # else they are tentative until the kernel gets around to them
    ):
        ours.ip("addr", "add", *words, "dev", "ve0")
    told = as_iproute2_tells(ours)
    assert len(told) == 10  # with lo's two and ve0's first
    assert set().union(*(flags for *_, flags in told)) == set(FLAGS) - {"tentative", "dadfailed"}
    assert as_found() == told
    assert as_found(index()) == [entry for entry in told if entry[0] == index()]
    for number, family in ((2, "inet"), (10, "inet6")):
        assert as_found(1, number) == [entry for entry in told if entry[:2] == (1, family)]


def test_an_address_that_somebody_else_has_says_so(ours: Namespace, theirs: Namespace) -> None:
    for namespace, name in ((theirs, "ve1"), (ours, "ve0")):
        namespace.command("sysctl", "-qw", f"net.ipv6.conf.{name}.accept_dad=1")
        namespace.ip("link", "set", name, "up")
    theirs.ip("addr", "add", "2001:db8::1/64", "dev", "ve1", "nodad")
    link.add_address(index(), "2001:db8::1", 64)
    wait_for(ours, "dadfailed")
    for found in (as_found(), as_iproute2_tells(ours)):
        (flags,) = [flags for _, _, address, *_, flags in found if address == "2001:db8::1"]
        assert flags == {"dadfailed", "tentative"}


@pytest.mark.parametrize(("address", "bits"), [("203.0.113.7", 25), ("2001:db8:2::7", 63)])
def test_an_address_is_added_once_and_removed_once(
    ours: Namespace, address: str, bits: int
) -> None:
    before = as_iproute2_tells(ours)
    assert_refused(errno.EADDRNOTAVAIL, link.remove_address, index(), address, bits)
    link.add_address(index(), address, bits)
    (added,) = [entry for entry in as_iproute2_tells(ours) if entry not in before]
    assert added[2:5] == (address, bits, SCOPES["global"])
    assert_refused(errno.EEXIST, link.add_address, index(), address, bits)
    link.remove_address(index(), address, bits)
    assert as_iproute2_tells(ours) == before
    assert_refused(errno.EADDRNOTAVAIL, link.remove_address, index(), address, bits)


@pytest.mark.parametrize(
    ("address", "peer", "bits"),
    [("10.0.0.1", "10.0.0.2", 32), ("2001:db8::2", "2001:db8:1::2", 128)],
)
def test_an_address_with_a_peer_goes_when_both_are_named(
    ours: Namespace, address: str, peer: str, bits: int
) -> None:
    before = as_iproute2_tells(ours)
    ours.ip("addr", "add", address, "peer", f"{peer}/{bits}", "dev", "ve0", "nodad")
    (found,) = [own for own in link.addresses(index()) if own.address == address]
    assert found.peer == peer
    if found.family == socket.AF_INET:
        assert_refused(errno.EADDRNOTAVAIL, link.remove_address, index(), address, bits)
    link.remove_address(index(), address, bits, peer)
    assert as_iproute2_tells(ours) == before


@pytest.mark.usefixtures("ours")
@pytest.mark.parametrize("name", ["lo\0x", "\udcff", "", "a" * 99, "ve 0"])
def test_no_link_is_found_by_another_name(name: str) -> None:
    with pytest.raises(OSError, match=r"No such device|Numerical result|Invalid argument"):
        link.find_name(name)


@pytest.mark.parametrize("is_far_away", [True, False])
def test_a_veth_pair_is_made_as_described_and_down(
    ours: Namespace, theirs: Namespace, is_far_away: bool
) -> None:
    near, far = link.description("near", NEAR, 1300), link.description("far", FAR, 1400)
    with open(f"/run/netns/{theirs.name}") as there:
        link.make_veth(near, far, there.fileno() if is_far_away else None)
    assert_refused(errno.EEXIST, link.make_veth, near, link.description("other"))
    other = theirs if is_far_away else ours
    for namespace, name, mac, mtu in ((ours, "near", NEAR, 1300), (other, "far", FAR, 1400)):
        seen = look(namespace, name)
        assert (seen["address"], seen["mtu"]) == (mac.hex(":"), mtu)
        assert seen["linkinfo"] == {"info_kind": "veth"}
        assert "UP" not in seen["flags"]
    assert {"far", "other"} & {entry.name for entry in link.all_links()} == (
        set() if is_far_away else {"far"}
    )


def test_a_pair_described_by_names_alone_is_as_the_kernel_likes(ours: Namespace) -> None:
    link.make_veth(link.description("near"), link.description("far"))
    near, far = look(ours, "near"), look(ours, "far")
    assert (near["link"], far["link"]) == ("far", "near")
    assert near["mtu"] == far["mtu"] == look(ours, "ve0")["mtu"]
    assert near["address"] != far["address"]
