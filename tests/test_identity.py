"""Identities on disk: whole, private, never overwritten, and every damage is named."""

import base64
import hashlib
import os
import stat

import pytest

from m13 import identity, pqc
from m13.errors import ConfigurationError

PROVIDER = pqc.choose()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "m13" / "identity"


def test_created_identity_loads_again_under_either_provider(path):
    made = identity.create(path, PROVIDER)
    assert identity.load(path, PROVIDER) == made
    assert identity.load(path, pqc.choose("pqcrypto")) == made
    digest = base64.b64encode(hashlib.sha256(made.public_key).digest()).decode().rstrip("=")
    assert made.fingerprint == "SHA256:" + digest
    for file in (path, identity.public_path(path)):
        assert identity.load_fingerprint(file, PROVIDER) == made.fingerprint


def test_modes_are_private_whatever_the_umask(path):
    before = os.umask(0)
    try:
        identity.create(path, PROVIDER)
    finally:
        os.umask(before)
    modes = [
        stat.S_IMODE(file.stat().st_mode)
        for file in (path.parent, path, identity.public_path(path))
    ]
    assert modes == [0o700, 0o600, 0o644]
    assert sorted(os.listdir(path.parent)) == ["identity", "identity.pub"]


def test_text_form_is_the_documented_one(path):
    made = identity.create(path, PROVIDER)
    seed = base64.b64encode(made.seed).decode()
    assert path.read_text() == f"M13-IDENTITY-1\n{seed}\n{made.fingerprint}\n"
    key = base64.b64encode(made.public_key).decode()
    public_text = identity.public_path(path).read_text()
    assert public_text == f"M13-PUBLIC-1 {key} {made.fingerprint}\n"


@pytest.mark.parametrize("existing", ["identity", "identity.pub"])
def test_nothing_is_ever_overwritten(path, existing):
    path.parent.mkdir()
    (path.parent / existing).write_text("mine")
    with pytest.raises(ConfigurationError, match="never overwritten"):
        identity.create(path, PROVIDER)
    assert os.listdir(path.parent) == [existing]
    assert (path.parent / existing).read_text() == "mine"


def test_seed_is_not_shown():
    assert "seed" not in repr(identity.Identity(b"secret", b"", "SHA256:x"))


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o620])
def test_identity_open_to_others_is_refused_with_the_command(path, mode):
    identity.create(path, PROVIDER)
    path.chmod(mode)
    with pytest.raises(ConfigurationError, match=f"chmod 600 {path}"):
        identity.load(path, PROVIDER)


@pytest.mark.parametrize(
    ("damaged", "said"),
    [
        ("", "not a key file"),
        ("M13-IDENTITY-2\n{seed}\n{print}\n", "not an identity"),
        ("M13-IDENTITY-1\n{seed}\n{print}\nmore\n", "not an identity"),
        ("M13-IDENTITY-1\r\n{seed}\r\n{print}\r\n", "not an identity"),
        ("M13-IDENTITY-1\nAAAA\n{print}\n", "not 32 bytes"),
        ("M13-IDENTITY-1\n*{seed}\n{print}\n", "not 32 bytes"),
        ("M13-IDENTITY-1\n" + "A" * 43 + "=\n{print}\n", "does not match"),
        ("M13-IDENTITY-1\n{seed}\n{print}A\n", "does not match"),
        ("M13-IDENTITY-1\n{seed}\n{print}\né", "not a key file"),
        ("{seed}\n" * 200, "not a key file"),
    ],
)
def test_damaged_identity_is_refused(path, damaged, said):
    made = identity.create(path, PROVIDER)
    seed = base64.b64encode(made.seed).decode()
    text = damaged.format(seed=seed, print=made.fingerprint)
    path.write_bytes(text.encode())
    with pytest.raises(ConfigurationError, match=said):
        identity.load(path, PROVIDER)


def test_damaged_public_key_is_refused(path):
    identity.create(path, PROVIDER)
    public = identity.public_path(path)
    header, key, fingerprint = public.read_text().split()
    for text in (f"{header} {key}", f"{header} AAAA {fingerprint}", f"{header} {key} {key[:50]}"):
        public.write_text(text)
        with pytest.raises(ConfigurationError):
            identity.load_fingerprint(public, PROVIDER)


def test_missing_file_directory_and_fifo_are_one_clear_line(path):
    with pytest.raises(ConfigurationError, match="run 'm13 keygen"):
        identity.load(path, PROVIDER)
    path.mkdir(parents=True)
    with pytest.raises(ConfigurationError, match="identity"):
        identity.load(path, PROVIDER)
    path.rmdir()
    os.mkfifo(path)
    with pytest.raises(ConfigurationError, match="not a key file"):
        identity.load(path, PROVIDER)


@pytest.mark.parametrize("change", ["", "x", " ", "="])
def test_fingerprint_is_read_only_as_it_is_written(change):
    digest = hashlib.sha256(b"key").digest()
    text = identity.format_fingerprint(digest)
    assert identity.parse_fingerprint(text) == digest
    for wrong in (text[:-1], text[7:], text.lower(), change and text + change):
        with pytest.raises(ValueError, match="not a fingerprint"):
            identity.parse_fingerprint(wrong)
