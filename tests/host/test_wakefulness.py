"""The wish for cores that stay awake, as the kernel tells it back."""

import contextlib
import os
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from m13.errors import HostError
from m13.host import wakefulness
from m13.host.wakefulness import POLICIES, Wakefulness

pytestmark = pytest.mark.skipif(
    not os.access(wakefulness.DEVICE, os.W_OK), reason="needs root and PM QoS"
)


def asks(pid: int | str = "self") -> bool:
    """Whether a process holds the wish, and then that the kernel has it: others may as well."""
    held = False
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            held |= os.readlink(entry) == wakefulness.DEVICE
    if held:
        assert struct.unpack("i", Path(wakefulness.DEVICE).read_bytes()) == (0,)
    return held


@pytest.fixture(autouse=True)
def supplies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A machine of two cores that tells of no battery; nothing is asked of it afterwards."""
    monkeypatch.setattr(wakefulness, "SUPPLIES", tmp_path)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    yield tmp_path
    assert not asks()


def supply(directory: Path, **facts: str) -> None:
    (directory / "supply0").mkdir()
    for name, value in facts.items():
        (directory / "supply0" / name).write_text(value + "\n")


@pytest.mark.parametrize("wish", ["auto", "on"])
def test_cores_stay_awake_while_packets_flow_and_a_while_longer(wish: str) -> None:
    policy = POLICIES[wish]
    assert policy
    with Wakefulness(wish) as awake:
        assert not asks()
        awake.follow(packets := policy.packets)
        assert asks()
        for _ in range(policy.quiet_seconds - 1):
            awake.follow(packets := packets + policy.packets - 1)
            assert asks()
        awake.follow(packets := packets + policy.packets - 1)
        assert not asks()
        awake.follow(packets + policy.packets)
        assert asks()


def test_a_keystroke_now_and_then_wakes_no_core_unless_it_is_wanted() -> None:
    for wish, asked in (("on", True), ("auto", False), ("off", False)):
        with Wakefulness(wish) as awake:
            awake.follow(5)
            assert asks() == asked


def test_cores_sleep_as_they_like_when_they_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: wakefulness.SMALL_MACHINE_CORES + 1)
    for wish, asked in (("on", True), ("auto", False)):
        with Wakefulness(wish) as awake:
            awake.follow(1000)
            assert asks() == asked


@pytest.mark.parametrize(
    ("facts", "is_awake"),
    [
        ({"type": "Battery", "status": "Discharging"}, False),
        ({"type": "Battery", "status": "Charging"}, True),
        ({"type": "Battery", "status": "Discharging", "scope": "Device"}, True),
        ({"type": "Mains", "online": "1"}, True),
    ],
)
def test_a_battery_is_spared(supplies: Path, facts: dict[str, str], is_awake: bool) -> None:
    supply(supplies, **facts)
    with Wakefulness("auto") as awake:
        awake.follow(1000)
        assert asks() == is_awake
    with Wakefulness("on") as awake:
        awake.follow(1000)
        assert asks()


def test_a_kernel_without_it_is_told_of_in_one_line_when_it_was_wanted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wakefulness, "DEVICE", str(tmp_path / "none"))
    with pytest.raises(HostError, match=r"^--low-latency: .*none: No such file"):
        Wakefulness("on")
    for wish in ("auto", "off"):
        with Wakefulness(wish) as awake:
            awake.follow(1000)
            assert not awake.is_held
