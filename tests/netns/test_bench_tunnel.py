"""`m13 bench` beside a running tunnel: it measures through it from both ends, and it goes on."""

import json
from typing import Any

from bench.bed import HUB_ADDRESS
from tests.netns.conftest import Tunnel
from tests.test_bench_command import BENCH, check_schema, keys_of, run

NODE_ADDRESS = "192.0.2.2"


def test_tunnel_is_measured_from_both_ends_and_goes_on(tunnel: Tunnel) -> None:
    bed = tunnel.bed
    session = tunnel.node.snapshot()["peers"][0]["handshakes"]
    for role, space, target, outer, extra in (
        ("node", bed.node, "10.13.0.1", HUB_ADDRESS, ("--hub", f"{HUB_ADDRESS}:443")),
        ("hub", bed.hub, "10.13.0.2", NODE_ADDRESS, ()),
    ):
        with space.inside():
            answer = run(*BENCH, "--seconds", "3", "--json", *extra)
        assert (answer.returncode, answer.stderr) == (0, "")
        report = json.loads(answer.stdout)
        check_schema(report)
        check_tunnel(report, role, target, outer)
    after = tunnel.node.snapshot()
    assert (after["state"], after["peers"][0]["handshakes"]) == ("Established", session)


def test_another_hub_than_the_one_asked_for_is_not_measured(tunnel: Tunnel) -> None:
    with tunnel.bed.node.inside():
        answer = run(*BENCH, "--seconds", "0.5", "--json", "--hub", "192.0.2.77")
    report = json.loads(answer.stdout)
    assert report["tunnel"] is None
    assert "no m13-node here has a session with 192.0.2.77:443" in answer.stdout


def check_tunnel(report: dict[str, Any], role: str, target: str, outer: str) -> None:
    found = report["tunnel"]
    place = replace_unknown(found["tunnel"])
    assert place == {"role": role, "device": "m13tun0", "target": target, "outer": outer}
    for trips in (found["ping"], found["path"]):
        assert 0 < trips["received"] <= trips["sent"]
        assert 0 < trips["p50_us"] <= trips["p99_us"]
    echo = found["throughput"]
    assert echo["packet_bytes"] == found["tunnel"]["mtu"]
    assert 0 < echo["received"] <= echo["sent"]
    # both directions of the tunnel carried every echo, and its own counters say so
    assert {"seal", "open"} <= set(found["load"]["cycles_per_packet"])
    assert {"tunnel.ping", "tunnel.path", "tunnel.echo"} <= keys_of(report)
    assert {"tunnel, latency", "tunnel, load"} <= {remark["case"] for remark in report["verdict"]}


def replace_unknown(tunnel: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in tunnel.items() if name not in ("pid", "mtu")}
