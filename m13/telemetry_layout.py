"""What is on the telemetry page, by the names and places that the C core declares: its fields, and
all of its contents as plain values.

Of the standard library alone: numpy, which the page was made for, takes 60 ms to load and sums 16
short rows no faster.
"""

import mmap
import socket
import struct
from itertools import compress
from typing import Any

from m13 import endpoint
from m13.identity import format_fingerprint
from native import stats

Snapshot = dict[str, Any]

EXITED = "Exited"  # a dead process has no state of its own, whatever it wrote last
TICK_AGE_MAX_NS = 3_000_000_000
WRITER_NAMES = {stats.WRITER_WORKER: "worker", stats.WRITER_TUN: "tun"}  # of every worker
TEXTS = {(field.group, field.name): field.text for field in stats.FIELDS}
GROUPS = {
    group: sorted((f for f in stats.FIELDS if f.group == group), key=lambda f: f.offset)
    for group in {field.group for field in stats.FIELDS}
}
PAGE_FORMS = {field.name: (field.offset, struct.Struct(field.type)) for field in GROUPS["page"]}


class Fields:
    """Of the page, by name, one by one. Texts are cut to fit, leaving a zero for C."""

    def __init__(self, memory: bytes | mmap.mmap) -> None:
        self._memory = memory

    def __getitem__(self, name: str) -> Any:
        """A number, or the bytes of a text."""
        offset, form = PAGE_FORMS[name]
        return form.unpack_from(self._memory, offset)[0]

    def __setitem__(self, name: str, value: int | str) -> None:
        offset, form = PAGE_FORMS[name]
        data = value.encode()[: form.size - 1] if isinstance(value, str) else value
        form.pack_into(self._memory, offset, data)

    def text(self, name: str) -> str:
        return text(self[name])


class Record:
    """All fields of a group at once, which a hub with many peers reads every second."""

    def __init__(self, group: str) -> None:
        self._names = [field.name for field in GROUPS[group]]
        parts, end = ["<"], 0
        for field in GROUPS[group]:
            form = struct.Struct(field.type)
            parts += f"{field.offset - end}x", field.type.removeprefix("<")
            end = field.offset + form.size
        self._form = struct.Struct("".join(parts))

    def read(self, page: bytes, start: int = 0) -> Snapshot:
        return dict(zip(self._names, self._form.unpack_from(page, start), strict=True))


class WriterArray:
    """One array of every writer; its cells have names."""

    def __init__(self, name: str, group: str, offset: int) -> None:
        self.name, self._offset = name, stats.WRITERS_OFFSET + offset
        self.cells = [field.name for field in GROUPS[group]]
        self._form = struct.Struct(f"<{len(self.cells)}Q")

    def rows(self, page: bytes, first: int = 0, step: int = 1) -> list[tuple[int, ...]]:
        """Of every `step`-th writer from the `first` on."""
        return [
            self._form.unpack_from(page, self._offset + writer * stats.WRITER_BYTES)
            for writer in range(first, stats.WRITER_COUNT, step)
        ]

    def totals(self, page: bytes, first: int = 0, step: int = 1) -> dict[str, int]:
        columns = zip(*self.rows(page, first, step), strict=True)
        return dict(zip(self.cells, map(sum, columns), strict=True))


ARRAYS = {array.name: WriterArray(*array) for array in stats.WRITER_ARRAYS}
PAGE, PEER = Record("page"), Record("peer")


def describe(page: bytes, now_ns: int, is_alive: bool) -> Snapshot:
    """Everything on the page as plain values for JSON. Times are ages in seconds."""
    fields = PAGE.read(page)
    totals = {name: array.totals(page) for name, array in ARRAYS.items()}
    return {
        "role": text(fields["role"]),
        "pid": fields["pid"],
        "stale": _stale(fields, now_ns, is_alive),
        "sampled_ns": now_ns,
        "state": _tunnel_state(fields, totals["gauge"]) if is_alive else EXITED,
        "up_seconds": _up_seconds(fields, now_ns),
        "session_setup_ms": _session_setup_ms(fields),
        "interface": text(fields["interface_name"]),
        "tun": text(fields["tun_name"]),
        "receive_mode": text(fields["receive_mode"]),
        "aead": text(fields["aead_backend"]),
        "pqc": text(fields["pqc_provider"]),
        "memory": text(fields["memory"]),
        "keepalive_ms": fields["keepalive_ms"],
        "counters": totals["counter"],
        "writers": {
            name: ARRAYS["counter"].totals(page, first, stats.WRITERS_WORKER)
            for first, name in WRITER_NAMES.items()
        },
        "workers": _workers(page),
        "drops": totals["drop"],
        "gauges": totals["gauge"],
        "stages": _stages(totals["stage_cycles"], totals["stage_packets"]),
        "peers": [_peer(page, slot, now_ns) for slot in _slots_in_use(page)],
    }


