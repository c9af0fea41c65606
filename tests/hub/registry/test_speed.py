"""How fast admission is, with durability on: bounds for a machine that has nothing else to do."""

import time
from ipaddress import IPv4Interface

import pytest
from sqlalchemy import text

from hub.registry.roster import load
from m13.handshake_process import HandshakeWorker, hub_configuration
from native.channel import Channel
from tests.hub.registry.office import HUB, Office

REGISTRATIONS = 1000
PER_MINUTE_MIN = 1000
ROWS = 100_000
LOAD_SECONDS_MAX = 2.0
WIDE = IPv4Interface("10.0.0.1/8")

pytestmark = pytest.mark.soak

KEY = {
    "sqlite": "'SHA256:' || substr('{zeros}' || i, -42) || 'A'".format(zeros="0" * 42),
    "postgresql": "'SHA256:' || lpad(i::text, 42, '0') || 'A'",
}
INSERT = """
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows})
INSERT INTO dot_tools
SELECT 'node.' || i, 'node_identity', 'h' || i, 'sha256', '1', 'p', 'o', 'r', 'c', {key}, 'k',
       'n' || i, 167772161 + i, 'watch', 'owner', 'active', 1, 'a' || i, 'l' || i, 'l' || i, 2, 0
FROM n
"""


def per_minute(office: Office, count: int) -> float:
    """Enrolled documents to verified rows, approvals of two operators and all."""
    documents = [office.document() for _ in range(count)]
    begin = time.perf_counter()
    for data in documents:
        assert office.register(office.request(data)).succeeded
    return 60 * count / (time.perf_counter() - begin)


def test_a_thousand_are_registered_in_a_minute(office, capsys):
    rate = per_minute(office, REGISTRATIONS)
    with capsys.disabled():
        print(f"\n{rate:.0f} registrations a minute")
    assert rate > PER_MINUTE_MIN


def fill(office: Office, backend: str) -> None:
    """Rows as if long registered, past every rule, because there is no quick way within them."""
    statement = INSERT.format(rows=ROWS, key=KEY[backend])
    office.drop_trigger("dot_tools_inert", "dot_tools")
    if backend == "postgresql":
        names = ("attempt_id", "logical_request_key", "change_ref")
        drops = [f"ALTER TABLE dot_tools DROP CONSTRAINT dot_tools_{name}_fkey" for name in names]
        office.tamper(*drops, statement)
        return
    with office.registry.database.fresh.connect() as connection:
        connection.rollback()
        connection.connection.driver_connection.execute("PRAGMA foreign_keys = OFF")
        connection.execute(text(statement))
        connection.commit()


def test_a_hundred_thousand_rows_load_in_two_seconds(office, backend, capsys):
    fill(office, backend)
    begin = time.perf_counter()
    nodes, _ = load(office.registry.database, WIDE)
    took = time.perf_counter() - begin
    assert len(nodes) == ROWS
    # and on to the worker process that answers handshakes with them
    begin = time.perf_counter()
    configuration = hub_configuration(HUB, [node.entry() for node in nodes])
    with Channel.create() as link, HandshakeWorker(link, configuration):
        serving = time.perf_counter() - begin
    with capsys.disabled():
        print(
            f"\n{backend}: {ROWS} rows in {took:.2f} s, with the worker in {took + serving:.2f} s"
        )
    assert took < LOAD_SECONDS_MAX, took
