"""Phase 3: the one atomic write: the consume, one inert row, the attempt, or nothing of them."""

import ipaddress
from collections.abc import Callable

from sqlalchemy import Connection, func, insert, select
from sqlalchemy.exc import SQLAlchemyError

from hub.registry import integrity, schema
from hub.registry.codes import Code, Refused
from hub.registry.database import Database
from hub.registry.envelope import (
    NODE_IDENTITY,
    ConsumeRecord,
    RegisteredRowIntent,
    WriteDecision,
)

PHASE = 3


def refuse_activation(intent: RegisteredRowIntent) -> None:
    """The intent is inert, or it is not written at all."""
    if intent.opens_gates:
        raise Refused(Code.WOULD_OPEN_GATE, f"opens {', '.join(intent.opens_gates)}", PHASE)
    if intent.status != "inert":
        # tier watch and status active together are the notify condition
        detail = f"status {intent.status}, tier {intent.tier}"
        raise Refused(Code.ACTIVATION_AT_REGISTRATION, detail, PHASE)


def write_inert(
    database: Database,
    intent: RegisteredRowIntent,
    consume: Callable[[Connection], ConsumeRecord],
    now: int,
) -> WriteDecision:
    """`consume` is phase 2's step, run first within this transaction."""
    refuse_activation(intent)
    try:
        with database.writing.begin() as connection:
            consume(connection)
            _refuse_while_held(connection)
            address = _tunnel_address(database, connection, intent)
            connection.execute(insert(schema.dot_tools).values(**_row(intent, address, now)))
    except SQLAlchemyError as error:
        raise integrity.refusal(error, PHASE) from error
    return WriteDecision(
        dot_code=intent.dot_code,
        status=intent.status,
        tunnel_address=str(ipaddress.IPv4Address(address)) if address is not None else "",
        attempt_id=intent.keys.attempt_id,
        logical_request_key=intent.keys.logical_request_key,
    )


def _refuse_while_held(connection: Connection) -> None:
    gate = schema.runtime_gate
    hold = gate.c.name == schema.REGISTRATION_HOLD
    if not connection.scalar(select(gate.c.is_open).where(hold)):
        raise Refused(Code.REGISTRATION_HOLD, "the registry is held", PHASE)


def _row(intent: RegisteredRowIntent, address: int | None, now: int) -> dict[str, object]:
    trusted = intent.trusted
    return {
        "dot_code": intent.dot_code,
        "artifact_type": trusted.artifact_type,
        "artifact_hash": trusted.artifact_hash,
        "hash_algorithm": trusted.hash_algorithm,
        "canonicalization_version": trusted.canonicalization_version,
        "canonical_path": trusted.canonical_path,
        "origin": trusted.origin,
        "admission_ref": trusted.admission_ref,
        "source_carrier_ref": trusted.source_carrier_ref,
        "identity": trusted.identity,
        "public_key": trusted.public_key,
        "name": trusted.name,
        "tunnel_address": address,
        "tier": intent.tier,
        "owner": intent.owner,
        "status": intent.status,
        "revision": 0,
        "attempt_id": intent.keys.attempt_id,
        "logical_request_key": intent.keys.logical_request_key,
        "change_ref": None,
        "changed_generation": 0,
        "registered_at": now,
    }


def _tunnel_address(
    database: Database, connection: Connection, intent: RegisteredRowIntent
) -> int | None:
    """The one asked for, or the one after the highest given; holes are filled only at the end."""
    if intent.trusted.artifact_type != NODE_IDENTITY:
        return None
    facts = schema.registry_fact
    subnet = connection.scalar(select(facts.c.value).where(facts.c.name == "subnet"))
    hub = ipaddress.IPv4Interface(str(subnet))
    first, last = int(hub.network.network_address), int(hub.network.broadcast_address)
    if intent.tunnel_address:
        wanted = ipaddress.IPv4Address(intent.tunnel_address)
        if wanted == hub.ip or not first < int(wanted) < last:
            detail = f"{wanted} is the hub's own or outside {hub.network}"
            raise Refused(Code.ADDRESS_TAKEN, detail, PHASE)
        return int(wanted)
    database.lock(connection, "address")
    table = schema.dot_tools
    held = table.c.status.in_(("inert", "active"))
    highest = connection.scalar(select(func.max(table.c.tunnel_address)).where(held))
    following = max(highest or first, first) + 1
    following += following == int(hub.ip)
    if following < last:
        return following
    taken = set(connection.execute(select(table.c.tunnel_address).where(held)).scalars())
    taken.add(int(hub.ip))
    free = next((address for address in range(first + 1, last) if address not in taken), None)
    if free is None:
        raise Refused(Code.ADDRESS_EXHAUSTED, f"{hub.network} is full", PHASE)
    return free
