"""Which way a table offers, among routes that cannot be followed.

ours: ve0 192.0.2.1/24 ── ve1, likewise ours
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from m13.host import routes
from m13.host.route_table import TABLE_MAIN
from tests.host.namespace import Namespace

NOBODY = 0  # no interface's index


@pytest.fixture
def ours(tmp_path: Path) -> Iterator[Namespace]:
    """This thread is in it."""
    with Namespace(tmp_path) as made:
        made.ip("link", "add", "ve0", "type", "veth", "peer", "ve1")
        made.ip("link", "set", "ve1", "up")
        made.ip("link", "set", "ve0", "up")
        made.ip("addr", "add", "192.0.2.1/24", "dev", "ve0")
        made.ip("route", "add", "default", "via", "192.0.2.2")
        with made.inside():
            yield made


@pytest.mark.parametrize(
    ("commands", "gateway"),
    [
        ([], "192.0.2.2"),
        (["route add 10.9.0.0/16 via 192.0.2.9"], "192.0.2.9"),
        (["route add 10.9.0.0/16 via 192.0.2.8 metric 9", "route add 10.9.0.0/16 via 192.0.2.9"],
         "192.0.2.9"),
        (["route add 10.9.0.0/16 via 192.0.2.9 proto 213"], "192.0.2.2"),
        (["route add unreachable 10.9.0.0/16"], "192.0.2.2"),
        (["route add 10.9.0.0/16 via inet6 fe80::2 dev ve0"], "192.0.2.2"),
        (["nexthop add id 5 via 192.0.2.9 dev ve0", "route add 10.9.0.0/16 nhid 5"], "192.0.2.2"),
    ],
)  # fmt: skip
def test_the_best_way_is_one_that_can_be_followed(
    ours: Namespace, commands: list[str], gateway: str
) -> None:
    # a route by a nexthop object tells nothing but the object's number
    ours.command("sysctl", "-qw", "net.ipv4.nexthop_compat_mode=0")
    for command in commands:
        ours.ip(*command.split())
    found = routes.best("10.9.1.1", TABLE_MAIN, NOBODY)
    assert found
    assert found.gateway == gateway


def test_our_own_interface_is_no_way(ours: Namespace) -> None:
    index = ours.ip("link", "show", "ve0")[0]["ifindex"]
    assert routes.best("10.9.1.1", TABLE_MAIN, index) is None
