"""Interface facts and settings, on a veth pair (its driver has channels and VLAN offload)."""

from pathlib import Path

import pytest

from m13.errors import UsageError
from m13.host import nic
from tests.host.namespace import Namespace

LOOK = """
import json
from m13.host import nic
from pyroute2.ethtool.ioctl import IoctlEthtool
ethtool = IoctlEthtool("ve0")
print(json.dumps([nic.inspect("ve0").rx_queues, ethtool.get_features()["rx-vlan-hw-parse"],
                  ethtool.get_channels().tx_count]))
"""
PREPARE = "from m13.host import nic\nassert nic.prepare(journal, 've0') == []"


def _make_veth(namespace: Namespace) -> None:
    namespace.ip(
        *("link", "add", "ve0", "numrxqueues", "4", "numtxqueues", "4"),
        *("address", "02:00:00:00:00:07", "mtu", "1400", "type", "veth"),
        *("peer", "ve1", "numrxqueues", "4", "numtxqueues", "4"),
    )
    namespace.ip("addr", "add", "192.0.2.1/24", "dev", "ve0")
    namespace.ip("addr", "add", "192.0.2.9/32", "dev", "ve0")


def test_facts_are_those_of_the_interface(tmp_path: Path) -> None:
    with Namespace(tmp_path) as namespace:
        _make_veth(namespace)
        facts = namespace.python("""
            import dataclasses, json
            from m13.host import nic
            found = dataclasses.asdict(nic.inspect("ve0"))
            print(json.dumps({**found, "mac": found["mac"].hex()}))
        """)
        index = namespace.ip("link", "show", "ve0")[0]["ifindex"]
    assert facts == {
        "name": "ve0",
        "index": index,
        "is_up": False,
        "is_loopback": False,
        "mac": "020000000007",
        "mtu": 1400,
        "addresses": ["192.0.2.1", "192.0.2.9"],
        "driver": "veth",
        "rx_queues": 4,
    }


def test_an_unknown_interface_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match=r"no interface 'nosuch0'; there are: .*lo"):
        nic.inspect("nosuch0")


@pytest.mark.parametrize("ending", ["leave", "kill"])
def test_channels_and_vlan_offload_are_changed_and_restored(tmp_path: Path, ending: str) -> None:
    with Namespace(tmp_path) as namespace:
        _make_veth(namespace)
        before, look_before = namespace.picture(), namespace.python(LOOK)
        assert look_before == [4, True, 4]
        process = namespace.owner(PREPARE)
        assert namespace.python(LOOK) == [1, False, 4]
        getattr(namespace, ending)(process)
        if ending == "kill":
            namespace.leave(namespace.owner("pass"))
        assert namespace.python(LOOK) == look_before
        assert namespace.picture() == before


def test_a_driver_without_the_settings_gives_notes(tmp_path: Path) -> None:
    body = """
    from m13.host import nic
    print(*nic.prepare(journal, "lo"), file=sys.stderr, sep="\\n")
    """
    with Namespace(tmp_path) as namespace:
        before = namespace.picture()
        said = namespace.leave(namespace.owner(body))
        assert said.startswith("lo: channels cannot be read: the driver does not support it")
        assert namespace.picture() == before


def test_an_interface_that_vanished_is_no_error_at_exit(tmp_path: Path) -> None:
    with Namespace(tmp_path) as namespace:
        _make_veth(namespace)
        process = namespace.owner(PREPARE)
        namespace.ip("link", "del", "ve0")
        assert namespace.leave(process) == ""