def glance(page: bytes, now_ns: int) -> Snapshot:
    """What a living hub or node looks at every second, as in `describe`."""
    fields = PAGE.read(page)
    return {
        "state": _tunnel_state(fields, ARRAYS["gauge"].totals(page)),
        "up_seconds": _up_seconds(fields, now_ns),
        "counters": ARRAYS["counter"].totals(page),
    }


def sessions(page: bytes, now_ns: int) -> list[Snapshot]:
    """Who is connected to a hub, with what of each may be out of date, as in `describe`; but a
    fingerprint as it is, or None, since this is for every peer every second."""
    rows = ((slot, PEER.read(page, _peer_start(slot))) for slot in _slots_in_use(page))
    return [_session(slot, row, now_ns) for slot, row in rows]


def text(value: bytes) -> str:
    return value.partition(b"\0")[0].decode(errors="replace")


def _peer_start(slot: int) -> int:
    return stats.PEERS_OFFSET + slot * stats.PEER_BYTES


def _workers(page: bytes) -> int:
    """How many took turns: a hub's workers, or the one thread of a node."""
    counters = ARRAYS["counter"]
    loops = counters.cells.index("loops")
    rows = counters.rows(page, stats.WRITER_WORKER, stats.WRITERS_WORKER)
    return sum(row[loops] > 0 for row in rows)


def _stale(page: Snapshot, now_ns: int, is_alive: bool) -> str | None:
    if not is_alive:
        return "the process has exited"
    age_ns = now_ns - (page["tick_ns"] or page["started_ns"])
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


def _session(slot: int, row: Snapshot, now_ns: int) -> Snapshot:
    return {
        "slot": slot,
        "generation": row["generation"],
        "name": text(row["name"]),
        "tunnel_address": socket.inet_ntop(socket.AF_INET, row["tunnel_address"]),
        "session_age_seconds": _age_seconds(row["established_ns"], now_ns),
        "fingerprint": row["fingerprint"] if any(row["fingerprint"]) else None,
    }


def _peer(page: bytes, slot: int, now_ns: int) -> Snapshot:
    row = PEER.read(page, _peer_start(slot))
    session = _session(slot, row, now_ns)
    key = session["fingerprint"]
    return {
        **session,
        "state": _state(row["state"]),
        "endpoint": endpoint.place(row["endpoint_kind"], row["address"], row["port"]),
        "path_mtu_bytes": row["path_mtu_bytes"],
        "received_packets": row["received_packets"],
        "received_bytes": row["received_bytes"],
        "sent_packets": row["sent_packets"],
        "sent_bytes": row["sent_bytes"],
        "rtt_us": row["rtt_us"] or None,
        "loss_per_million": row["loss_per_million"],
        "lost_frames": row["lost_frames"],
        "missing_frames": row["missing_frames"],
        "last_heard_seconds": _age_seconds(row["last_heard_ns"], now_ns),
        "fingerprint": key and format_fingerprint(key),
        "handshake_version": row["handshake_version"],
        "key_phase": row["key_phase"],
        "handshakes": row["handshakes"],
    }


def _slots_in_use(page: bytes) -> list[int]:
    """The state is a row's first field."""
    end = stats.PEERS_OFFSET + stats.PEER_COUNT * stats.PEER_BYTES
    with memoryview(page)[stats.PEERS_OFFSET : end].cast("I") as words:
        return list(compress(range(stats.PEER_COUNT), words[:: stats.PEER_BYTES // 4]))


def _state(number: int) -> str:
    return stats.STATES[number] if number < len(stats.STATES) else f"state {number}"


def _tunnel_state(page: Snapshot, gauges: dict[str, int]) -> str:
    """A node's own; a hub's is that of the peer that has come furthest, of whichever worker."""
    if text(page["role"]) != "hub":
        return _state(page["state"])
    if gauges["peers_established"]:
        return "Established"
    return "Handshaking" if gauges["peers_pending"] else "Disconnected"


def _up_seconds(page: Snapshot, now_ns: int) -> float:
    """A hub is up from its start, a node from its first session."""
    since = page["session_up_ns"] if text(page["role"]) == "node" else page["started_ns"]
    return _age_seconds(since, now_ns) or 0.0


def _session_setup_ms(page: Snapshot) -> float | None:
    """From a node's first frame to its session, as long as that is its first attempt."""
    first, up = page["first_frame_ns"], page["session_up_ns"]
    return round((up - first) / 1e6, 3) if 0 < first <= up else None


def _age_seconds(since_ns: int, now_ns: int) -> float | None:
    """None for never. The writer's clock may be a moment ahead of our reading of it."""
    return round(max(0, now_ns - since_ns) / 1e9, 3) if since_ns else None
