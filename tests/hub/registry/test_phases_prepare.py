"""The test cases of the phase model for phases 0 to 2, by their names, on both databases."""

import dataclasses
import importlib
import json
from pathlib import Path

import pytest
from sqlalchemy import insert, select, update

import hub.registry
from hub.registry import schema
from hub.registry.codes import Code
from hub.registry.envelope import ACTIVATE, HUB_IDENTITY, NODE_IDENTITY, REGISTER, XDP_OBJECT
from hub.registry.proposal import standing
from hub.registry.store import MANIFEST_SUFFIX
from tests.hub.registry.office import Office, attempt_id, make_identity
from tests.hub.registry.steps import codes, interface, race

BASH = b"#!/bin/bash\necho registered\n"


# --- phase 0 --------------------------------------------------------------------------------------


@pytest.mark.parametrize("many", ["*", "node_identity/[0-9a-f]*", ["a", "b"], {"a": "b"}])
def test_T_P0_1_glob_input(office, many):
    request = office.request()
    request.proposed["artifact_path"] = many
    assert codes(office, request) == (Code.MASS_REGISTRATION_ATTEMPTED,)
    request.proposed = [request.proposed, request.proposed]
    assert codes(office, request) == (Code.MASS_REGISTRATION_ATTEMPTED,)


@pytest.mark.parametrize("gone", ["artifact", "manifest", "signature"])
def test_T_P0_2_caller_hash_only(office, gone):
    request = office.request()
    path = office.registry.store.directory / request.proposed["artifact_path"]
    manifest = path.with_name(path.name + MANIFEST_SUFFIX)
    if gone == "signature":  # by somebody who is no operator
        manifest.unlink()
        office.registry.store.deploy(
            path.read_bytes(), NODE_IDENTITY, make_identity("stranger"), office.registry.provider
        )
    else:
        (path if gone == "artifact" else manifest).unlink()
    assert codes(office, request) == (Code.SOURCE_NOT_DEPLOYED,)


@pytest.mark.parametrize("how", ["another hash", "drift", "algorithm", "canonicalization"])
def test_T_P0_3_carrier_hash_differs(office, how):
    request = office.request()
    if how == "another hash":
        request.proposed["artifact_hash"] = "0" * 64
    elif how == "drift":
        path = office.registry.store.directory / request.proposed["artifact_path"]
        path.write_bytes(office.document("somebody"))
    elif how == "algorithm":
        request.proposed["hash_algorithm"] = "md5"
    else:
        request.proposed["canonicalization_version"] = "2"
    assert codes(office, request) == (Code.HASH_MISMATCH,)


@pytest.mark.parametrize(
    ("data", "kind"),
    [(BASH, XDP_OBJECT), (BASH, NODE_IDENTITY), (b"export {}\n", XDP_OBJECT), (b"", XDP_OBJECT)],
)
def test_T_P0_4_type_is_not_the_contents(office, data, kind):
    request = office.request()
    request.proposed = office.deploy(data, kind)
    assert codes(office, request) == (Code.ARTIFACT_TYPE_MISMATCH,)
    node = office.document()
    request.proposed = office.deploy(node, HUB_IDENTITY)
    assert codes(office, request) == (Code.ARTIFACT_TYPE_MISMATCH,)


@pytest.mark.parametrize(
    "how", ["..", "/", "//", "./", "symlink", "symlinked folder", "out of the store", "folder"]
)
def test_T_P0_5_path_is_not_canonical(office, tmp_path, how):
    request = office.request()
    store = office.registry.store.directory
    path = request.proposed["artifact_path"]
    folder, _, name = path.partition("/")
    written = {
        "..": f"{folder}/../{path}",
        "/": str(store / path),
        "//": f"{folder}//{name}",
        "./": f"./{path}",
        "symlink": f"{folder}/link",
        "symlinked folder": f"linked/{name}",
        "out of the store": f"outside/{name}",
        "folder": folder,
    }[how]
    (store / folder / "link").symlink_to(name)
    (store / folder / f"link{MANIFEST_SUFFIX}").symlink_to(name + MANIFEST_SUFFIX)
    (store / "linked").symlink_to(folder)
    (store / folder).rename(tmp_path / "elsewhere") if how == "out of the store" else None
    (store / "outside").symlink_to(tmp_path / "elsewhere")
    request.proposed["artifact_path"] = written
    assert codes(office, request) == (Code.SOURCE_NOT_DEPLOYED,)


