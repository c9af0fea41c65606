"""Proving the audit: the whole of it against its checkpoints, and one entry to a third party."""

import base64
from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import Connection, exists, select

from hub.registry import audit, schema
from hub.registry.chain import (
    ENTRY_FIELDS,
    FIRST_PREVIOUS,
    MerkleTree,
    entry_hash,
    inclusion_path,
    leaf_hash,
    root_of_path,
)
from hub.registry.codes import Code, RegistryError
from hub.registry.database import unavailable
from hub.registry.registry import Registry
from m13 import pqc
from m13.canonical import canonical, parse_canonical
from m13.identity import fingerprint

FINDINGS_MAX = 20
OUTCOMES = ("registered", "changed")


def verify(registry: Registry, kept: Iterable[Mapping[str, Any]] = ()) -> tuple[int, int]:
    """(entries, checkpoints) that hold. RegistryError with AUDIT_CHAIN_BROKEN and what was found:
    an edit, a cut, a reorder, a false checkpoint. `kept`: checkpoints from elsewhere, as
    `checkpoints` returns them; only they show a cut of entries and their checkpoints together."""
    findings: list[str] = []
    with unavailable(), registry.database.engine.connect() as connection:
        signers = hub_keys(connection)
        known = [*checkpoints(connection), *kept]
        roots = {checkpoint["tree_size"]: checkpoint["root"] for checkpoint in known}
        size = _walk(connection, known, findings)
        for checkpoint in known:
            _check_signature(checkpoint, signers, registry.provider, findings)
        findings += [f"cut: entry {size + 1} to {last} are gone" for last in roots if last > size]
        findings += _untold(connection)
    if findings:
        more = f" and {len(findings) - FINDINGS_MAX} more" if len(findings) > FINDINGS_MAX else ""
        raise RegistryError(Code.AUDIT_CHAIN_BROKEN, "; ".join(findings[:FINDINGS_MAX]) + more)
    return size, len(known)


def _walk(connection: Connection, known: Iterable[Mapping[str, Any]], findings: list[str]) -> int:
    """Chain and Merkle roots; how many entries there are."""
    by_size: dict[int, list[Mapping[str, Any]]] = {}
    for checkpoint in known:
        by_size.setdefault(checkpoint["tree_size"], []).append(checkpoint)
    tree, previous, expected = MerkleTree(), FIRST_PREVIOUS, 1
    for entry in audit.entries(connection):
        if entry["sequence"] != expected:
            findings.append(f"cut: entry {expected} is not there")
            expected = entry["sequence"]
        hashed = entry_hash(entry)
        if hashed != entry["entry_hash"]:
            findings.append(f"edit: entry {expected} is not what was hashed")
        if entry["previous_hash"] != previous:
            findings.append(f"order: entry {expected} does not follow the one before it")
        tree.append(leaf_hash(hashed))
        findings += [
            f"checkpoint {expected}: the entries up to it are others"
            for checkpoint in by_size.get(expected, ())
            if (tree.root(), hashed) != (checkpoint["root"], checkpoint["head_hash"])
        ]
        previous, expected = entry["entry_hash"], expected + 1
    return expected - 1


def _untold(connection: Connection) -> list[str]:
    """Effects without an audit entry that tells of them: cut from its end, or a crash that
    `m13 registry verify` has not looked after yet."""
    consumed, table = schema.consumed_request, schema.event_outbox
    told = exists().where(
        table.c.logical_request_key == consumed.c.logical_request_key, table.c.event.in_(OUTCOMES)
    )
    rows = connection.execute(select(consumed.c.action, consumed.c.subject).where(~told))
    return [f"untold: {row.action} of {row.subject} has no entry" for row in rows]


