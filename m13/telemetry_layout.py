"""What is on the telemetry page: its numpy types, made from what the C core declares, and its
contents as plain values."""

import socket
from typing import Any

import numpy as np

from m13 import endpoint
from m13.identity import format_fingerprint
from native import stats

Snapshot = dict[str, Any]

EXITED = "Exited"  # a dead process has no state of its own, whatever it wrote last
TICK_AGE_MAX_NS = 3_000_000_000
WRITER_NAMES = {stats.WRITER_WORKER: "worker", stats.WRITER_TUN: "tun"}  # of every worker
TEXTS = {(field.group, field.name): field.text for field in stats.FIELDS}


def _array_type(group: str) -> np.dtype:
    """The cells of one array of a writer, by name."""
    cells = [field for field in stats.FIELDS if field.group == group]
    return np.dtype(
        {
            "names": [field.name for field in cells],
            "formats": [field.type for field in cells],
            "offsets": [field.offset * 8 for field in cells],
        }
    )


def _structure_type(group: str, extra: list[tuple[str, Any, int]], size: int) -> np.dtype:
    rows = [(f.name, f.type, f.offset) for f in stats.FIELDS if f.group == group] + extra
    names, formats, offsets = zip(*rows, strict=True)
    layout = {"names": names, "formats": formats, "offsets": offsets, "itemsize": size}
    return np.dtype(layout)  # type: ignore[call-overload]


WRITER_TYPE = _structure_type(
    "writer",
    [(array.name, _array_type(array.group), array.offset) for array in stats.WRITER_ARRAYS],
    stats.WRITER_BYTES,
)
PEER_TYPE = _structure_type("peer", [], stats.PEER_BYTES)
PAGE_TYPE = _structure_type(
    "page",
    [
        ("writers", (WRITER_TYPE, stats.WRITER_COUNT), stats.WRITERS_OFFSET),
        ("peers", (PEER_TYPE, stats.PEER_COUNT), stats.PEERS_OFFSET),
    ],
    stats.PAGE_BYTES,
)


def read(data: bytes) -> np.ndarray:
    """A copy of the page as a record."""
    return np.ndarray((), PAGE_TYPE, data)[()]


def describe(page: np.ndarray, now_ns: int, is_alive: bool) -> Snapshot:
    """Everything on the page as plain values for JSON. Times are ages in seconds."""
    totals = {name: _sum(page["writers"][name]) for name in WRITER_TYPE.names or ()}
    return {
        "role": text(page["role"]),
        "pid": int(page["pid"]),
        "stale": _stale(page, now_ns, is_alive),
        "sampled_ns": now_ns,
        "state": _tunnel_state(page, totals["gauge"]) if is_alive else EXITED,
        "up_seconds": _up_seconds(page, now_ns),
        "session_setup_ms": _session_setup_ms(page),
        "interface": text(page["interface_name"]),
        "tun": text(page["tun_name"]),
        "receive_mode": text(page["receive_mode"]),
        "aead": text(page["aead_backend"]),
        "pqc": text(page["pqc_provider"]),
        "memory": text(page["memory"]),
        "keepalive_ms": int(page["keepalive_ms"]),
        "counters": totals["counter"],
        "writers": {
            name: _sum(page["writers"]["counter"][index :: stats.WRITERS_WORKER])
            for index, name in WRITER_NAMES.items()
        },
        "workers": _workers(page),
        "drops": totals["drop"],
        "gauges": totals["gauge"],
        "stages": _stages(totals["stage_cycles"], totals["stage_packets"]),
        "peers": [_peer(slot, page["peers"][slot], now_ns) for slot in _slots_in_use(page)],
    }


def _workers(page: np.ndarray) -> int:
    """How many took turns: a hub's workers, or the one thread of a node."""
    loops = page["writers"]["counter"]["loops"][stats.WRITER_WORKER :: stats.WRITERS_WORKER]
    return int(np.count_nonzero(loops))


def _stale(page: np.ndarray, now_ns: int, is_alive: bool) -> str | None:
    if not is_alive:
        return "the process has exited"
    age_ns = now_ns - int(page["tick_ns"] or page["started_ns"])
    if age_ns > TICK_AGE_MAX_NS:
        return f"no sign of life for {age_ns // 1_000_000_000} s"
    return None


def _stages(cycles: dict[str, int], packets: dict[str, int]) -> dict[str, dict[str, float]]:
    return {
        name: {
            "cycles": cycles[name],
            "packets": packets[name],
            "cycles_per_packet": round(cycles[name] / packets[name], 1) if packets[name] else 0.0,
        }
        for name in cycles
    }


def _peer(slot: int, row: np.ndarray, now_ns: int) -> Snapshot:
    where = int(row["endpoint_kind"]), row["address"].tobytes(), int(row["port"])
    return {
        "slot": slot,
        "generation": int(row["generation"]),
        "name": text(row["name"]),
        "state": _state(row["state"]),
        "endpoint": endpoint.place(*where),
        "tunnel_address": socket.inet_ntop(socket.AF_INET, row["tunnel_address"].tobytes()),
        "path_mtu_bytes": int(row["path_mtu_bytes"]),
        "received_packets": int(row["received_packets"]),
        "received_bytes": int(row["received_bytes"]),
        "sent_packets": int(row["sent_packets"]),
        "sent_bytes": int(row["sent_bytes"]),
        "rtt_us": int(row["rtt_us"]) or None,
        "loss_per_million": int(row["loss_per_million"]),
        "lost_frames": int(row["lost_frames"]),
        "missing_frames": int(row["missing_frames"]),
        "last_heard_seconds": _age_seconds(row["last_heard_ns"], now_ns),
        "session_age_seconds": _age_seconds(row["established_ns"], now_ns),
        "fingerprint": format_fingerprint(row["fingerprint"].tobytes())
        if row["fingerprint"].any()
        else None,
        "handshake_version": int(row["handshake_version"]),
        "key_phase": int(row["key_phase"]),
        "handshakes": int(row["handshakes"]),
    }


def _slots_in_use(page: np.ndarray) -> list[int]:
    return np.flatnonzero(page["peers"]["state"]).tolist()


def _state(number: Any) -> str:
    return stats.STATES[number] if number < len(stats.STATES) else f"state {number}"


def _tunnel_state(page: np.ndarray, gauges: dict[str, int]) -> str:
    """A node's own; a hub's is that of the peer that has come furthest, of whichever worker."""
    if page["role"] != b"hub":
        return _state(page["state"])
    if gauges["peers_established"]:
        return "Established"
    return "Handshaking" if gauges["peers_pending"] else "Disconnected"


def _up_seconds(page: np.ndarray, now_ns: int) -> float:
    """A hub is up from its start, a node from its first session."""
    since = page["session_up_ns"] if page["role"] == b"node" else page["started_ns"]
    return _age_seconds(since, now_ns) or 0.0


def _session_setup_ms(page: np.ndarray) -> float | None:
    """From a node's first frame to its session, as long as that is its first attempt."""
    first, up = int(page["first_frame_ns"]), int(page["session_up_ns"])
    return round((up - first) / 1e6, 3) if 0 < first <= up else None


def _age_seconds(since_ns: Any, now_ns: int) -> float | None:
    """None for never. The writer's clock may be a moment ahead of our reading of it."""
    return round(max(0, now_ns - int(since_ns)) / 1e9, 3) if since_ns else None


def _sum(rows: np.ndarray) -> dict[str, int]:
    return {name: int(rows[name].sum()) for name in rows.dtype.names or ()}


def text(value: Any) -> str:
    return bytes(value).partition(b"\0")[0].decode(errors="replace")