# --- phase 1 --------------------------------------------------------------------------------------


def test_T_P1_1_owner_absent(office):
    data = Path(hub.__file__).with_name("steer.bpf.o").read_bytes()
    request = office.request(data, XDP_OBJECT)
    office.tamper("UPDATE governance_object_ownership SET is_head = false")
    assert codes(office, request) == (Code.OWNER_ABSENT,)


def test_T_P1_2_register_dot_absent(office):
    request = office.request()
    missing = dataclasses.replace(request, apr_ref="0" * 64)
    assert codes(office, missing) == (Code.APR_NOT_BOUND_TO_ARTIFACT,)
    # the same artifact, the same operators, another action
    wish = dataclasses.replace(office.wish(office.document("other")), action=ACTIVATE)
    request = office.request(office.document("other"))
    request.apr_ref = office.approved(wish)
    assert codes(office, request) == (Code.APR_NOT_BOUND_TO_ARTIFACT,)


@pytest.mark.parametrize("altered", ["another artifact", "body", "address", "registry"])
def test_T_P1_3_approval_of_another_artifact(office, altered):
    request, other = office.request(), office.request()
    if altered == "another artifact":
        request.apr_ref = other.apr_ref
    elif altered == "address":
        request.tunnel_address = "10.13.7.7"
    elif altered == "registry":  # what the same operators approved for another registry
        body = json.loads(office.one(approval_body(request)).body)
        nonce = attempt_id()
        request.apr_ref = interface(
            office, {**body, "registry_id": "another", "authorization_nonce": nonce}
        )
        request.keys = dataclasses.replace(request.keys, authorization_nonce=nonce)
    else:
        office.drop_trigger("approval_request_no_update", "approval_request")
        body = office.one(
            select(schema.approval_request.c.body).where(
                schema.approval_request.c.apr_ref == other.apr_ref
            )
        ).body
        with office.registry.database.writing.begin() as connection:
            table = schema.approval_request
            connection.execute(
                update(table).where(table.c.apr_ref == request.apr_ref).values(body=body)
            )
    assert codes(office, request) == (Code.APR_NOT_BOUND_TO_ARTIFACT,)


@pytest.mark.parametrize(
    "how", ["none", "one of two", "one twice", "forged", "stranger", "revoked", "expired"]
)
def test_T_P1_4_quorum_not_proven(office, how):
    by = {
        "none": (),
        "one of two": ("ann",),
        "one twice": ("ann", "ann"),
        "revoked": ("ann", "ben"),
    }.get(how)
    seconds = {"seconds": -1} if how == "expired" else {}
    if how == "expired":
        data = office.document()
        request = office.request(data)
        request.apr_ref = office.approved(
            dataclasses.replace(office.wish(data), tunnel_address="10.13.0.9"), **seconds
        )
        request.keys = standing(office.registry, request.apr_ref).keys()
        request.tunnel_address = "10.13.0.9"
    else:
        request = office.request(by=by if by is not None else ("ann",))
    if how in ("forged", "stranger"):
        signature = office.one(
            select(schema.approval.c.signature).where(schema.approval.c.apr_ref == request.apr_ref)
        ).signature
        approver = "ben" if how == "forged" else "stranger"
        with office.registry.database.writing.begin() as connection:
            if how == "stranger":
                key = make_identity("stranger")
                known = {"name": "x", "owner": "another", "role": "operator", "state": "active"}
                connection.execute(
                    insert(schema.governance_key).values(
                        fingerprint=key.fingerprint, public_key=key.public_key, added_at=0, **known
                    )
                )
            connection.execute(
                insert(schema.approval).values(
                    apr_ref=request.apr_ref,
                    approver=make_identity(approver).fingerprint,
                    signature=signature,
                    created_at=0,
                )
            )
    if how == "revoked":
        office.tamper("UPDATE governance_key SET state = 'revoked' WHERE name = 'ben'")
    assert codes(office, request) == (Code.QUORUM_NOT_PROVEN,)


