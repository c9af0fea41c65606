"""The way to PostgreSQL over a network: TLS, or not at all. Real servers on loopback."""

import datetime
import ipaddress
import socket
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from sqlalchemy import text

from hub.registry.codes import RegistryError
from hub.registry.database import Database, unavailable
from tests.hub.registry.postgresql import OWNER, Server, binaries

pytestmark = pytest.mark.skipif(binaries() is None, reason="PostgreSQL is not installed")


def certificate() -> tuple[bytes, bytes]:
    """One for 127.0.0.1 that vouches for itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    place = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.IPv4Address("127.0.0.1"))])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(place, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    secret = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return made.public_bytes(serialization.Encoding.PEM), secret


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def is_encrypted(location: str) -> bool:
    with Database(location) as database, unavailable(), database.fresh.connect() as connection:
        query = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
        return bool(connection.scalar(text(query)))


def test_tls_is_taken_and_its_absence_is_not(tmp_path: Path, monkeypatch) -> None:
    port, pair = free_port(), certificate()
    trusted = tmp_path / "ca.pem"
    trusted.write_bytes(pair[0])
    place = f"postgresql://{OWNER}@127.0.0.1:{port}/{OWNER}"
    with Server(port, pair):
        assert is_encrypted(f"{place}?sslmode=require")
        assert is_encrypted(f"{place}?sslmode=verify-full&sslrootcert={trusted}")
        with pytest.raises(RegistryError, match="INSECURE_TRANSPORT"):
            is_encrypted(place)
        # a host that the URL does not show is seen on the connection
        for name, value in (("PGHOST", "127.0.0.1"), ("PGPORT", port), ("PGSSLMODE", "disable")):
            monkeypatch.setenv(name, str(value))
        with pytest.raises(RegistryError, match="INSECURE_TRANSPORT: the connection came up"):
            is_encrypted(f"postgresql://{OWNER}@/{OWNER}")


def test_a_server_without_tls_is_not_spoken_to_in_the_clear() -> None:
    port = free_port()
    with Server(port), pytest.raises(RegistryError, match="REGISTRY_UNAVAILABLE"):
        is_encrypted(f"postgresql://{OWNER}@127.0.0.1:{port}/{OWNER}?sslmode=require")
