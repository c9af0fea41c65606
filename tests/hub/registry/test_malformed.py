"""Malformed requests, manifests and identity documents: refused with a code, never an exception."""

import dataclasses
import json
import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hub.registry.codes import Code, Refused
from hub.registry.envelope import NODE_IDENTITY, RequestProposed
from hub.registry.resolve import resolve, sniff
from hub.registry.store import MANIFEST_SUFFIX, ArtifactStore
from m13 import enrollment
from m13.canonical import canonical, digest
from tests.hub.registry.office import PROVIDER, Office, make_identity

OPERATORS = {make_identity("ann").fingerprint: make_identity("ann").public_key}
FIELDS = [field.name for field in dataclasses.fields(RequestProposed)]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=40),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=8,
)
PHASE_0 = {
    Code.MASS_REGISTRATION_ATTEMPTED,
    Code.REQUEST_MALFORMED,
    Code.SOURCE_NOT_DEPLOYED,
    Code.HASH_MISMATCH,
    Code.ARTIFACT_TYPE_MISMATCH,
}
MANY = settings(
    max_examples=400, deadline=None, suppress_health_check=list(HealthCheck), database=None
)


@pytest.fixture(scope="module")
def deployed(tmp_path_factory):
    """A store with one artifact, and the request that is right for it."""
    folder = tmp_path_factory.mktemp("store")
    data = enrollment.write(make_identity("alpha"), PROVIDER, "alpha", "node")
    with ArtifactStore(folder) as store:
        path = store.deploy(data, NODE_IDENTITY, make_identity("ann"), PROVIDER)
        yield store, data, dict(zip(FIELDS, request_of(path, data), strict=True))


def request_of(path: str, data: bytes) -> tuple[str, ...]:
    return (path, digest(data), "sha256", "1", NODE_IDENTITY, "test", "T-1")


def verdict(store, value) -> Code | None:
    try:
        resolve(RequestProposed.parse(value), store, OPERATORS, PROVIDER)
    except Refused as error:
        refusal = error
    else:
        return None
    assert refusal.phase == 0
    assert refusal.code in PHASE_0
    return refusal.code


def test_the_right_request_is_resolved(deployed):
    store, _, request = deployed
    assert verdict(store, request) is None


@MANY
@given(value=JSON)
def test_anything_for_a_request_is_refused(deployed, value):
    assert verdict(deployed[0], value) is not None


@MANY
@given(field=st.sampled_from(FIELDS), value=JSON)
def test_anything_in_a_field_is_refused_or_changes_nothing_that_is_trusted(deployed, field, value):
    store, _, request = deployed
    code = verdict(store, {**request, field: value})
    if field in ("origin", "admission_ref"):
        valid = isinstance(value, str) and 0 < len(value) <= 512
        assert code is None or not valid or not (value.isascii() and value.isprintable())
    else:
        assert code is not None or value == request[field]


@MANY
@given(
    parts=st.lists(
        st.sampled_from(["..", ".", "", "node_identity", "~", "\0", "%2e", "a" * 300]), max_size=5
    )
)
def test_no_path_leads_out_of_the_store(deployed, parts):
    store, _, request = deployed
    path = "/".join(parts)
    assert verdict(store, {**request, "artifact_path": path}) is not None


def mutations(data: bytes, count: int, seed: int):
    chosen = random.Random(seed)
    for _ in range(count):
        changed = bytearray(data)
        for _ in range(chosen.randint(1, 4)):
            place = chosen.randrange(len(changed))
            how = chosen.randrange(4)
            if how == 0:
                changed[place] ^= 1 << chosen.randrange(8)
            elif how == 1:
                del changed[place : place + chosen.randint(1, 40)]
            elif how == 2:
                changed[place:place] = bytes(chosen.randbytes(chosen.randint(1, 9)))
            else:
                end = chosen.randrange(len(changed))
                changed[place : place + 8] = changed[end : end + 8]
        if bytes(changed) != data:
            yield bytes(changed)


@pytest.mark.parametrize("what", ["manifest", "artifact"])
def test_a_mutated_store_is_never_trusted(deployed, tmp_path, what):
    _, data, request = deployed
    with ArtifactStore(tmp_path / "store") as store:
        path = store.deploy(data, NODE_IDENTITY, make_identity("ann"), PROVIDER)
        file = store.directory / (path + (MANIFEST_SUFFIX if what == "manifest" else ""))
        original = file.read_bytes()
        assert verdict(store, request) is None
        for changed in mutations(original, 600, 1):
            file.write_bytes(changed)
            assert verdict(store, request) is not None, changed


def test_a_mutated_document_proves_nothing(deployed):
    _, data, _ = deployed
    for changed in mutations(data, 1500, 2):
        kind, *_ = sniff(changed, PROVIDER)
        assert kind.startswith("unknown content"), changed


@pytest.mark.parametrize(
    "change",
    [
        {"name": "beta"},
        {"role": "hub"},
        {"created_at": 0},
        {"extra": 1},
        {"name": "../../etc"},
        {"format": "M13-IDENTITY-DOCUMENT-2"},
    ],
)
def test_nothing_of_a_document_can_be_changed_after_signing(deployed, change):
    outer = json.loads(deployed[1])
    outer["document"] |= change
    with pytest.raises(ValueError, match=r"document|name|format|time|proof"):
        enrollment.read(canonical(outer), PROVIDER)


def test_a_document_signed_by_another_key_is_none(deployed):
    outer = json.loads(deployed[1])
    other = json.loads(enrollment.write(make_identity("beta"), PROVIDER, "beta", "node"))
    outer["document"]["public_key"] = other["document"]["public_key"]
    with pytest.raises(ValueError, match="proof of possession"):
        enrollment.read(canonical(outer), PROVIDER)


def test_a_registration_never_raises(office: Office):
    chosen = random.Random(3)
    request = office.request()
    for _ in range(40):
        value: object = dict(request.proposed)
        for _ in range(chosen.randint(1, 3)):
            odd = chosen.choice([None, 1, "", "x" * 600, [], {}, "\ud800", "é", True])
            value[chosen.choice([*FIELDS, "extra"])] = odd  # type: ignore[index]
        request.proposed = value
        decision = office.register(request)
        assert decision.outcome == "REJECTED"
        assert office.events()[-1].event == "rejected"
        request = office.request() if chosen.random() < 0.1 else request
        request.proposed = office.deploy(office.document("again"))
