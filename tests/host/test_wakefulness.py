"""The wish for cores that stay awake, as the kernel tells it back."""

import os
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from m13.errors import HostError
from m13.host import wakefulness
from m13.host.wakefulness import QUIET_SECONDS, Wakefulness

pytestmark = pytest.mark.skipif(
    not os.access(wakefulness.DEVICE, os.W_OK), reason="needs root and PM QoS"
)


def asked_us() -> int:
    """The strictest wish on this machine; reading does not make one of its own."""
    return int(struct.unpack("i", Path(wakefulness.DEVICE).read_bytes())[0])


@pytest.fixture
def before_us() -> Iterator[int]:
    before = asked_us()
    yield before
    assert asked_us() == before


def test_cores_stay_awake_while_packets_flow_and_ten_seconds_longer(before_us: int) -> None:
    with Wakefulness(True) as awake:
        assert asked_us() == before_us
        awake.follow(5)
        assert asked_us() == 0
        for _ in range(QUIET_SECONDS - 1):
            awake.follow(5)
            assert asked_us() == 0
        awake.follow(5)
        assert asked_us() == before_us
        awake.follow(6)
        assert asked_us() == 0


def test_nothing_is_asked_for_unless_it_is_wanted(before_us: int) -> None:
    with Wakefulness(False) as awake:
        awake.follow(5)
        assert asked_us() == before_us


def test_a_kernel_without_it_is_told_of_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wakefulness, "DEVICE", str(tmp_path / "none"))
    with pytest.raises(HostError, match=r"^--low-latency: .*none: No such file"):
        Wakefulness(True)
    Wakefulness(False)
