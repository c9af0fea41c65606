"""The live view: a snapshot, and the one before it, drawn for a terminal."""

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from m13.telemetry_layout import EXITED, TEXTS, Snapshot

TRAFFIC = (
    ("from network", "received_packets", "received_bytes"),
    ("to network", "sent_packets", "sent_bytes"),
    ("from TUN", "tun_read_packets", "tun_read_bytes"),
    ("to TUN", "tun_written_packets", "tun_written_bytes"),
    ("opened", "aead_ok", None),
    ("did not verify", "aead_failed", None),
    ("sealed", "aead_sealed", None),
)
GAUGES = (
    ("slab free", "slab_free", "slab_count"),
    ("to the TUN thread", "ring_to_tun", None),
    ("from the TUN thread", "ring_from_tun", None),
    ("critical queue", "scheduler_critical", None),
    ("bulk queue", "scheduler_bulk", None),
    ("lent to receive", "fill_outstanding", None),
    ("lent to transmit", "transmit_outstanding", None),
    ("lent to the TUN", "tun_outstanding", None),
    ("peers in a handshake", "peers_pending", None),
    ("most to the TUN thread", "ring_to_tun_peak", None),
    ("most from the TUN thread", "ring_from_tun_peak", None),
    ("most to be sent", "scheduler_peak", None),
    ("least lent to receive", "fill_least", None),
)
EVENTS = (
    ("sessions lost", "sessions_lost"),
    ("sessions that came back", "reconnects"),
)
STATE_STYLES = {"Established": "green", "Disconnected": "red", EXITED: "red"}
SILENT_SECONDS = 1.0
LOSS_PERCENT = 1.0  # from here on it is pointed out
HEIGHT_FOR_STAGES = 32
HEIGHT_BUT_DROPS = 17  # and the gauges; what is left is for kinds of drops
WIDTH_FOR_ALL = 100  # below it there are fewer columns


def draw(previous: Snapshot | None, snapshot: Snapshot, console: Console) -> Group:
    """Everything, with as many peers as the height of the terminal leaves room for."""
    panels = Table.grid(expand=True)
    panels.add_column(ratio=1)
    panels.add_column(ratio=1)
    left: list[RenderableType] = [_traffic(previous, snapshot)]
    if console.height >= HEIGHT_FOR_STAGES:
        left += [Text(), _stages(previous, snapshot)]
    is_wide = console.width >= WIDTH_FOR_ALL
    gauges = _gauges(snapshot)
    kinds_max = max(3, console.height - HEIGHT_BUT_DROPS - gauges.row_count)
    right = [_drops(previous, snapshot, kinds_max, is_wide), Text(), gauges]
    panels.add_row(
        Panel(Group(*left), title="traffic"), Panel(Group(*right), title="drops and queues")
    )
    top = Group(_header(snapshot), panels)
    lines_left = console.height - len(console.render_lines(top, pad=False))
    # Frame, heading with its rule, and the line for those not shown.
    peers = _peers(snapshot, max(1, lines_left - 5), is_wide)
    return Group(top, Panel(peers, title="peers"))


def human(number: float) -> str:
    """At most four digits, with k, M, G, T for the powers of 1000."""
    for unit in ("", "k", "M", "G", "T"):
        if abs(number) < 999.5 or unit == "T":
            break
        number /= 1000
    return f"{number:.0f}{unit}" if number >= 99.95 or not unit else f"{number:.1f}{unit}"


def age(seconds: float | None) -> str:
    if seconds is None:
        return "never"
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours:02} h"
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _header(snapshot: Snapshot) -> Text:
    state = snapshot["state"]
    line = Text.assemble(
        (f" m13-{snapshot['role']}", "bold"),
        f"  pid {snapshot['pid']}  ",
        (state, STATE_STYLES.get(state, "yellow")),
        f"  up {age(snapshot['up_seconds'])}",
    )
    for name in ("interface", "receive_mode", "tun", "aead", "pqc", "memory"):
        if snapshot[name]:
            line.append(f"  {snapshot[name]}", "dim")
    if snapshot["stale"]:
        line.append(f"\n {snapshot['stale']}", "bold red")
    return line


def _table(*headings: str) -> Table:
    table = Table(
        box=SIMPLE_HEAD, show_edge=False, expand=True, padding=(0, 1, 0, 0), pad_edge=False
    )
    for index, heading in enumerate(headings):
        table.add_column(heading, justify="right" if index else "left", no_wrap=True)
    return table


def _delta(previous: Snapshot | None, snapshot: Snapshot, group: str, name: str) -> int:
    return snapshot[group][name] - previous[group][name] if previous else 0