def checkpoints(connection: Connection) -> list[dict[str, Any]]:
    """As they were signed, smallest first."""
    table = schema.audit_checkpoint
    found = []
    for row in connection.execute(select(table).order_by(table.c.tree_size)):
        try:
            body = dict(parse_canonical(row.body.encode()))
        except (ValueError, TypeError):
            body = {"created_at": 0, "registry_id": ""}
        # what was signed is the body; the columns beside it must say the same
        head = body.get("head_hash", "")
        place = {"tree_size": row.tree_size, "root": row.root, "head_hash": head}
        signature = base64.b64encode(row.signature).decode()
        found.append({**body, **place, "signer": row.signer, "signature": signature})
    return found


def hub_keys(connection: Connection) -> dict[str, bytes]:
    """Keys that may have signed a checkpoint: the hub's of init, and every hub identity verified
    since."""
    key, row = schema.governance_key, schema.dot_tools
    keys = {
        entry.fingerprint: bytes(entry.public_key)
        for entry in connection.execute(select(key).where(key.c.role == "hub"))
    }
    hubs = row.c.artifact_type == "hub_identity"
    activated = row.c.change_ref.is_not(None)
    for entry in connection.execute(select(row).where(hubs, activated)):
        keys[entry.identity] = base64.b64decode(entry.public_key)
    return keys


def _check_signature(
    checkpoint: Mapping[str, Any],
    signers: Mapping[str, bytes],
    provider: pqc.Provider,
    findings: list[str],
) -> None:
    key = signers.get(checkpoint["signer"])
    if key is None or not _signed_by(checkpoint, key, provider):
        findings.append(f"checkpoint {checkpoint['tree_size']}: no hub's signature")


def _signed_by(checkpoint: Mapping[str, Any], key: bytes, provider: pqc.Provider) -> bool:
    fields = ("created_at", "head_hash", "registry_id", "root", "tree_size")
    try:
        body = canonical({name: checkpoint[name] for name in fields})
        signature = base64.b64decode(str(checkpoint["signature"]), validate=True)
    except (KeyError, ValueError):
        return False
    return provider.verify(key, body, audit.CHECKPOINT_CONTEXT, signature)


def prove(registry: Registry, sequence: int) -> dict[str, Any]:
    """An inclusion proof of one entry under the newest checkpoint; needs no registry to check."""
    with unavailable(), registry.database.engine.connect() as connection:
        covering = [c for c in checkpoints(connection) if c["tree_size"] >= sequence]
        if sequence < 1 or not covering:
            raise RegistryError(
                Code.AUDIT_SINK_UNAVAILABLE,
                f"no checkpoint covers entry {sequence}: run 'm13 registry audit checkpoint'",
            )
        checkpoint = covering[-1]
        listed = list(audit.entries(connection, checkpoint["tree_size"]))
        key = hub_keys(connection).get(checkpoint["signer"], b"")
    leaves = [leaf_hash(entry["entry_hash"]) for entry in listed]
    return {
        "entry": {name: listed[sequence - 1][name] for name in ENTRY_FIELDS},
        "path": [list(step) for step in inclusion_path(leaves, sequence - 1)],
        "checkpoint": checkpoint,
        "hub_public_key": base64.b64encode(key).decode(),
    }


def check_proof(proof: Any, hub_key: str, provider: pqc.Provider) -> dict[str, Any]:
    """The entry a proof proves; RegistryError when it proves none. `hub_key` is the fingerprint of
    the hub that is trusted to sign: the proof's own word for it would be worth nothing."""
    try:
        checkpoint, entry = proof["checkpoint"], proof["entry"]
        key = base64.b64decode(proof["hub_public_key"], validate=True)
        root = root_of_path(leaf_hash(entry_hash(entry)), proof["path"])
        holds = root == checkpoint["root"] and fingerprint(key) == hub_key == checkpoint["signer"]
        signed = holds and _signed_by(checkpoint, key, provider)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RegistryError(Code.AUDIT_CHAIN_BROKEN, "this is no inclusion proof") from error
    if not signed:
        raise RegistryError(Code.AUDIT_CHAIN_BROKEN, "the proof does not hold")
    return dict(entry)
