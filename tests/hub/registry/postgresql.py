"""A PostgreSQL server of the tests' own: a Unix socket in a private directory, nothing else."""

import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

START_S = 30
OWNER = "m13"  # an ordinary role, as the registry wants it


def binaries() -> Path | None:
    """Of Debian's newest; None where the package is not installed."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=_version)
    return found[-1].parent if found else None


def _version(path: Path) -> int:
    return int(path.parts[-3])


class Server:
    """With `with`. Runs as `postgres` when we are root, which the server refuses to be."""

    def __init__(self, port: int = 0, certificate: tuple[bytes, bytes] | None = None) -> None:
        """A port of loopback besides the socket, and with a certificate and its key also TLS."""
        found = binaries()
        assert found
        self.binaries = found
        self.directory = Path(tempfile.mkdtemp(prefix="m13-pg-"))
        self._port, self._certificate = port, certificate
        self._user = pwd.getpwnam("postgres").pw_uid if os.geteuid() == 0 else None
        self._number = 0

    def __enter__(self) -> "Server":
        if self._user is not None:
            os.chown(self.directory, self._user, -1)
            # as /var/run/postgresql: a hub's registry thread has no right to look past modes
            self.directory.chmod(0o755)
        data = self.directory / "data"
        self._run("initdb", "-D", str(data), "-U", "postgres", "-A", "trust", "-N", "-E", "UTF8")
        words = [str(self.binaries / "postgres"), "-D", str(data), *self._settings()]
        with (self.directory / "log").open("wb") as log:
            self.process = subprocess.Popen(words, user=self._user, stdout=log, stderr=log, cwd="/")
        self._wait()
        self.administer(f"CREATE ROLE {OWNER} LOGIN CREATEDB", f"CREATE DATABASE {OWNER}")
        self.administer(f"ALTER DATABASE {OWNER} OWNER TO {OWNER}")
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()  # SIGTERM: waits for clients, of which none is left
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.send_signal(3)
            self.process.wait()
        shutil.rmtree(self.directory, ignore_errors=True)

    def url(self, database: str, role: str = OWNER) -> str:
        return f"postgresql://{role}@/{database}?host={quote(str(self.directory), safe='')}"

    def create(self, template: str = "template1") -> str:
        """A new database, a copy of the template; its name."""
        self._number += 1
        name = f"registry_{self._number}"
        self.administer(f"CREATE DATABASE {name} TEMPLATE {template} OWNER {OWNER}")
        return name

    def drop(self, name: str) -> None:
        self.administer(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    def administer(self, *statements: str, database: str = "postgres") -> None:
        """As the superuser, past every rule."""
        import psycopg

        place = {"host": str(self.directory), "user": "postgres", "dbname": database}
        if self._port:
            place["port"] = str(self._port)
        with psycopg.connect(**place, autocommit=True) as connection:  # type: ignore[arg-type]
            for statement in statements:
                connection.execute(statement)  # type: ignore[arg-type]

    def _tls(self) -> dict[str, str]:
        if not self._certificate:
            return {}
        names = ("server.crt", "server.key")
        for name, text in zip(names, self._certificate, strict=True):
            path = self.directory / "data" / name
            path.write_bytes(text)
            path.chmod(0o600)
            if self._user is not None:
                os.chown(path, self._user, -1)
        return {"ssl": "on"}

    def _settings(self) -> Sequence[str]:
        settings = {
            "listen_addresses": "127.0.0.1" if self._port else "",
            **({"port": str(self._port)} if self._port else {}),
            **self._tls(),
            "unix_socket_directories": str(self.directory),
            "max_connections": "200",
            "shared_buffers": "32MB",
            "autovacuum": "off",
            "log_min_messages": "fatal",
        }
        return [f"--{name}={value}" for name, value in settings.items()]

    def _run(self, program: str, *words: str) -> None:
        subprocess.run(
            [str(self.binaries / program), *words],
            user=self._user,
            check=True,
            capture_output=True,
            cwd="/",
            env={**os.environ, "LC_ALL": "C"},
        )

    def _wait(self) -> None:
        until = time.monotonic() + START_S
        while True:
            try:
                self.administer("SELECT 1")
                return
            except Exception:
                assert self.process.poll() is None, (self.directory / "log").read_text()
                assert time.monotonic() < until
                time.sleep(0.05)
