"""Which hubs a node trusts after its known hubs were read again."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from m13.errors import ConfigurationError
from m13.identity import format_fingerprint
from node.trust import PINS_MAX, Trust, pinned_keys

KEYS = [format_fingerprint(bytes([number]) * 32) for number in range(PINS_MAX + 1)]
PLACE = "hub.example.net:443"


class Worker:
    """What it was told; the real one is in tests/test_handshake_worker.py."""

    def __init__(self) -> None:
        self.pins: list[list[str]] = []

    def change_pins(self, pins: list[str]) -> None:
        self.pins.append(pins)


def wanted(path: Path, hub_key: str | None = None) -> SimpleNamespace:
    place = {"hub_host": "hub.example.net", "hub_port": 443}
    return SimpleNamespace(hub_key=hub_key, known_hubs=path, **place)


def test_pins_follow_the_file(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path, worker = tmp_path / "known_hubs", Worker()
    path.write_text(f"{PLACE} {KEYS[0]}\n")
    trust = Trust(wanted(path), pinned_keys(wanted(path)), worker)  # type: ignore[arg-type]
    trust.hub_key = KEYS[0]
    path.write_text(f"{PLACE} {KEYS[0]}\n{PLACE} {KEYS[1]}\nother:443 {KEYS[2]}\n")
    assert trust.reload() == {"added": [KEYS[1]], "removed": [], "known": 2}
    assert "no longer known" not in caplog.text
    path.write_text(f"{PLACE} {KEYS[1]}\n")
    assert trust.reload() == {"added": [], "removed": [KEYS[0]], "known": 1}
    assert f"the hub's key {KEYS[0]} is no longer known" in caplog.text
    assert worker.pins == [KEYS[:2], KEYS[1:2]]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "no key of hub.example.net:443"),
        (f"other:443 {KEYS[2]}\n", "no key of hub.example.net:443"),
        (f"{PLACE} {KEYS[0]}\n{PLACE}\n", "line 2"),
        ("".join(f"{PLACE} {key}\n" for key in KEYS), "17 keys .* may have 16"),
    ],
)
def test_a_file_that_would_not_do_changes_nothing(tmp_path: Path, text: str, why: str) -> None:
    path, worker = tmp_path / "known_hubs", Worker()
    path.write_text(text)
    trust = Trust(wanted(path), KEYS[:1], worker)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match=f"{why}.*nothing changed"):
        trust.reload()
    assert (trust.pins, worker.pins) == (KEYS[:1], [])


def test_a_key_from_the_command_line_is_not_read_again(tmp_path: Path) -> None:
    worker = Worker()
    trust = Trust(wanted(tmp_path / "none", KEYS[0]), KEYS[:1], worker)  # type: ignore[arg-type]
    assert "--hub-key" in trust.reload()["note"]
    assert worker.pins == []
