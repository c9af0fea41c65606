"""The artifact store: what is hashed is what was opened, and only beneath the store."""

import os
import threading
from pathlib import Path

import pytest

from hub.registry.codes import Refused
from hub.registry.envelope import NODE_IDENTITY, RequestProposed
from hub.registry.resolve import resolve
from hub.registry.store import ArtifactStore, NotProven
from m13 import enrollment
from m13.canonical import digest
from m13.errors import HostError
from tests.hub.registry.office import PROVIDER, make_identity

ANN = make_identity("ann")
OPERATORS = {ANN.fingerprint: ANN.public_key}


def document(name: str) -> bytes:
    return enrollment.write(make_identity(name), PROVIDER, name, "node")


@pytest.fixture
def store(tmp_path: Path):
    with ArtifactStore(tmp_path / "store") as opened:
        yield opened


def test_what_was_deployed_is_carried(store):
    data = document("alpha")
    path = store.deploy(data, NODE_IDENTITY, ANN, PROVIDER)
    carrier = store.carrier(path, OPERATORS, PROVIDER)
    assert (carrier.data, carrier.artifact_hash) == (data, digest(data))
    assert store.deploy(data, NODE_IDENTITY, ANN, PROVIDER) == path
    assert not list(store.directory.rglob(".*"))  # nothing half-written stays


@pytest.mark.parametrize("target", ["inside", "outside"])
def test_a_folder_that_is_a_symlink_is_not_followed(store, tmp_path, target):
    """Manifest and hash are right: only the way there is not."""
    places = {"inside": store.directory / "real", "outside": tmp_path / "real"}
    place = places.get(target, tmp_path / "real")
    place.mkdir()
    (store.directory / "linked").symlink_to(place if target != "inside" else "real")
    path = store.deploy(document("alpha"), "linked", ANN, PROVIDER)
    with pytest.raises(NotProven, match="cannot be opened beneath the store"):
        store.carrier(path, OPERATORS, PROVIDER)
    (store.directory / "linked").unlink()
    place.rename(store.directory / "linked")
    assert store.carrier(path, OPERATORS, PROVIDER)


def test_a_file_that_is_a_symlink_is_not_followed(store):
    path = store.deploy(document("alpha"), NODE_IDENTITY, ANN, PROVIDER)
    file = store.directory / path
    file.rename(file.with_name("real"))
    file.symlink_to("real")
    with pytest.raises(NotProven, match="a symlink"):
        store.carrier(path, OPERATORS, PROVIDER)


@pytest.mark.parametrize("kind", ["fifo", "folder"])
def test_what_is_no_file_is_neither_read_nor_waited_for(store, kind):
    path = store.deploy(document("alpha"), NODE_IDENTITY, ANN, PROVIDER)
    (store.directory / path).unlink()
    (os.mkfifo if kind == "fifo" else os.mkdir)(store.directory / path)
    with pytest.raises(NotProven, match="is not a file"):
        store.carrier(path, OPERATORS, PROVIDER)


def test_an_artifact_exchanged_meanwhile_is_never_trusted_for_another(store):
    good, evil = document("alpha"), document("mallory")
    path = store.deploy(good, NODE_IDENTITY, ANN, PROVIDER)
    file, stop = store.directory / path, threading.Event()

    def exchange() -> None:
        while not stop.is_set():
            for data in (evil, good):
                other = file.with_name("other")
                other.write_bytes(data)
                os.replace(other, file)

    request = RequestProposed(path, digest(good), "sha256", "1", NODE_IDENTITY, "test", "T-1")
    thread = threading.Thread(target=exchange)
    thread.start()
    outcomes = set()
    try:
        for _ in range(400):
            try:
                trusted = resolve(request, store, OPERATORS, PROVIDER)
            except Refused as refusal:
                outcomes.add(str(refusal.code))
            else:
                outcomes.add(trusted.name)
    finally:
        stop.set()
        thread.join()
    assert outcomes == {"alpha", "HASH_MISMATCH"}


def test_the_store_keeps_its_directory_when_the_name_moves(store, tmp_path):
    path = store.deploy(document("alpha"), NODE_IDENTITY, ANN, PROVIDER)
    store.directory.rename(tmp_path / "moved")
    (tmp_path / "store").mkdir()
    assert store.carrier(path, OPERATORS, PROVIDER)


def test_a_store_that_cannot_be_is_one_line(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(HostError, match="cannot use the store"):
        ArtifactStore(tmp_path / "file")
