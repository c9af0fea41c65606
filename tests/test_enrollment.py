"""Identity documents: what their writer proves, and how the command makes them."""

import json
from pathlib import Path

import pytest

from m13 import enrollment, identity, pqc
from m13.canonical import canonical
from tests.test_cli import m13

PROVIDER = pqc.choose()


@pytest.fixture
def me(tmp_path: Path) -> identity.Identity:
    return identity.create(tmp_path / "identity", PROVIDER)


def test_a_document_tells_name_role_and_key(me):
    document = enrollment.read(enrollment.write(me, PROVIDER, "alpha", "hub"), PROVIDER)
    assert (document.name, document.role) == ("alpha", "hub")
    assert (document.public_key, document.fingerprint) == (me.public_key, me.fingerprint)


def test_two_documents_of_one_key_differ(me):
    written = {enrollment.write(me, PROVIDER, "alpha", "node") for _ in range(2)}
    assert len(written) == 2


@pytest.mark.parametrize(("name", "role"), [("", "node"), ("a/b", "node"), ("a", "king")])
def test_a_name_no_registry_takes_is_not_written(me, name, role):
    with pytest.raises(ValueError, match="a name is"):
        enrollment.write(me, PROVIDER, name, role)


def test_a_document_without_possession_is_refused(me, tmp_path):
    other = identity.create(tmp_path / "other", PROVIDER)
    outer = json.loads(enrollment.write(me, PROVIDER, "alpha", "node"))
    theirs = json.loads(enrollment.write(other, PROVIDER, "alpha", "node"))
    outer["document"]["public_key"] = theirs["document"]["public_key"]
    with pytest.raises(ValueError, match="proof of possession"):
        enrollment.read(canonical(outer), PROVIDER)


def test_the_command_writes_a_request_and_nothing_over_another(me, tmp_path):
    request = tmp_path / "alpha.request"
    key = str(tmp_path / "identity")
    done = m13("enroll", str(request), "--identity", key, "--name", "alpha")
    assert (done.returncode, done.stdout.strip()) == (0, me.fingerprint)
    assert enrollment.read(request.read_bytes(), PROVIDER).name == "alpha"
    again = m13("enroll", str(request), "--identity", key, "--name", "alpha")
    assert again.returncode == 2
    assert "cannot write" in again.stderr
