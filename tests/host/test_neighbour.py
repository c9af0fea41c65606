"""Next hops and MACs on a real veth link.

ours: ve0 192.0.2.1/24 --- theirs: ve1 192.0.2.2 and 192.0.2.3; 198.51.100.0/24 lies behind .2
"""

from pathlib import Path

from tests.host.namespace import Namespace

RESOLVE = """
import json, os, time
from m13.host import neighbour, nic
index = nic.inspect("ve0").index
neighbour.resolve("192.0.2.1", index, 0)
found, before = [], len(os.listdir("/proc/self/fd"))
for ip in {addresses!r}:
    started = time.monotonic()
    answer = neighbour.resolve(ip, index, 0.5)
    found.append([answer.next_hop, answer.mac and answer.mac.hex(), time.monotonic() - started])
print(json.dumps([found, before, len(os.listdir("/proc/self/fd"))]))
"""

WATCH = """
import json, select, subprocess, time
from m13.host.neighbour import NeighbourWatch
from m13.host import nic
watch = NeighbourWatch(nic.inspect("ve0").index)

def changes_until(wanted):
    news, deadline = [], time.monotonic() + 5
    while time.monotonic() < deadline and wanted not in [n["next_hop"] + n["mac"] for n in news]:
        if select.select([watch], [], [], 0.5)[0]:
            for n in watch.handle():
                mac = (n.mac or b"").hex()
                news.append({"ip": n.ip, "next_hop": n.next_hop or "-", "mac": mac})
    return news

first = watch.watch("198.51.100.7")
print_me = [[first.next_hop, first.mac], changes_until("192.0.2.2020000000002")]
subprocess.run(["ip", "-n", "THEIRS", "link", "set", "ve1", "address", "02:00:00:00:00:22"])
print_me.append(changes_until("192.0.2.2020000000022"))
subprocess.run(["ip", "route", "replace", "198.51.100.0/24", "via", "192.0.2.3"])
print_me.append(changes_until("192.0.2.3020000000022"))
watch.forget("198.51.100.7")
subprocess.run(["ip", "route", "del", "198.51.100.0/24"])
print_me.append(watch.handle())
watch.close()
print(json.dumps(print_me))
"""


def _link(ours: Namespace, theirs: Namespace) -> None:
    ours.veth("ve0", "ve1", "192.0.2.1/24", peer_namespace=theirs.name)
    # Announce a new MAC by gratuitous ARP, as a fail-over gateway does.
    theirs.command("sysctl", "-qw", "net.ipv4.conf.all.arp_notify=1")
    theirs.ip("link", "set", "ve1", "address", "02:00:00:00:00:02")
    theirs.ip("addr", "add", "192.0.2.2/24", "dev", "ve1")
    theirs.ip("addr", "add", "192.0.2.3/24", "dev", "ve1")
    theirs.ip("link", "set", "ve1", "up")
    ours.ip("route", "add", "198.51.100.0/24", "via", "192.0.2.2")


def test_macs_are_resolved_by_route_without_sending_anything_ourselves(tmp_path: Path) -> None:
    with Namespace(tmp_path) as ours, Namespace(tmp_path) as theirs:
        _link(ours, theirs)
        asked = ["192.0.2.3", "198.51.100.7", "192.0.2.99", "203.0.113.1", "192.0.2.1"]
        found, *descriptors = ours.python(RESOLVE.format(addresses=asked))
    assert descriptors[0] == descriptors[1]
    mac = "020000000002"
    assert [row[:2] for row in found] == [
        ["192.0.2.3", mac],
        ["192.0.2.2", mac],
        ["192.0.2.99", None],  # nobody there
        [None, None],  # no route
        [None, None],  # ourselves
    ]
    assert max(row[2] for row in found) < 0.7


def test_a_watch_reports_new_macs_and_new_gateways(tmp_path: Path) -> None:
    with Namespace(tmp_path) as ours, Namespace(tmp_path) as theirs:
        _link(ours, theirs)
        first, resolved, moved, rerouted, forgotten = ours.python(
            WATCH.replace("THEIRS", theirs.name)
        )
    assert first == ["192.0.2.2", None]
    ip = "198.51.100.7"
    assert resolved == [{"ip": ip, "next_hop": "192.0.2.2", "mac": "020000000002"}]
    assert moved[-1] == {"ip": ip, "next_hop": "192.0.2.2", "mac": "020000000022"}
    assert all(news["next_hop"] == "192.0.2.3" for news in rerouted)
    assert rerouted[-1]["mac"] == "020000000022"
    assert forgotten == []
