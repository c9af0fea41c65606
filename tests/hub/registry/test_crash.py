"""SIGKILL at statement boundaries of every phase: what is left is whole, and a retry is clean."""

import random

import pytest
from sqlalchemy import event

from hub.registry import audit_proof, schema
from hub.registry.desk import look_after
from hub.registry.registry import Registry
from tests.hub.registry.crash import (
    NEVER,
    assert_reported_is_audited,
    assert_whole,
    in_child,
    life,
    prepared_life,
    retried,
)
from tests.hub.registry.office import Office

SEED = 20261121
POINTS, POINTS_FULL = 60, 400
KILLED = 9


def boundaries(office: Office) -> int:
    """How many boundaries a whole life passes."""
    store = office.registry.store.directory
    request, activation = prepared_life(office)
    status = in_child(lambda: life(office.location, store, request, activation, NEVER))
    assert status == 3 << 8, status
    return int((store / "boundaries").read_text())


def crash_and_retry(office: Office, at: int) -> str:
    """One point of the matrix; what had been reported before the kill."""
    store = office.registry.store.directory
    request, activation = prepared_life(office)
    status = in_child(lambda: life(office.location, store, request, activation, at))
    assert status == KILLED, (at, status)
    report = store / f"reported-{at}"
    said = report.read_text() if report.exists() else ""
    assert_whole(office)
    assert_reported_is_audited(office, request, activation, said)
    decisions = retried(office, request, activation)
    assert {decision.outcome for decision in decisions} <= {"DONE", "REPLAY_DUPLICATE"}, at
    assert office.status(request.dot_code) == "active"
    assert_whole(office)
    assert_reported_is_audited(office, request, activation, "activated")
    report.unlink(missing_ok=True)
    return said


def matrix(office: Office, points: int) -> None:
    last = boundaries(office)
    assert 60 < last <= POINTS_FULL, last  # every phase has its statements
    print(f"{last} boundaries, {points} points")
    chosen = random.Random(SEED)
    every = list(range(1, last + 1))
    # the long form has every boundary, and more at random; the brief one every part of the way
    places = every + chosen.choices(every, k=max(points - last, 0))
    if points < last:
        places = [chosen.choice(every[n * last // points :][:2]) for n in range(points)]
    said = {crash_and_retry(office, at) for at in places}
    assert said == {"", "registered"}  # what was killed never came to report the activation
    audit_proof.verify(office.registry)
    lives = office.count(schema.dot_tools)
    assert lives == len(places) + 1


def test_a_kill_at_some_boundary_leaves_the_registry_whole(office):
    matrix(office, POINTS)


@pytest.mark.soak
def test_a_kill_at_every_boundary_leaves_the_registry_whole(office):
    matrix(office, POINTS_FULL)


def test_boundaries_are_of_every_phase(office):
    """The matrix would prove nothing if it did not pass the writes it is about."""
    seen = []
    event.listen(
        office.registry.database.engine,
        "before_cursor_execute",
        lambda _c, _cursor, statement, *_: seen.append(statement),
    )
    office.active()
    for words in (
        "INSERT INTO consumed_request",
        "INSERT INTO attempt",
        "INSERT INTO dot_tools",
        "INSERT INTO event_outbox",
        "UPDATE dot_tools",
    ):
        assert any(statement.startswith(words) for statement in seen), words


def test_what_a_crash_left_is_finished_without_its_approvals(office):
    """Killed right after the commit; the approvals count no more; 'registry verify' mends it."""
    store = office.registry.store.directory
    request, activation = prepared_life(office)
    place = first_unaudited(office, store)
    status = in_child(lambda: life(office.location, store, request, activation, place))
    assert status == KILLED
    assert office.status(request.dot_code) == "inert"
    office.tamper("UPDATE governance_key SET state = 'revoked' WHERE role = 'operator'")
    with Registry(office.location, store, check=False) as registry:
        assert [decision.outcome for decision in look_after(registry)] == ["DONE"]
        assert look_after(registry) == []


def first_unaudited(office: Office, store) -> int:
    """The first boundary after whose kill there is a row that no audit entry tells of."""
    for at in range(1, 200):
        request, activation = prepared_life(office)
        in_child(lambda at=at, r=request, a=activation: life(office.location, store, r, a, at))
        if office.count(schema.dot_tools, schema.dot_tools.c.dot_code == request.dot_code):
            retried(office, request, activation)
            return at
    raise AssertionError("no such boundary")
