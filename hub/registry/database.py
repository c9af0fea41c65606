"""Opening the registry's database, and refusing one that cannot be trusted to enforce it."""

import os
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, NullPool, QueuePool, create_engine, event, inspect, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, OperationalError, SQLAlchemyError

from hub.registry.codes import Code, RegistryError
from hub.registry.schema import APPEND_ONLY, UNIQUE

DEFAULT_URL = "sqlite:////var/lib/m13/registry.db"
BUSY_SECONDS = 30
CONNECT_SECONDS = 5
POOL_CONNECTIONS = 2
TLS_MODES = {"require", "verify-ca", "verify-full"}
# Held through a transaction that numbers something: the audit's entries, tunnel addresses.
ADVISORY_LOCKS = {
    "audit": 0x4D13_0001,
    "address": 0x4D13_0002,
    "governance": 0x4D13_0003,
}


class Database:
    """Engines on one registry. `writing` begins with the write lock where that is one for all;
    `fresh` opens a connection each time, for a look that shares nothing with who wrote."""

    def __init__(self, location: str) -> None:
        self.url = parse_url(location)
        self.is_postgresql = self.url.get_backend_name() == "postgresql"
        self.engine = self._engine(QueuePool)
        self.fresh = self._engine(NullPool)
        self.writing = self.engine.execution_options(m13_writing=True)

    def __enter__(self) -> "Database":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.engine.dispose()
        self.fresh.dispose()

    def _engine(self, pool: type) -> Engine:
        options: dict[str, Any] = {}
        if pool is QueuePool:
            options = {"pool_size": POOL_CONNECTIONS, "max_overflow": 4}
        if self.is_postgresql:
            arguments = {
                "connect_timeout": CONNECT_SECONDS,
                "application_name": "m13-registry",
                "client_encoding": "utf8",
            }
            engine = create_engine(
                self.url, poolclass=pool, connect_args=arguments, pool_pre_ping=True, **options
            )
            event.listen(engine, "connect", _secure_postgresql)
            return engine
        arguments = {"timeout": BUSY_SECONDS, "check_same_thread": False}
        engine = create_engine(self.url, poolclass=pool, connect_args=arguments, **options)
        event.listen(engine, "connect", _durable_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return engine

    def lock(self, connection: Connection, what: str) -> None:
        """To the end of the transaction; on SQLite every writing transaction has the lock."""
        if self.is_postgresql:
            connection.execute(
                text("SELECT pg_advisory_xact_lock(:key)"), {"key": ADVISORY_LOCKS[what]}
            )


def parse_url(location: str) -> URL:
    """A path is SQLite's; RegistryError unless PostgreSQL is reached by socket or TLS."""
    if "://" not in location:
        return URL.create("sqlite", database=location)
    try:
        url = make_url(location)
    except ArgumentError as error:
        raise RegistryError(Code.REGISTRY_UNAVAILABLE, "the URL cannot be read") from error
    backend = url.get_backend_name()
    if backend == "sqlite" and url.database and url.database != ":memory:":
        return url
    if backend != "postgresql":
        raise RegistryError(
            Code.REGISTRY_UNAVAILABLE, "a registry is sqlite:///PATH or postgresql://..."
        )
    host = url.host or _first(url.query.get("host"))
    by_socket = host is None or host.startswith("/")
    if not by_socket and url.query.get("sslmode") not in TLS_MODES:
        raise RegistryError(Code.INSECURE_TRANSPORT, f"{host} without TLS")
    return url.set(drivername="postgresql+psycopg")


def _first(value: str | tuple[str, ...] | None) -> str | None:
    return value[0] if isinstance(value, tuple) else value


def _durable_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    connection.isolation_level = None  # BEGIN is ours to say, in _begin_sqlite
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "trusted_schema=OFF"):
        connection.execute(f"PRAGMA {pragma}").close()


def _begin_sqlite(connection: Connection) -> None:
    writing = connection.get_execution_options().get("m13_writing")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")


