"""`m13 show`: what runs here and whom it talks to, in a form to read and in one for programs.

Numbers come from the telemetry page, which anyone allowed may read; what it has not (who is
admitted and not there, keys, since when) from the control socket, which answers root.
"""

import json
import os
from collections.abc import Iterator
from typing import Any

import click

from m13.control import ask
from m13.errors import HostError, M13Error, UsageError
from m13.monitor_view import age, human
from m13.running import Running, find
from m13.telemetry import TelemetryReader

Shown = dict[str, Any]
NOTHING = "-"
COLUMN = 17
HEADS = {"interface": "green", "peer": "yellow"}


def run_show(name: str | None, as_json: bool) -> None:
    """Of all that run here; of the TUN or the peer of that name."""
    running = find(everywhere=True)
    if not running:
        raise HostError("no hub or node runs here: start one, or ask as root")
    interfaces = [interface for one in running if (interface := _interface(one))]
    if name:
        interfaces = _only(interfaces, name)
    if as_json:
        click.echo(json.dumps(interfaces))
        return
    lines = [line for interface in interfaces for line in _lines(interface)]
    # None: as click finds the output, coloured on a terminal and plain in a pipe
    click.echo("\n".join(lines), color=False if "NO_COLOR" in os.environ else None)


def _interface(one: Running) -> Shown | None:
    """None when it has just ended."""
    try:
        with TelemetryReader(one.page) as reader:
            snapshot = reader.snapshot()
    except HostError:
        return None
    told: dict[str, Any] = {}
    why = None
    try:
        told = ask(one.socket_path, "describe")
    except M13Error as error:
        why = str(error)
    peers = list(_hub_peers(snapshot, told) if one.role == "hub" else _node_peers(snapshot, told))
    names = ("role", "tun", "pid", "state", "stale", "up_seconds", "interface", "receive_mode")
    fields = {field: snapshot[field] for field in names}
    known = {field: value for field, value in told.items() if field not in ("nodes", "hub")}
    return {**fields, **known, "not_told": why, "peers": peers}


def _hub_peers(snapshot: Shown, told: Shown) -> Iterator[Shown]:
    """All who are admitted, those with a session first; and who is in a handshake."""
    rows = {row["fingerprint"]: row for row in snapshot["peers"] if row["fingerprint"]}
    nodes = {node["key"]: node for node in told.get("nodes", [])}
    for key in [*rows, *(key for key in nodes if key not in rows)]:
        node = nodes.get(key, {})
        yield _peer(rows.get(key), node, str(node.get("name") or rows[key]["name"]), key)
    for row in snapshot["peers"]:
        if not row["fingerprint"]:
            yield _peer(row, {}, NOTHING, None)


def _node_peers(snapshot: Shown, told: Shown) -> Iterator[Shown]:
    hub = told.get("hub", {})
    for row in snapshot["peers"]:
        yield _peer(row, hub, str(told.get("place") or "hub"), row["fingerprint"] or hub.get("key"))


def _peer(row: Shown | None, told: Shown, name: str, key: str | None) -> Shown:
    """One form for those with a row in telemetry and those without."""
    shown = {**(row or {}), "name": name, "key": key, "state": "Disconnected"}
    shown.pop("fingerprint", None)
    if row:
        shown["state"] = row["state"]
    shown["tunnel_addresses"] = [told.get("address") or shown.pop("tunnel_address", None)]
    shown.pop("tunnel_address", None)
    shown["connected_seconds"] = told.get("connected_seconds")
    shown["sessions"] = told.get("sessions")
    return shown


def _only(interfaces: list[Shown], name: str) -> list[Shown]:
    if found := [one for one in interfaces if one["tun"] == name]:
        return found
    found = [
        {**one, "peers": [peer for peer in one["peers"] if name in (peer["name"], peer["key"])]}
        for one in interfaces
    ]
    if found := [one for one in found if one["peers"]]:
        return found
    known = [str(one["tun"]) for one in interfaces]
    known += [str(peer["name"]) for one in interfaces for peer in one["peers"]]
    raise UsageError(f"no interface or peer '{name}'; there are: {', '.join(known)}")