# --- phase 2 --------------------------------------------------------------------------------------


def test_T_P2_1_nonce_reuse(office):
    first, second = office.request(), office.request()
    assert office.register(first).succeeded
    keys, nonce = second.keys, first.keys.authorization_nonce
    for wrong in (nonce, "", "another"):
        second.keys = dataclasses.replace(keys, authorization_nonce=wrong)
        assert codes(office, second) == (Code.NONCE_UNBOUND,)
    # a nonce has one approval request, so a second use of it must come from elsewhere
    second.keys = keys
    consume_elsewhere(office, second)
    assert codes(office, second) == (Code.REPLAY_NONCE_CONSUMED,)


def consume_elsewhere(office: Office, request) -> None:
    with office.registry.database.writing.begin() as connection:
        connection.execute(
            insert(schema.consumed_request).values(
                attempt_id=attempt_id(),
                logical_request_key="another",
                authorization_nonce=request.keys.authorization_nonce,
                apr_ref=request.apr_ref,
                action="open_gate",
                subject="another",
                decision="{}",
                consumed_at=0,
            )
        )


def test_T_P2_2_fresh_nonce_same_effect(office):
    data = office.document()
    first = office.request(data)
    decision = office.register(first)
    assert decision.succeeded
    wish = office.wish(data)
    apr_ref = office.approved(wish)
    assert apr_ref != first.apr_ref
    again = dataclasses.replace(
        first, apr_ref=apr_ref, keys=standing(office.registry, apr_ref).keys()
    )
    assert again.keys.authorization_nonce != first.keys.authorization_nonce
    replay = office.register(again)
    assert (replay.outcome, replay.reject_codes) == ("REPLAY_DUPLICATE", (Code.REPLAY_DUPLICATE,))
    assert replay.prior["keys"]["attempt_id"] == first.keys.attempt_id
    assert replay.prior["dot_code"] == first.dot_code
    assert office.count(schema.dot_tools) == 1


@pytest.mark.parametrize("how", ["attempt in the key", "attempt as key", "attempt again"])
def test_T_P2_3_attempt_no_bypass(office, how):
    request = office.request()
    assert office.register(request).succeeded
    body = json.loads(office.one(approval_body(request)).body)
    attempt = attempt_id()
    if how == "attempt again":
        other = office.request()
        other.keys = dataclasses.replace(other.keys, attempt_id=request.keys.attempt_id)
        assert codes(office, other) == (Code.REPLAY_ATTEMPT_NO_BYPASS,)
        return
    key = attempt if how == "attempt as key" else f"{request.keys.logical_request_key}-2"
    request.apr_ref = interface(
        office, {**body, "logical_request_key": key, "authorization_nonce": attempt_id()[:20]}
    )
    nonce = standing(office.registry, request.apr_ref).keys().authorization_nonce
    request.keys = dataclasses.replace(
        request.keys, logical_request_key=key, authorization_nonce=nonce, attempt_id=attempt
    )
    assert codes(office, request) == (Code.REPLAY_ATTEMPT_NO_BYPASS,)


def approval_body(request):
    table = schema.approval_request
    return select(table.c.body).where(table.c.apr_ref == request.apr_ref)


def test_T_P2_4_concurrent_attempts(office):
    request = office.request()
    outcomes = race(office, [request] * 8)
    assert sorted(outcomes) == ["DONE"] + ["REPLAY_DUPLICATE"] * 7
    attempts = office.count(schema.attempt, schema.attempt.c.action == REGISTER)
    assert office.count(schema.dot_tools) == attempts == 1


def test_every_named_case_exists():
    found = {*globals(), *vars(importlib.import_module("tests.hub.registry.test_phases_write"))}
    names = {name[5:11].replace("_", "-") for name in found if name.startswith("test_T_P")}
    counts = {0: 5, 1: 4, 2: 4, 3: 4, 4: 4, 5: 3, 6: 3}
    assert names == {f"T-P{p}-{n}" for p, count in counts.items() for n in range(1, count + 1)}
    assert sum(counts.values()) == 27