def _secure_postgresql(connection: Any, _record: object) -> None:
    """What the URL promised is checked on the connection that came of it."""
    try:
        _check_postgresql(connection)
    except BaseException:
        connection.close()
        raise
    connection.commit()


def _check_postgresql(connection: Any) -> None:
    by_socket = (connection.info.host or "/").startswith("/")
    if not by_socket and not connection.pgconn.ssl_in_use:
        raise RegistryError(Code.INSECURE_TRANSPORT, "the connection came up without TLS")
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT rolsuper OR rolreplication, current_setting('session_replication_role')"
            " FROM pg_roles WHERE rolname = current_user"
        )
        privileged, replication_role = cursor.fetchone()
        if privileged or replication_role != "origin":
            raise RegistryError(Code.PRIVILEGED_PATH_USED, "the role is above the triggers")
        cursor.execute("SET synchronous_commit = on")


def check_file(url: URL, *, new: bool = False) -> None:
    """An SQLite file that others may write is no registry."""
    path = Path(url.database or "")
    try:
        status = path.stat()
    except FileNotFoundError as error:
        if new:
            return
        raise RegistryError(
            Code.REGISTRY_UNAVAILABLE, f"no registry at {path}: run 'm13 registry init'"
        ) from error
    except OSError as error:
        raise RegistryError(Code.REGISTRY_UNAVAILABLE, f"{path}: {error.strerror}") from error
    if not stat.S_ISREG(status.st_mode) or status.st_mode & 0o022:
        raise RegistryError(Code.PRIVILEGED_PATH_USED, f"{path} can be written by others")


def create_file(url: URL) -> None:
    path = Path(url.database or "")
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))


def check_schema(database: Database) -> None:
    """RegistryError with IDENTITY_UNIQUE_ABSENT or AUDIT_SINK_UNAVAILABLE for a database that does
    not enforce what admission rests on."""
    with unavailable(), database.fresh.connect() as connection:
        inspector = inspect(connection)
        if not inspector.has_table("registry_fact"):
            raise RegistryError(
                Code.REGISTRY_UNAVAILABLE, "the database is empty: run 'm13 registry init'"
            )
        for table, wanted in UNIQUE.items():
            found = {tuple(inspector.get_pk_constraint(table)["constrained_columns"])}
            found |= {tuple(c["column_names"]) for c in inspector.get_unique_constraints(table)}
            found |= {
                tuple(str(name) for name in index["column_names"])
                for index in inspector.get_indexes(table)
                if index["unique"] and not index.get("dialect_options")
            }
            for columns in wanted:
                if columns not in found:
                    detail = f"{table} ({', '.join(columns)}) is not unique"
                    raise RegistryError(Code.IDENTITY_UNIQUE_ABSENT, detail)
        missing = missing_triggers(database, connection)
    if missing:
        raise RegistryError(Code.AUDIT_SINK_UNAVAILABLE, f"missing {', '.join(missing)}")


def missing_triggers(database: Database, connection: Connection) -> list[str]:
    """Those that make the append-only tables so, and rows inert at birth."""
    wanted = {f"{table}_no_{verb}" for table in APPEND_ONLY for verb in ("update", "delete")}
    wanted |= {"dot_tools_inert", "dot_tools_status", "runtime_gate_change"}
    query = "SELECT name FROM sqlite_master WHERE type = 'trigger'"
    if database.is_postgresql:
        query = "SELECT tgname FROM pg_trigger WHERE NOT tgisinternal AND tgenabled IN ('O', 'A')"
    return sorted(wanted - set(connection.execute(text(query)).scalars()))


@contextmanager
def unavailable() -> Iterator[None]:
    """A database that cannot be used becomes one line."""
    try:
        yield
    except OperationalError as error:
        line = str(error.orig).strip().splitlines()[0] if error.orig else "no answer"
        raise RegistryError(Code.REGISTRY_UNAVAILABLE, line) from error
    except DBAPIError as error:
        raise RegistryError(Code.REGISTRY_UNAVAILABLE, type(error).__name__) from error
    except SQLAlchemyError as error:
        raise RegistryError(Code.REGISTRY_UNAVAILABLE, str(error).splitlines()[0]) from error
