"""What a hub sees of the registry: active rows, changes as they come, and why a key stays out."""

import logging
import select as poll
import time
from ipaddress import IPv4Interface

import pytest

from hub.registry import schema
from hub.registry.codes import Code, RegistryError
from hub.registry.envelope import ACTIVATE, DEACTIVATE, HUB_IDENTITY, REVOKE
from hub.registry.roster import changes, check_hub, load, why_not
from hub.registry.watch import RosterWatch
from hub.steering import OBJECT
from m13.identity import parse_fingerprint
from tests.hub.registry.office import HUB, SUBNET, make_identity

HUB_INTERFACE = IPv4Interface(SUBNET)
SEEN_S = 1.0


def test_only_active_nodes_are_on_the_roster(office):
    database = office.registry.database
    dot_code = office.registered(data=office.document("alpha"), tunnel_address="10.13.0.9")
    assert load(database, HUB_INTERFACE)[0] == []
    office.step(ACTIVATE, dot_code)
    (node,), generation = load(database, HUB_INTERFACE)
    assert (node.name, str(node.address), node.prefix) == ("alpha", "10.13.0.9", 16)
    assert node.key == make_identity("alpha").fingerprint
    # a hub of another subnet has no address for it
    assert load(database, IPv4Interface("10.77.0.1/24"))[0] == []
    assert changes(database, HUB_INTERFACE, generation) is None
    office.step(DEACTIVATE, dot_code)
    change = changes(database, HUB_INTERFACE, generation)
    assert (change.admitted, change.expelled) == ((), (node.key,))


def test_changes_of_many_generations_come_as_one(office):
    database = office.registry.database
    _, generation = load(database, HUB_INTERFACE)
    codes = [office.active() for _ in range(3)]
    office.step(REVOKE, codes[0])
    change = changes(database, HUB_INTERFACE, generation)
    assert len(change.admitted) == 2
    assert len(change.expelled) == 1
    assert change.generation == generation + 4
    assert changes(database, HUB_INTERFACE, change.generation) is None


def test_a_key_that_stays_out_has_a_reason(office):
    database = office.registry.database
    dot_code = office.registered(data=office.document("alpha"))
    key = make_identity("alpha").fingerprint
    assert why_not(database, make_identity("stranger").fingerprint) == Code.NOT_REGISTERED
    assert why_not(database, key) == Code.REGISTERED_INERT
    office.step(ACTIVATE, dot_code)
    assert why_not(database, key) is None
    office.step(REVOKE, dot_code)
    assert why_not(database, key) == Code.REVOKED


def test_a_governed_hub_must_be_active(office):
    database = office.registry.database
    check_hub(database, HUB.fingerprint, OBJECT)  # nothing governed: nothing asked
    document = office.document("west", key="another hub", role="hub")
    office.active(data=document, kind=HUB_IDENTITY)
    check_hub(database, make_identity("another hub").fingerprint, OBJECT)
    with pytest.raises(RegistryError, match="HUB_NOT_ACTIVE"):
        check_hub(database, HUB.fingerprint, OBJECT)


def waiting(watch: RosterWatch) -> bool:
    return bool(poll.select([watch], [], [], SEEN_S)[0])


def test_a_watch_sees_changes_within_a_second(office):
    database = office.registry.database
    _, generation = load(database, HUB_INTERFACE)
    with RosterWatch(database, HUB_INTERFACE, generation, HUB) as watch:
        dot_code = office.active(data=office.document("alpha"))
        begin = time.monotonic()
        assert waiting(watch)
        assert time.monotonic() - begin < SEEN_S
        (change,) = watch.take()
        assert [node.name for node in change.admitted] == ["alpha"]
        office.step(REVOKE, dot_code)
        assert waiting(watch)
        (change,) = watch.take()
        assert change.expelled == (make_identity("alpha").fingerprint,)
        assert watch.take() == []
        until = time.monotonic() + 5
        while office.count(schema.audit_checkpoint) == 0:
            assert time.monotonic() < until


def test_a_watch_says_why_and_outlives_an_absent_registry(office, caplog):
    database = office.registry.database
    caplog.set_level(logging.INFO, "m13.hub")
    office.registered(data=office.document("alpha"))
    _, generation = load(database, HUB_INTERFACE)
    with RosterWatch(database, HUB_INTERFACE, generation) as watch:
        watch.explain(parse_fingerprint(make_identity("alpha").fingerprint), "refused")
        wait_for(caplog, "refused (REGISTERED_INERT: 'm13 registry explain REGISTERED_INERT')")
        office.tamper("ALTER TABLE registry_generation RENAME TO elsewhere")
        wait_for(caplog, "E_REGISTRY_AWAY the roster stays as it is")
        office.tamper("ALTER TABLE elsewhere RENAME TO registry_generation")
        wait_for(caplog, "the registry is back")
        assert watch.take() == []


def wait_for(caplog, words: str) -> None:
    until = time.monotonic() + 5
    while words not in caplog.text:
        assert time.monotonic() < until, caplog.text
        time.sleep(0.02)
