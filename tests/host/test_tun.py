"""The TUN device, as iproute2 sees it."""

from pathlib import Path

import pytest

from m13.errors import UsageError
from m13.host import tun
from tests.host.namespace import Namespace

MAKE = """
from m13.host.tun import Tun
device = Tun("m13t0", 1380)
device.add_address("10.13.0.1", 24)
device.up()
"""


def test_a_tun_appears_and_goes_without_a_trace(tmp_path: Path) -> None:
    with Namespace(tmp_path) as namespace:
        before = namespace.picture()
        process = namespace.owner(MAKE)
        link = namespace.ip("addr", "show", "m13t0")[0]
        assert (link["mtu"], link["linkinfo"]["info_data"]["type"]) == (1380, "tun")
        assert link["txqlen"] == tun.QUEUE_PACKETS
        assert link["linkinfo"]["info_data"]["pi"] is False
        assert link["linkinfo"]["info_data"]["persist"] is False
        assert "UP" in link["flags"]
        # No IPv6 of its own, so nothing but our packets ever comes out of it.
        assert [a["local"] for a in link["addr_info"]] == ["10.13.0.1"]
        namespace.kill(process)
        assert namespace.picture() == before


def test_another_address_replaces_the_first_and_routes_stay(tmp_path: Path) -> None:
    body = """
    device.add_address("10.13.0.1", 24)  # once more is no error
    from m13.host import routes
    routes.add(journal, "0.0.0.0/1", interface=device.ifindex)
    device.replace_address("10.13.0.9", 24)
    device.replace_address("10.14.0.9", 16)
    import subprocess
    subprocess.run(["ip", "addr", "add", "10.7.0.1", "peer", "10.7.0.2/32", "dev", "m13t0"])
    device.replace_address("10.14.0.9", 16)
    """
    with Namespace(tmp_path) as namespace:
        namespace.owner(MAKE + "\n".join(line.strip() for line in body.splitlines()))
        addresses = namespace.ip("addr", "show", "m13t0")[0]["addr_info"]
        assert [(a["local"], a["prefixlen"]) for a in addresses] == [("10.14.0.9", 16)]
        routes = {route["dst"] for route in namespace.ip("route")}
        assert routes == {"0.0.0.0/1", "10.14.0.0/16"}


@pytest.mark.parametrize(
    "command",
    [
        ("tuntap", "add", "taken", "mode", "tun"),
        ("tuntap", "add", "taken", "mode", "tap"),
        ("link", "add", "taken", "type", "veth", "peer", "other"),
    ],
)
def test_a_name_in_use_is_refused_and_left_alone(tmp_path: Path, command: tuple[str]) -> None:
    with Namespace(tmp_path) as namespace:
        namespace.ip(*command)
        before = namespace.picture()
        said = namespace.python("""
            import json
            from m13.errors import UsageError
            from m13.host.tun import Tun
            try:
                Tun("taken", 1400)
            except UsageError as error:
                print(json.dumps(str(error)))
        """)
        assert said == "interface taken exists already: choose another --tun-name"
        assert namespace.picture() == before


BAD_NAMES = [
    *("", "a" * 16, "a/b", "tun%d", "a b", "a:1", ".", "..", "a\n", "all", "default"),
    *('a"b', "a;b", "a*", "a{b", "$a", "a\\", "é", "a\x00"),
]


@pytest.mark.parametrize("name", BAD_NAMES)
def test_names_that_mean_more_than_themselves_somewhere_are_refused(name: str) -> None:
    with pytest.raises(UsageError):
        tun.check_name(name)


@pytest.mark.parametrize("name", ["a", "m13tun0", "A_b-c.9", "a" * 15])
def test_plain_names_are_taken(name: str) -> None:
    tun.check_name(name)


def test_bad_mtus_close_what_was_opened(tmp_path: Path) -> None:
    with Namespace(tmp_path) as namespace:
        counts = namespace.python("""
            import json, os
            from m13.errors import UsageError
            from m13.host.tun import Tun
            def descriptors(): return len(os.listdir("/proc/self/fd"))
            before = descriptors()
            for mtu in (0, 575, 65536):
                try:
                    Tun("m13t0", mtu)
                except UsageError:
                    pass
            with Tun("m13t0", 1400) as device:
                note = device.use_fair_queueing()
                device.set_mtu(1300)
                device.up()
                device.down()
            device.close()
            print(json.dumps([before, descriptors(), note]))
        """)
        assert counts[0] == counts[1]
        assert counts[2] is None or counts[2].startswith("no fq on m13t0")
