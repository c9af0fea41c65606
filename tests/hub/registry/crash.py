"""A process that is killed at a chosen statement boundary, and what may be left of it."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sqlalchemy import event, text

from hub.registry import schema
from hub.registry.desk import activation as activation_of
from hub.registry.desk import look_after
from hub.registry.envelope import ACTIVATE, Decision
from hub.registry.lifecycle import carry_out
from hub.registry.proposal import standing
from hub.registry.register import VERIFIED, register
from hub.registry.registry import Registry
from tests.hub.registry.office import Office, Request

# Called before and after each of these, on every connection of the process.
BOUNDARIES = ("before_cursor_execute", "after_cursor_execute", "commit", "rollback", "begin")
NEVER = 1 << 30


class Countdown:
    """Kills the process with SIGKILL at the n-th boundary it passes."""

    def __init__(self, at: int) -> None:
        self.at, self.passed = at, 0

    def step(self, *_: object, **__: object) -> None:
        self.passed += 1
        if self.passed == self.at:
            os.kill(os.getpid(), signal.SIGKILL)

    def watch(self, registry: Registry) -> None:
        for engine in (registry.database.engine, registry.database.fresh):
            for name in BOUNDARIES:
                event.listen(engine, name, self.step)
            # after the database said that it committed, before anybody heard
            _after_commit(engine, self.step)


def _after_commit(engine: Any, step: Callable[..., None]) -> None:
    original = engine.dialect.do_commit

    def do_commit(connection: Any) -> None:
        original(connection)
        step()

    engine.dialect.do_commit = do_commit


def in_child(work: Callable[[], int]) -> int:
    """Wait status of a child that ends with what `work` returns."""
    child = os.fork()
    if not child:
        status = 99
        try:
            status = work()
        finally:
            os._exit(status)
    return os.waitpid(child, 0)[1]


def life(location: str, store: Path, request: Request, activation: Any, at: int) -> int:
    """A registration and its activation under a countdown; the boundaries passed go to a file, and
    the exit status says what was reported done: 1 the registration, 2 the activation, 3 both."""
    reported = 0
    with Registry(location, store, check=False) as registry:
        countdown = Countdown(at)
        countdown.watch(registry)
        keys = request.keys
        done = register(registry, request.proposed, request.apr_ref, keys)
        (store / f"reported-{at}").write_text("registered" if done.succeeded else "")
        reported |= done.succeeded
        wish, apr_ref, keys = activation
        done = carry_out(registry, wish, apr_ref, keys)
        reported |= 2 * done.succeeded
        (store / f"reported-{at}").write_text("activated" if done.succeeded else "registered")
        (store / "boundaries").write_text(str(countdown.passed))
    return reported


# What there must be none of, asked in SQL that shares nothing with the implementation.
BROKEN = {
    "a consume without its row": """
        SELECT count(*) FROM consumed_request c WHERE c.action = 'register_dot' AND NOT EXISTS
        (SELECT 1 FROM dot_tools d WHERE d.logical_request_key = c.logical_request_key)""",
    "a row without its consume": """
        SELECT count(*) FROM dot_tools d WHERE NOT EXISTS (SELECT 1 FROM consumed_request c
        WHERE c.logical_request_key = d.logical_request_key AND c.attempt_id = d.attempt_id)""",
    "a row without its attempt": """
        SELECT count(*) FROM dot_tools d WHERE NOT EXISTS
        (SELECT 1 FROM attempt a WHERE a.attempt_id = d.attempt_id)""",
    "a consume without its attempt": """
        SELECT count(*) FROM consumed_request c WHERE NOT EXISTS
        (SELECT 1 FROM attempt a WHERE a.attempt_id = c.attempt_id)""",
    "an active row that was not verified": """
        SELECT count(*) FROM dot_tools d WHERE d.status = 'active' AND NOT EXISTS
        (SELECT 1 FROM event_outbox e WHERE e.event = 'verified'
         AND e.logical_request_key = d.logical_request_key)""",
    "an active row that no request activated": """
        SELECT count(*) FROM dot_tools d WHERE d.status = 'active' AND NOT EXISTS
        (SELECT 1 FROM consumed_request c WHERE c.action = 'activate_dot'
         AND c.logical_request_key = d.change_ref)""",
}


def assert_whole(office: Office) -> None:
    with office.registry.database.fresh.connect() as connection:
        found = {what: connection.scalar(text(query)) for what, query in BROKEN.items()}
    assert found == dict.fromkeys(BROKEN, 0)


def assert_reported_is_audited(
    office: Office, request: Request, activation: Any, said: str
) -> None:
    wanted = {
        "": [],
        "registered": [(request.keys.logical_request_key, VERIFIED)],
        "activated": [
            (request.keys.logical_request_key, VERIFIED),
            (activation[0].key, "changed"),
        ],
    }[said]
    table = schema.event_outbox
    for key, name in wanted:
        assert office.count(table, table.c.logical_request_key == key, table.c.event == name)


def retried(office: Office, request: Request, activation: Any) -> list[Decision]:
    """The same request in a new attempt, to its end, and what crashes left looked after."""
    keys = standing(office.registry, request.apr_ref).keys()
    again = register(office.registry, request.proposed, request.apr_ref, keys)
    wish, apr_ref, _ = activation
    keys = standing(office.registry, apr_ref).keys()
    then = carry_out(office.registry, wish, apr_ref, keys)
    return [again, then, *look_after(office.registry)]


def prepared_life(office: Office) -> tuple[Request, Any]:
    """A registration and an activation, both approved, neither tried."""
    data = office.document()
    request = office.request(data)
    wish = activation_of(office.wish(data))
    assert wish.action == ACTIVATE
    apr_ref = office.approved(wish)
    return request, (wish, apr_ref, standing(office.registry, apr_ref).keys())
