"""Bad arguments: one line, the documented exit status, nothing changed on the machine.

node up0 ─── wan0 hub (each command runs in the namespace of its role)
"""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.bed import Bed
from bench.tunnel import SCRIPTS, Keys
from tests.netns.conftest import laid_out

USAGE, CONFIGURATION, HOST = 2, 3, 1
HUB_FILES = "--identity {keys}/hub --nodes {keys}/nodes.toml"
NODE_FILES = "--identity {keys}/node --hub-key {pin}"

HUB_ROWS = [
    ("", USAGE),
    ("--tunnel", USAGE),
    ("wan0", USAGE),
    ("wan0 -i net0 --tunnel", USAGE),
    ("nosuch0 --tunnel " + HUB_FILES, USAGE),
    ("lo --tunnel " + HUB_FILES, USAGE),
    ("lo0/../x --tunnel " + HUB_FILES, USAGE),
    ("wan0 --tunnel --nonsense", USAGE),
    ("wan0 --tunnel --port 0 " + HUB_FILES, USAGE),
    ("wan0 --tunnel --port 65536 " + HUB_FILES, USAGE),
    ("wan0 --tunnel --listen https " + HUB_FILES, USAGE),
    ("wan0 --tunnel --single-queue 900 " + HUB_FILES, USAGE),
    ("wan0 --tunnel --workers 0 " + HUB_FILES, USAGE),
    ("wan0 --tunnel --workers 2 " + HUB_FILES, USAGE),  # more than it has receive queues
    ("wan0 --tunnel --workers 2 --rx udp " + HUB_FILES, USAGE),
    ("wan0 --tunnel --workers 2 --single-queue 0 " + HUB_FILES, USAGE),
    ("wan0 --tunnel --subnet 10.13.0.300/24 " + HUB_FILES, USAGE),
    ("wan0 --tunnel --subnet 10.13.0.0/24 " + HUB_FILES, USAGE),
    ("wan0 --tunnel --mtu 100 " + HUB_FILES, USAGE),
    ("wan0 --tunnel --mtu 1500 " + HUB_FILES, USAGE),
    ("wan0 --tunnel --keepalive-ms 0 " + HUB_FILES, USAGE),
    ("wan0 --tunnel --tun-name this-is-too-long " + HUB_FILES, USAGE),
    ("wan0 --tunnel --tun-name net0 " + HUB_FILES, USAGE),
    ("wan0 --tunnel --aead rot13 " + HUB_FILES, USAGE),
    ("wan0 --tunnel --json " + HUB_FILES, USAGE),
    ("wan0 --tunnel --identity {files}/none", CONFIGURATION),
    ("wan0 --tunnel --identity {files}/open", CONFIGURATION),
    ("wan0 --tunnel --identity {files}/garbage", CONFIGURATION),
    ("wan0 --tunnel --identity {keys}/hub --nodes {files}/none", CONFIGURATION),
    ("wan0 --tunnel --identity {keys}/hub --nodes {files}/garbage", CONFIGURATION),
    ("wan0 --tunnel --config {files}/none", CONFIGURATION),
    ("wan0 --tunnel --config {files}/garbage", CONFIGURATION),
    ("wan0 --tunnel --config {files}/unknown.toml " + HUB_FILES, CONFIGURATION),
    ("--monitor --json --once --tun-name m13none0", HOST),
]
NODE_ROWS = [
    ("", USAGE),
    ("--tunnel", USAGE),
    ("--hub 192.0.2.1:443", USAGE),
    ("--tunnel --hub 192.0.2.1:0 " + NODE_FILES, USAGE),
    ("--tunnel --hub 192.0.2.1:x " + NODE_FILES, USAGE),
    ("--tunnel --hub 192.0.2.1:99999 " + NODE_FILES, USAGE),
    ("--tunnel --hub :443 " + NODE_FILES, USAGE),
    ("--tunnel --hub 300.0.2.1:443 " + NODE_FILES, USAGE),
    ("--tunnel --hub [2001:db8::1:443 " + NODE_FILES, USAGE),
    ("--tunnel --hub-l2 up0/02:00 " + NODE_FILES, USAGE),
    ("--tunnel --hub-l2 up0 --identity {keys}/node", USAGE),
    ("--tunnel --hub 192.0.2.1:443 --hub-l2 up0 " + NODE_FILES, USAGE),
    ("--tunnel --hub 192.0.2.1:443 --route 10.0.0.0/33 " + NODE_FILES, USAGE),
    ("--tunnel --hub 192.0.2.1:443 --route 0.0.0.0/0 --no-routes " + NODE_FILES, USAGE),
    ("--tunnel --hub 192.0.2.1:443 --handshake v3 " + NODE_FILES, USAGE),
    ("--tunnel --hub 192.0.2.1:443 --rekey-seconds 0 " + NODE_FILES, USAGE),
    ("--tunnel --hub 192.0.2.1:443 --identity {files}/none", CONFIGURATION),
    ("--tunnel --hub 192.0.2.1:443 --identity {files}/open", CONFIGURATION),
    ("--tunnel --hub 192.0.2.1:443 --identity {keys}/node --hub-key SHA256:x", CONFIGURATION),
    (
        "--tunnel --hub 192.0.2.1:443 --identity {keys}/node --known-hubs {files}/garbage",
        CONFIGURATION,
    ),
    ("--monitor --once --tun-name m13none0", HOST),
]
ROWS = [("hub", *row) for row in HUB_ROWS] + [("node", *row) for row in NODE_ROWS]


@pytest.fixture(scope="module")
def still() -> Iterator[Bed]:
    """A bed in which nothing may happen; it says so itself at the end."""
    yield from laid_out(Bed())


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory, keys: Keys) -> Path:
    directory = tmp_path_factory.mktemp("files")
    (directory / "garbage").write_bytes(b"\x00\xff[[[ = not toml")
    (directory / "unknown.toml").write_text("no_such_option = 1\n")
    (directory / "open").write_bytes(keys.identity("hub").read_bytes())
    (directory / "garbage").chmod(0o600)
    (directory / "open").chmod(0o644)
    return directory


@pytest.mark.parametrize(("role", "arguments", "status"), ROWS)
def test_bad_arguments_get_one_line(
    still: Bed, keys: Keys, files: Path, role: str, arguments: str, status: int
) -> None:
    filled = arguments.format(files=files, keys=keys.directory, pin=keys.fingerprints["hub"])
    child = still.namespaces[role].spawn(
        [str(SCRIPTS / f"m13-{role}"), *filled.split()],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "M13_RUN_DIR": str(still.run_directory)},
    )
    output, errors = (text.decode() for text in child.communicate(timeout=20))
    assert child.returncode == status, errors
    assert output == ""
    lines = [line for line in errors.splitlines() if "error: " in line]
    assert len(lines) == 1
    assert lines[0].startswith(f"m13-{role}: error: ")
    assert errors.splitlines()[-1] == lines[0]
    assert "Traceback" not in errors
    assert still.changes() == []


def test_a_port_of_the_environment_that_is_none_is_told(
    still: Bed, keys: Keys, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("M13_LISTEN_PORT", "https")
    test_bad_arguments_get_one_line(still, keys, files, "hub", f"wan0 --tunnel {HUB_FILES}", USAGE)
