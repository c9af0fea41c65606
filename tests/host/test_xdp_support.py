"""What the kernel tells about drivers and XDP."""

import os
import re
import socket
from pathlib import Path

import pytest

from m13.host import xdp_support
from m13.host.xdp_support import XdpSupport
from tests.host.namespace import Namespace

NONE = XdpSupport(native=False, zero_copy=False)


def test_loopback_has_no_native_xdp() -> None:
    if tuple(map(int, re.findall(r"\d+", os.uname().release)[:2])) < (6, 3):
        assert xdp_support.ask(socket.if_nametoindex("lo")) is None
    else:
        assert xdp_support.ask(socket.if_nametoindex("lo")) == NONE


def test_an_unknown_interface_has_no_answer() -> None:
    with pytest.raises(OSError, match="No such device"):
        xdp_support.ask(1 << 30)


@pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")
def test_a_veth_is_native_while_its_other_end_has_not_more_queues(tmp_path: Path) -> None:
    # more to send on there than to receive on here, and the driver refuses a program
    ask = "import json, socket\nfrom m13.host import xdp_support\n"
    ask += "found = [xdp_support.ask(socket.if_nametoindex(name)) for name in ('ve0', 've1')]\n"
    ask += (
        "print(json.dumps([support and [support.native, support.zero_copy] for support in found]))"
    )
    with Namespace(tmp_path) as namespace:
        namespace.ip(
            *("link", "add", "ve0", "numrxqueues", "1", "numtxqueues", "1", "type", "veth"),
            *("peer", "ve1", "numrxqueues", "4", "numtxqueues", "4"),
        )
        found = namespace.python(ask)
    if found != [None, None]:  # an old kernel
        assert found == [[False, False], [True, False]]
