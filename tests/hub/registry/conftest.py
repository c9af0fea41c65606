"""Every test of admission runs on both databases, on a fresh registry each time."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hub.registry.registry import Registry
from tests.hub.registry.office import Office, begin
from tests.hub.registry.postgresql import Server, binaries

BACKENDS = ("sqlite", "postgresql")


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    if binaries() is None:
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    with Server() as running:
        yield running


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("template") / "registry.db"
    begin(str(path))
    return path


@pytest.fixture(scope="session")
def sqlite_open(sqlite_template: Path) -> Path:
    path = sqlite_template.with_name("open.db")
    shutil.copyfile(sqlite_template, path)
    path.chmod(0o600)
    open_gates(str(path), path.parent)
    return path


@pytest.fixture(scope="session")
def postgresql_template(server: Server) -> str:
    name = server.create()
    begin(server.url(name))
    return name


@pytest.fixture(scope="session")
def postgresql_open(server: Server, postgresql_template: str, sqlite_template: Path) -> str:
    name = server.create(postgresql_template)
    open_gates(server.url(name), sqlite_template.parent)
    return name


def open_gates(location: str, folder: Path) -> None:
    with Registry(location, folder / "store") as registry:
        Office(registry, location).open_gates()


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@contextmanager
def copied(request: pytest.FixtureRequest, backend: str, folder: Path, word: str) -> Iterator[str]:
    """The location of a registry of its own, a copy of a template."""
    template = request.getfixturevalue(f"{backend}_{word}")
    if backend == "sqlite":
        shutil.copyfile(template, folder / "registry.db")
        (folder / "registry.db").chmod(0o600)
        yield str(folder / "registry.db")
        return
    server = request.getfixturevalue("server")
    name = server.create(template)
    yield server.url(name)
    server.drop(name)


@pytest.fixture
def location(request: pytest.FixtureRequest, backend: str, tmp_path: Path) -> Iterator[str]:
    """A registry as it is after init: held, with every gate closed."""
    with copied(request, backend, tmp_path, "template") as place:
        yield place


@pytest.fixture
def held(location: str, tmp_path: Path) -> Iterator[Office]:
    with Registry(location, tmp_path / "store") as registry:
        yield Office(registry, location)


@pytest.fixture
def office(request: pytest.FixtureRequest, backend: str, tmp_path: Path) -> Iterator[Office]:
    """The hold is lifted and every gate is open."""
    with (
        copied(request, backend, tmp_path, "open") as place,
        Registry(place, tmp_path / "store") as registry,
    ):
        yield Office(registry, place)
