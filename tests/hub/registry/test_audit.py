"""The audit proves itself: edits, cuts and reorders are found, an entry can be shown to others."""

import copy
import hashlib
import json

import pytest
from sqlalchemy import select

from hub.registry import audit, audit_proof, schema
from hub.registry.chain import MerkleTree, inclusion_path, leaf_hash, root_of_path
from hub.registry.codes import RegistryError
from tests.hub.registry.office import HUB, PROVIDER, Office, make_identity

EVENTS = "event_outbox"


def sign(office: Office, signer=HUB):
    return audit.checkpoint(office.registry.database, signer, PROVIDER)


def found(office: Office, kept=()) -> str:
    with pytest.raises(RegistryError, match="AUDIT_CHAIN_BROKEN") as broken:
        audit_proof.verify(office.registry, kept)
    return str(broken.value)


def unlock(office: Office) -> None:
    for verb in ("update", "delete"):
        office.drop_trigger(f"{EVENTS}_no_{verb}", EVENTS)


def test_an_untouched_audit_holds(office):
    office.active()
    made = sign(office)
    assert sign(office) is None  # nothing was added
    office.registered()
    sign(office)
    size, checkpoints = audit_proof.verify(office.registry)
    assert (size, checkpoints) == (len(office.events()), 2)
    assert made.tree_size < size


@pytest.mark.parametrize(
    "column",
    ["payload", "event", "reject_codes", "run_id", "recorded_at_ms", "subject", "entry_hash"],
)
def test_an_edit_is_found(office, column):
    office.active()
    unlock(office)
    value = 1 if column == "recorded_at_ms" else "'x'"
    office.tamper(f"UPDATE {EVENTS} SET {column} = {value} WHERE sequence = 5")
    assert "edit: entry 5 " in found(office)


def test_an_edit_that_repairs_its_own_hash_is_found_by_the_next(office):
    from hub.registry.chain import entry_hash

    office.active()
    unlock(office)
    table = schema.event_outbox
    entry = dict(office.one(select(table).where(table.c.sequence == 5))._mapping)
    entry["subject"] = "somebody"
    office.tamper(
        f"UPDATE {EVENTS} SET subject = 'somebody', entry_hash = '{entry_hash(entry)}'"
        " WHERE sequence = 5"
    )
    assert "order: entry 6 does not follow" in found(office)


def test_a_cut_is_found_in_the_middle_and_at_the_end(office):
    office.active()
    last = len(office.events())
    sign(office)
    unlock(office)
    office.tamper(f"DELETE FROM {EVENTS} WHERE sequence = 7")
    assert "cut: entry 7 is not there" in found(office)
    office.tamper(f"DELETE FROM {EVENTS} WHERE sequence > {last - 2}")
    assert f"to {last} are gone" in found(office)


def test_a_cut_with_its_checkpoint_is_found_by_effects_and_by_a_kept_checkpoint(office):
    office.active()
    sign(office)
    with office.registry.database.fresh.connect() as connection:
        kept = audit_proof.checkpoints(connection)
    unlock(office)
    office.drop_trigger("audit_checkpoint_no_delete", "audit_checkpoint")
    office.tamper("DELETE FROM audit_checkpoint")
    last = len(office.events())
    office.tamper(f"DELETE FROM {EVENTS} WHERE sequence = {last}")
    assert "untold: activate_dot of node." in found(office)
    assert f"cut: entry {last} to {last} are gone" in found(office, kept)


def test_a_reorder_is_found(office):
    office.active()
    unlock(office)
    office.tamper(
        f"UPDATE {EVENTS} SET sequence = 1000 WHERE sequence = 5",
        f"UPDATE {EVENTS} SET sequence = 5 WHERE sequence = 6",
        f"UPDATE {EVENTS} SET sequence = 6 WHERE sequence = 1000",
    )
    assert "edit: entry 5 " in found(office)


def test_a_rewritten_chain_is_found_by_the_checkpoint(office):
    """Whoever owns the database can make the chain anew, but not the hub's signature."""
    from hub.registry.chain import entry_hash

    office.active()
    sign(office)
    unlock(office)
    previous = None
    for row in office.events():
        entry = dict(row._mapping)
        if entry["sequence"] == 5:
            entry["subject"] = "somebody"
        entry["previous_hash"] = previous or entry["previous_hash"]
        previous = entry_hash(entry)
        office.tamper(
            f"UPDATE {EVENTS} SET subject = '{entry['subject']}', entry_hash = '{previous}',"
            f" previous_hash = '{entry['previous_hash']}' WHERE sequence = {entry['sequence']}"
        )
    assert "the entries up to it are others" in found(office)


def test_a_checkpoint_by_anybody_else_is_found(office):
    office.active()
    sign(office, make_identity("ann"))
    assert "no hub's signature" in found(office)


@pytest.mark.parametrize("which", [1, 2, 9, -1])
def test_an_inclusion_proof_holds_without_the_registry(office, which):
    office.active()
    sign(office)
    last = len(office.events())
    number = which if which > 0 else last
    proof = json.loads(json.dumps(audit_proof.prove(office.registry, number)))
    entry = audit_proof.check_proof(proof, HUB.fingerprint, PROVIDER)
    assert entry["event"] == office.events()[number - 1].event
    office.registered()
    with pytest.raises(RegistryError, match="no checkpoint covers"):
        audit_proof.prove(office.registry, last + 1)
    for place, value in (
        (("entry", "subject"), "somebody"),
        (("entry", "sequence"), 99),
        (("checkpoint", "root"), "0" * 64),
        (("checkpoint", "tree_size"), last + 1),
        (("hub_public_key",), ""),
        (("path",), []),
        (("path",), "x"),
        (("entry",), None),
    ):
        forged = copy.deepcopy(proof)
        where = forged
        for word in place[:-1]:
            where = where[word]
        where[place[-1]] = value
        with pytest.raises(RegistryError, match="AUDIT_CHAIN_BROKEN"):
            audit_proof.check_proof(forged, HUB.fingerprint, PROVIDER)
    with pytest.raises(RegistryError, match="AUDIT_CHAIN_BROKEN"):
        audit_proof.check_proof(proof, make_identity("ann").fingerprint, PROVIDER)


def reference_root(leaves: list[bytes]) -> bytes:
    """RFC 6962, section 2.1, as it is written there."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    left, right = reference_root(leaves[:split]), reference_root(leaves[split:])
    return hashlib.sha256(b"\x01" + left + right).digest()


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 5, 7, 8, 9, 31, 64, 100])
def test_the_tree_is_that_of_the_rfc(count):
    leaves = [leaf_hash(hashlib.sha256(bytes([n])).hexdigest()) for n in range(count)]
    tree = MerkleTree()
    for leaf in leaves:
        tree.append(leaf)
    assert tree.root() == reference_root(leaves).hex()
    for index, leaf in enumerate(leaves):
        assert root_of_path(leaf, inclusion_path(leaves, index)) == tree.root()
        if count > 1:
            wrong = leaves[index - 1]
            assert root_of_path(wrong, inclusion_path(leaves, index)) != tree.root()
