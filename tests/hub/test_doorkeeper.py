"""What a hub does about peers that are not as its roster has them, second after second."""

from ipaddress import IPv4Address, IPv4Interface
from types import SimpleNamespace
from typing import Any

import pytest

from hub import doorkeeper
from hub.admission import Admission
from hub.doorkeeper import CONFIGURES, RENEWAL_SECONDS_MAX, Doorkeeper
from hub.roster import Node
from m13.errors import ConfigurationError
from m13.identity import format_fingerprint

ALPHA = bytes([1]) * 32
KEY = format_fingerprint(ALPHA)
SUBNET = IPv4Interface("10.13.0.1/24")


class Orders:
    """What the data plane and the handshake worker were told, in order; both run end to end in
    tests/netns/test_live.py."""

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []

    def change_roster(self, admit: list[dict], expel: list[str]) -> None:
        self.told.append(("roster", [entry["address"] for entry in admit], expel))

    def expel(self, slot: int, generation: int) -> None:
        self.told.append(("expel", slot, generation))

    def renew(self, slot: int, generation: int, configure: bool = False) -> None:
        self.told.append(("configure" if configure else "renew", slot, generation))

    def take(self) -> list[tuple[Any, ...]]:
        told, self.told = self.told, []
        return told


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    clock = SimpleNamespace(seconds=1000.0)
    monkeypatch.setattr(doorkeeper.time, "monotonic", lambda: clock.seconds)
    return clock


def keeper(address: str = "10.13.0.2", name: str = "alpha") -> tuple[Doorkeeper, Orders]:
    orders = Orders()
    node = Node(name, KEY, IPv4Address(address), 24)
    admitted = Admission({ALPHA: node}, sessions={ALPHA: (3, 7)})
    return Doorkeeper(admitted, [orders], orders), orders  # type: ignore[arg-type]


def peer(address: str, age: float, name: str = "alpha") -> dict[str, Any]:
    place = {"slot": 3, "generation": 7, "fingerprint": ALPHA, "name": name}
    return {**place, "tunnel_address": address, "session_age_seconds": age}


def test_a_peer_as_listed_is_left_alone() -> None:
    door, orders = keeper()
    door.keep([peer("10.13.0.2", 5)])
    assert orders.take() == []


@pytest.mark.parametrize("wrong", [peer("10.13.0.9", 5), peer("10.13.0.2", 5, "beta")])
def test_a_peer_not_as_listed_is_asked_until_it_is(
    now: SimpleNamespace, wrong: dict[str, Any]
) -> None:
    door, orders = keeper()
    for _ in range(3):
        door.keep([wrong])
        assert orders.take() == [("renew", 3, 7)]
        now.seconds += 1
    door.keep([peer("10.13.0.2", 0.5)])  # new keys, and what is listed
    assert orders.take() == []
    for _ in range(CONFIGURES):
        door.keep([peer("10.13.0.2", 1)])
        assert orders.take() == [("configure", 3, 7)]
    door.keep([peer("10.13.0.2", 2)])
    assert orders.take() == []


def test_a_peer_that_asks_for_no_new_keys_is_made_to_come_anew(now: SimpleNamespace) -> None:
    door, orders = keeper()
    door.keep([peer("10.13.0.9", 5)])
    now.seconds += RENEWAL_SECONDS_MAX + 1
    orders.take()
    door.keep([peer("10.13.0.9", 5)])
    assert orders.take() == [("expel", 3, 7)]
    door.keep([])  # gone: nothing of it is kept
    door.keep([peer("10.13.0.2", 0.1)])
    assert orders.take() == []


def test_who_is_not_listed_goes_every_second_until_gone() -> None:
    door, orders = keeper()
    door.admitted.nodes.clear()
    for _ in range(2):
        door.keep([peer("10.13.0.2", 5)])
        assert orders.take() == [("expel", 3, 7)]


def test_handshakes_are_refused_before_a_session_ends(tmp_path) -> None:
    door, orders = keeper()
    settings = SimpleNamespace(nodes=tmp_path / "nodes.toml", subnet=SUBNET)
    settings.nodes.write_text("# nobody\n")
    assert door.reload(settings)["expelled"] == ["alpha"]
    assert orders.take() == [("roster", [], [KEY]), ("expel", 3, 7)]


def test_a_changed_node_is_expelled_and_admitted_in_the_worker_and_asked_for_keys(
    tmp_path,
) -> None:
    door, orders = keeper()
    settings = SimpleNamespace(nodes=tmp_path / "nodes.toml", subnet=SUBNET)
    settings.nodes.write_text(f'[[node]]\nname = "alpha"\nkey = "{KEY}"\naddress = "10.13.0.9"\n')
    assert door.reload(settings)["changed"] == ["alpha"]
    assert orders.take() == [("roster", ["10.13.0.9"], [KEY]), ("renew", 3, 7)]
    settings.nodes.write_text("[[node]]\n")
    with pytest.raises(ConfigurationError, match="nothing changed: mend it and reload"):
        door.reload(settings)
    assert orders.take() == []
