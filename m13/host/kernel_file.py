"""Change one text file of the kernel (/proc/sys, /proc/irq, /sys) and put its exact text back."""

from pathlib import Path

from m13.host.journal import Facts, Journal, undoes

KIND = "kernel_file"


def change(
    journal: Journal, path: Path, text: str, machine_wide: bool, old: str | None = None
) -> None:
    """Write `text`, and in the end `old`, by default what is there now. Raises OSError, with
    nothing recorded, when there is no such file or the kernel refuses. What already reads so is
    only recorded if another live run relies on it."""
    now = path.read_text(encoding="ascii")
    if now.split() == text.split() and not journal.is_shared(KIND, str(path)):
        return
    token = _record(journal, path, machine_wide, now if old is None else old)
    try:
        path.write_text(text, encoding="ascii")
    except OSError:
        journal.discard(token)
        raise


def keep(journal: Journal, path: Path, machine_wide: bool) -> int:
    """Only record the present text: for a value the kernel changes as a side effect."""
    return _record(journal, path, machine_wide, path.read_text(encoding="ascii"))


def _record(journal: Journal, path: Path, machine_wide: bool, old: str) -> int:
    return journal.record(KIND, key=str(path), machine_wide=machine_wide, path=str(path), old=old)


@undoes(KIND)
def restore(facts: Facts) -> None:
    path = Path(facts["path"])
    try:
        # Some files act on every write (ip_forward resets others), so equal text is not written.
        if path.read_text(encoding="ascii") != facts["old"]:
            path.write_text(facts["old"], encoding="ascii")
    except FileNotFoundError:
        return
