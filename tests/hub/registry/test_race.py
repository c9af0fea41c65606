"""Sixteen registrars at once, on the same keys and on different ones: one row a key."""

import dataclasses
import random
from collections import Counter

import pytest
from sqlalchemy import func, select

from hub.registry import audit_proof, schema
from tests.hub.registry.crash import assert_whole
from tests.hub.registry.office import Office, Request, attempt_id
from tests.hub.registry.steps import race

REGISTRARS = 16
ATTEMPTS, ATTEMPTS_FULL = 480, 10_000
SEED = 7


def fresh_attempts(requests: list[Request], count: int, chosen: random.Random) -> list[Request]:
    """Requests at random, each in an attempt of its own."""
    made = []
    for request in chosen.choices(requests, k=count):
        keys = dataclasses.replace(request.keys, attempt_id=attempt_id())
        made.append(dataclasses.replace(request, keys=keys))
    return made


def contend(office: Office, attempts: int) -> Counter[str]:
    """Half of the attempts on a few keys that all want, half on keys of a registrar's own."""
    chosen = random.Random(SEED)
    wanted_by_all = [office.request() for _ in range(4)]
    each = attempts // REGISTRARS
    own_each = max(each // 20, 1)
    shares = []
    for _ in range(REGISTRARS):
        own = [office.request() for _ in range(own_each)]
        tries = fresh_attempts(wanted_by_all, each // 2, chosen)
        tries += fresh_attempts(own, each - each // 2 - own_each, chosen)
        tries += own
        chosen.shuffle(tries)
        shares.append(tries)
    outcomes = Counter(race(office, shares))
    assert outcomes.total() == each * REGISTRARS
    keys = len(wanted_by_all) + REGISTRARS * own_each
    assert outcomes == {"DONE": keys, "REPLAY_DUPLICATE": each * REGISTRARS - keys}
    table = schema.dot_tools
    with office.registry.database.fresh.connect() as connection:
        counted = connection.execute(
            select(func.count(), func.count(table.c.logical_request_key.distinct())).select_from(
                table
            )
        ).one()
    assert tuple(counted) == (keys, keys)
    assert_whole(office)
    audit_proof.verify(office.registry)
    return outcomes


def test_racing_registrars_give_one_row_a_key(office):
    contend(office, ATTEMPTS)


@pytest.mark.soak
def test_ten_thousand_racing_attempts_give_one_row_a_key(office):
    contend(office, ATTEMPTS_FULL)


def test_racing_identities_give_one_row_an_identity(office):
    """Different requests, all approved, for one key: the identity axis decides."""
    requests = [office.request(office.document(f"n{n}", key="same")) for n in range(8)]
    outcomes = Counter(race(office, requests))
    assert outcomes == {"DONE": 1, "REJECTED": 7}
    rejected = [row.reject_codes for row in office.events("rejected")]
    assert rejected == ['["IDENTITY_DUPLICATE"]'] * 7


def test_racing_nodes_get_addresses_of_their_own(office):
    requests = [office.request() for _ in range(12)]
    assert Counter(race(office, requests)) == {"DONE": 12}
    table = schema.dot_tools
    with office.registry.database.fresh.connect() as connection:
        addresses = connection.execute(select(table.c.tunnel_address)).scalars().all()
    assert len(set(addresses)) == 12
