"""Kernel settings, named by their path below /proc/sys ("net/ipv4/ip_forward")."""

from pathlib import Path

from m13.host import kernel_file
from m13.host.journal import Journal

ROOT = Path("/proc/sys")

# Only ceilings: M13 asks for its own socket's size, and other programs' defaults stay theirs.
BUFFER_LIMITS = {
    "net/core/rmem_max": 16 << 20,
    "net/core/wmem_max": 16 << 20,
    "net/core/netdev_max_backlog": 16384,
}


def read(name: str) -> str | None:
    """The text without its newline, or None where this kernel or namespace has no such setting."""
    try:
        return (ROOT / name).read_text(encoding="ascii").strip()
    except OSError:
        return None


def write(journal: Journal, name: str, value: str | int) -> str | None:
    """Set it until the journal is closed. None, or a note on why it stays as it is."""
    try:
        kernel_file.change(journal, ROOT / name, f"{value}\n", _is_machine_wide(name))
    except FileNotFoundError:
        return f"{name} does not exist here"
    except OSError as error:
        return f"{name} cannot be set here: {error.strerror}"
    return None


def keep(journal: Journal, name: str) -> None:
    """Have a setting put back that will change as a side effect of another."""
    if read(name) is not None:
        kernel_file.keep(journal, ROOT / name, _is_machine_wide(name))


def is_shared(journal: Journal, name: str) -> bool:
    """Whether another live M13 here relies on the setting."""
    return journal.is_shared(kernel_file.KIND, str(ROOT / name))


def raise_limit(journal: Journal, name: str, minimum: int) -> str | None:
    """Raise a number to `minimum`, never lower it."""
    text = read(name)
    present = int(text) if text is not None else 0
    return write(journal, name, max(present, minimum))


def raise_buffer_limits(journal: Journal) -> list[str]:
    """Room for bursts in socket buffers and the input queue; notes on what could not be had."""
    notes = [raise_limit(journal, name, value) for name, value in BUFFER_LIMITS.items()]
    return [note for note in notes if note is not None]


def _is_machine_wide(name: str) -> bool:
    return not name.startswith("net/")