def _per_second(previous: Snapshot | None, snapshot: Snapshot, name: str) -> float:
    if previous is None:
        return 0.0
    elapsed_ns = snapshot["sampled_ns"] - previous["sampled_ns"]
    return _delta(previous, snapshot, "counters", name) * 1e9 / max(1, elapsed_ns)


def _traffic(previous: Snapshot | None, snapshot: Snapshot) -> Table:
    table = _table("packets", "per s", "bit/s", "total")
    for label, packets, octets in TRAFFIC:
        total = snapshot["counters"][packets]
        alarming = packets == "aead_failed" and total
        table.add_row(
            label,
            human(_per_second(previous, snapshot, packets)),
            human(8 * _per_second(previous, snapshot, octets)) if octets else "",
            human(total),
            style="red" if alarming else "",
        )
    return table


def _stages(previous: Snapshot | None, snapshot: Snapshot) -> Table:
    """Cycles per packet of the last interval."""
    table = _table("stage", "cycles/packet", "packets")
    for name, stage in snapshot["stages"].items():
        before = previous["stages"][name] if previous else {"cycles": 0, "packets": 0}
        packets = stage["packets"] - before["packets"]
        cycles = stage["cycles"] - before["cycles"]
        table.add_row(name, human(cycles / packets) if packets else "-", human(packets))
    return table


def _drops(
    previous: Snapshot | None, snapshot: Snapshot, rows_max: int, is_wide: bool
) -> RenderableType:
    """The most frequent first."""
    table = _table("dropped", "now", "total", *(["reason"] if is_wide else []))
    for column in table.columns[3:]:
        column.justify = "left"
        column.overflow = "ellipsis"
        column.ratio = 1
    drops = sorted(((name, n) for name, n in snapshot["drops"].items() if n), key=lambda d: -d[1])
    for name, total in drops[:rows_max]:
        now = _delta(previous, snapshot, "drops", name)
        cells = [name, human(now), human(total), *([TEXTS["drop", name]] if is_wide else [])]
        table.add_row(*cells, style="yellow" if now else "")
    return _limited(table, len(drops) - rows_max) if drops else Text("nothing dropped", "dim")


def _limited(table: Table, hidden: int) -> RenderableType:
    return Group(table, Text(f"{hidden} more", "dim")) if hidden > 0 else table


def _gauges(snapshot: Snapshot) -> Table:
    table = _table("frames and queues", "count")
    gauges = snapshot["gauges"]
    for label, name, whole in GAUGES:
        if whole:
            table.add_row(label, f"{gauges[name]} of {gauges[whole]}")
        elif gauges[name]:
            table.add_row(label, str(gauges[name]))
    thread = snapshot["writers"]["tun"]
    if thread["loops"]:
        counts = (human(thread[name]) for name in ("tun_read_packets", "tun_written_packets"))
        table.add_row("TUN thread read, wrote", ", ".join(counts))
    for label, name in EVENTS:
        if count := snapshot["counters"][name]:
            table.add_row(label, human(count), style="yellow")
    return table


def _way(peer: Snapshot) -> list[RenderableType]:
    """Round trip, and the share of what we send that is lost on it; unknown without feedback."""
    if peer["rtt_us"] is None:
        return ["-", "-"]
    share = peer["loss_per_million"] / 10_000
    style = "yellow" if share >= LOSS_PERCENT else ""
    return [f"{peer['rtt_us'] / 1000:.3g} ms", Text(f"{share:.2g} %", style)]


def _peers(snapshot: Snapshot, rows_max: int, is_wide: bool) -> RenderableType:
    """The busiest first; silent ones are pointed out."""
    peers = sorted(snapshot["peers"], key=lambda p: -(p["received_bytes"] + p["sent_bytes"]))
    if not peers:
        return Text("nobody yet", "dim")
    tunnel, session = (["tunnel"], ["session", "rtt", "lost"]) if is_wide else ([], [])
    table = _table("name", "state", "endpoint", *tunnel, "heard", *session, "in", "out")
    for column in table.columns:
        if column.header in ("state", "endpoint", "tunnel"):
            column.justify = "left"
        column.overflow = "ellipsis"
    for peer in peers[:rows_max]:
        heard = peer["last_heard_seconds"]
        quiet = heard is None or heard > SILENT_SECONDS
        state_style = STATE_STYLES.get(peer["state"], "yellow")
        table.add_row(
            Text(peer["name"] or "-"),
            Text(peer["state"], state_style),
            peer["endpoint"],
            *([peer["tunnel_address"]] if is_wide else []),
            Text(age(heard), "yellow" if quiet else ""),
            *([age(peer["session_age_seconds"])] if is_wide else []),
            *(_way(peer) if is_wide else []),
            human(peer["received_bytes"]) + "B",
            human(peer["sent_bytes"]) + "B",
        )
    return _limited(table, len(peers) - rows_max)