def _lines(interface: Shown) -> Iterator[str]:
    yield _head("interface", interface["tun"], f"m13-{interface['role']}, pid {interface['pid']}")
    yield from _rows(_interface_rows(interface))
    for peer in interface["peers"]:
        yield ""
        yield _head("peer", peer["name"], peer["state"])
        yield from _rows(_peer_rows(peer))


def _interface_rows(interface: Shown) -> dict[str, str]:
    up = f"{interface['state']}, up {age(interface['up_seconds'])}"
    rows = {"state": f"{up} ({interface['stale']})" if interface["stale"] else up}
    if interface["not_told"]:
        return rows | {"not told": interface["not_told"]}
    rows["key"] = interface["key"]
    where = "listening" if interface["role"] == "hub" else "hub"
    rows[where] = f"{interface['place']}, {interface['receive_mode']}"
    if interface["role"] == "hub":
        present = sum(1 for peer in interface["peers"] if peer["connected_seconds"] is not None)
        rows["tunnel"] = f"{interface['subnet']}, MTU {interface['mtu']}"
        rows["admits by"] = f"{interface['nodes_file'] or 'registry'}, {present} connected"
    else:
        routes = interface["routes"]
        rows["routes"] = routes if isinstance(routes, str) else ", ".join(routes) or "none"
        rows["tunnel"] = f"MTU {interface['mtu'] or NOTHING}"
    return rows


def _peer_rows(peer: Shown) -> dict[str, str]:
    rows = {"key": peer["key"] or NOTHING}
    rows["tunnel addresses"] = ", ".join(filter(None, peer["tunnel_addresses"])) or NOTHING
    if "endpoint" not in peer:
        return rows
    rows["endpoint"] = peer["endpoint"]
    rows["session"] = _session(peer)
    handshake = peer["session_age_seconds"]
    made = f", {peer['handshakes']} in this session" if peer["handshakes"] else ""
    rows["last handshake"] = NOTHING if handshake is None else f"{age(handshake)} ago{made}"
    rows["last heard"] = _ago(peer["last_heard_seconds"])
    received, sent = human(peer["received_bytes"]), human(peer["sent_bytes"])
    rows["transfer"] = f"{received}B received, {sent}B sent"
    return rows | _path(peer)


def _session(peer: Shown) -> str:
    if peer["session_age_seconds"] is None:
        return NOTHING
    count = f", number {peer['sessions']}" if peer["sessions"] else ""
    keys = f"v{peer['handshake_version']}, key epoch {peer['key_phase']}"
    return f"{_for(peer['connected_seconds'])}{keys}{count}"


def _for(seconds: float | None) -> str:
    return "" if seconds is None else f"for {age(seconds)}, "


def _ago(seconds: float | None) -> str:
    return "never" if seconds is None else f"{age(seconds)} ago"


def _path(peer: Shown) -> dict[str, str]:
    """What is measured of the way there; a dash while it is not."""
    rtt_us, mtu = peer.get("rtt_us"), peer.get("path_mtu_bytes")
    lost = peer["loss_per_million"] / 10_000 if rtt_us else None
    return {
        "loss": NOTHING if lost is None else f"{lost:.2g} %",
        "rtt": f"{rtt_us / 1000:.3g} ms" if rtt_us else NOTHING,
        "path MTU": f"{mtu} B" if mtu else NOTHING,
    }


def _head(kind: str, name: str, more: str) -> str:
    colour = HEADS[kind]
    return f"{click.style(kind, fg=colour, bold=True)}: {click.style(name, fg=colour)} ({more})"


def _rows(rows: dict[str, str]) -> Iterator[str]:
    for label, value in rows.items():
        yield f"  {click.style(label.ljust(COLUMN), bold=True)} {value}"
