"""The commands as operators use them: one operator, a quorum, a lost key, and what goes wrong."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hub.registry.codes import EXPLANATIONS, Code
from hub.steering import OBJECT

M13 = [sys.executable, "-m", "m13.cli"]
REFUSED, AWAITING = 5, 6


class Office:
    """A folder of keys and a registry, worked from the command line."""

    def __init__(self, folder: Path, location: str) -> None:
        self.folder = folder
        self.environment = {
            **os.environ,
            "M13_REGISTRY": location,
            "M13_STORE": str(folder / "store"),
            "COLUMNS": "200",
        }

    def run(self, *words: str, by: str = "", status: int = 0) -> subprocess.CompletedProcess[str]:
        key = ("--key", self.file(by)) if by else ()
        done = subprocess.run(
            [*M13, *words, *key],
            capture_output=True,
            text=True,
            env=self.environment,
            timeout=60,
            cwd=self.folder,
        )
        assert done.returncode == status, (words, done.stdout, done.stderr)
        assert "Traceback" not in done.stderr
        if status not in (0, AWAITING):
            assert done.stderr.count("\n") == 1
        return done

    def registry(self, *words: str, by: str = "", status: int = 0) -> str:
        done = self.run("registry", *words, by=by, status=status)
        return done.stdout or done.stderr

    def json(self, *words: str, by: str = "", status: int = 0):
        return json.loads(self.registry(*words, "--json", by=by, status=status))

    def file(self, name: str) -> str:
        path = self.folder / name
        if not path.exists():
            subprocess.run([*M13, "keygen", str(path)], capture_output=True, check=True)
        return str(path)

    def public(self, name: str) -> str:
        self.file(name)
        return str(self.folder / f"{name}.pub")

    def fingerprint(self, name: str) -> str:
        return self.run("fingerprint", self.public(name)).stdout.strip()

    def begin(self, *operators: str, quorum: int = 1) -> None:
        words = [f"--operator={name}={self.public(name)}" for name in operators]
        self.registry("init", *words, f"--quorum={quorum}", "--identity", self.public("hub"))

    def enroll(self, name: str, role: str = "node") -> str:
        request = str(self.folder / f"{name}.request")
        self.run("enroll", request, "--identity", self.file(name), "--name", name, "--role", role)
        return request


@pytest.fixture
def desk(tmp_path: Path) -> Office:
    return Office(tmp_path, str(tmp_path / "registry.db"))


@pytest.fixture
def elsewhere(server, tmp_path: Path) -> Iterator[Office]:
    name = server.create()
    yield Office(tmp_path, server.url(name))
    server.drop(name)


def test_one_operator_admits(desk):
    one_operator(desk)


def test_one_operator_admits_on_postgresql(elsewhere):
    one_operator(elsewhere)


def one_operator(desk: Office) -> None:
    desk.begin("ann")
    request = desk.enroll("alpha")
    held = desk.run("admit", request, by="ann", status=REFUSED)
    assert held.stderr.startswith("m13: error: REGISTRATION_HOLD: ")
    gates = desk.json("gate")
    assert set(gates.values()) == {"closed"}
    desk.registry("gate", "open", "registration", by="ann")
    closed = desk.run("admit", request, by="ann", status=REFUSED)
    assert "GATE_CLOSED" in closed.stderr
    assert "register_dot node.alpha." in closed.stdout  # what was proved before
    desk.registry("gate", "open", "all", by="ann")
    admitted = desk.run("admit", request, by="ann")
    assert "activate_dot node.alpha." in admitted.stdout
    assert desk.json("list")[0]["status"] == "active"
    again = desk.run("admit", request, by="ann")
    assert "nothing to do" in again.stdout
    shown = desk.json("show", "alpha")
    assert shown["row"]["tunnel_address"] == "10.13.0.2"
    assert [entry["event"] for entry in shown["history"]][-1] == "changed"
    assert desk.json("verify", "alpha")["outcome"] == "DONE"
    desk.registry("revoke", "alpha", by="ann")
    refused = desk.run("admit", request, by="ann", status=REFUSED)
    assert "STATUS_NOT_ELIGIBLE" in refused.stderr
    assert desk.json("audit", "verify")["entries"] > 20
    assert desk.json("verify") == []


def test_every_phase_prints_its_proof(desk):
    desk.begin("ann")
    desk.registry("gate", "open", "all", by="ann")
    printed = desk.run("admit", desk.enroll("alpha"), "--address", "10.13.0.77", by="ann").stdout
    for proof in (
        "request_proposed",
        "trusted_attested",
        "drift_state",
        "quorum_proof_ref",
        "authorization_nonce",
        "10.13.0.77",
        "matches",
        "status change",
    ):
        assert proof in printed
    assert desk.run("admit", str(OBJECT), by="ann")
    kinds = {row["artifact_type"] for row in desk.json("list")}
    assert kinds == {"node_identity", "xdp_object"}


def test_a_quorum_stops_where_another_is_needed_and_says_who(desk):
    desk.begin("ann", "ben", "cem", quorum=2)
    for name in ("ann", "cem"):
        desk.run("registry", "gate", "open", "all", by=name, status=AWAITING * (name == "ann"))
    request = desk.enroll("alpha")
    stopped = desk.run("admit", request, by="ann", status=AWAITING)
    assert "awaiting 1 more approval(s) of register_dot node.alpha." in stopped.stdout
    assert "awaiting 1 more approval(s) of activate_dot node.alpha." in stopped.stdout
    assert "by ben, cem" in stopped.stdout
    assert desk.json("list") == []
    waiting = {entry["action"]: entry["apr_ref"] for entry in desk.json("list", "--open")}
    assert set(waiting) == {"register_dot", "activate_dot"}
    # the same again by the same operator is not a second approval
    desk.run("admit", request, by="ann", status=AWAITING)
    stranger = desk.run("registry", "approve", waiting["register_dot"], by="eve", status=REFUSED)
    assert "QUORUM_NOT_PROVEN" in stranger.stderr
    # one way: step by step
    desk.registry("approve", waiting["register_dot"], by="ben")
    desk.registry("register", waiting["register_dot"])
    assert desk.json("list")[0]["status"] == "inert"
    replay = desk.registry("register", waiting["register_dot"])
    assert replay.startswith("REPLAY_DUPLICATE")
    # the other: the second operator says the same as the first
    desk.run("admit", request, by="ben")
    assert desk.json("list")[0]["status"] == "active"
    # one is enough to shut out
    desk.registry("deactivate", "alpha", by="cem")
    assert desk.json("list")[0]["status"] == "inert"
    assert "of activate_dot" in desk.registry("activate", "alpha", by="ann", status=AWAITING)


def test_a_lost_operator_key_is_replaced_by_the_others(desk):
    desk.begin("ann", "ben", "cem", quorum=2)
    desk.registry("key", "add", "dan", desk.public("dan"), by="ben", status=AWAITING)
    desk.registry("key", "add", "dan", desk.public("dan"), by="cem")
    for name, status in (("ben", AWAITING), ("dan", 0)):
        desk.registry("key", "revoke", "ann", by=name, status=status)
    states = {row["name"]: row["state"] for row in desk.json("key", "list")}
    assert states == {"ann": "revoked", "ben": "active", "cem": "active", "dan": "active"} | {
        "hub": "active"
    }
    lost = desk.run("registry", "gate", "open", "all", by="ann", status=REFUSED)
    assert "QUORUM_NOT_PROVEN" in lost.stderr


def test_the_only_operator_key_is_replaced_by_the_hubs_word(desk):
    desk.begin("ann")
    words = ("key", "recover", "dan", desk.public("dan"), "--identity")
    other = desk.run("registry", *words, desk.file("eve"), status=REFUSED)
    assert "is not an active hub key" in other.stderr
    desk.registry(*words, desk.file("hub"))
    desk.registry("key", "revoke", "ann", by="dan")
    desk.registry("gate", "open", "all", by="dan")
    few = desk.run("registry", "key", "revoke", "dan", by="dan", status=REFUSED)
    assert "fewer would be left" in few.stderr
    events = [entry for entry in desk.json("audit", "show") if "recover_key" in entry["payload"]]
    assert events[-1]["event"] == "changed"


def test_an_audit_is_shown_proved_and_checked(desk):
    desk.begin("ann")
    none = desk.run("registry", "audit", "prove", "1", status=REFUSED)
    assert "audit checkpoint" in none.stderr
    kept = desk.json("audit", "checkpoint", "--identity", desk.file("hub"))
    (desk.folder / "kept.json").write_text(json.dumps(kept))
    (desk.folder / "proof.json").write_text(desk.registry("audit", "prove", "1"))
    proved = desk.run(
        "registry", "audit", "check", "proof.json", "--hub-key", desk.fingerprint("hub")
    )
    assert "registry_initialised" in proved.stdout
    wrong = ("registry", "audit", "check", "proof.json", "--hub-key", desk.fingerprint("ann"))
    assert "AUDIT_CHAIN_BROKEN" in desk.run(*wrong, status=REFUSED).stderr
    desk.registry("audit", "verify", "--against", "kept.json")
    kept["root"] = "0" * 64
    (desk.folder / "kept.json").write_text(json.dumps(kept))
    desk.registry("audit", "verify", "--against", "kept.json", status=REFUSED)


@pytest.mark.parametrize(
    ("words", "status", "complaint"),
    [
        (("registry", "list"), REFUSED, "run 'm13 registry init'"),
        (("registry", "explain", "NO_SUCH"), 2, "no code NO_SUCH"),
        (("registry", "init"), 2, "Missing option '--operator'"),
        (("registry", "init", "--operator", "ann"), 2, "is not NAME=PATH"),
        (("registry", "init", "--operator", "a=/nonexistent"), 3, "no identity at"),
        (("enroll", "/proc/x", "--identity", "HUB"), 2, "cannot write"),
        (("enroll", "x", "--identity", "HUB", "--name", "../x"), 2, "a name is 1 to 31"),
        (("admit", "nothing", "--key", "HUB"), REFUSED, "run 'm13 registry init'"),
    ],
)
def test_wrong_use_is_one_line(desk, words, status, complaint):
    key = desk.file("hub")
    done = desk.run(*(key if word == "HUB" else word for word in words), status=status)
    assert complaint in done.stderr


def test_what_is_no_artifact_is_not_taken(desk):
    desk.begin("ann")
    (desk.folder / "script.ts").write_text("#!/bin/bash\n")
    refused = desk.run("admit", "script.ts", by="ann", status=REFUSED)
    assert refused.stderr.startswith("m13: error: ARTIFACT_TYPE_MISMATCH: unknown content")
    existing = desk.enroll("alpha")
    assert "File exists" in desk.run("enroll", existing, "--identity", desk.file("hub"),
                                     status=2).stderr  # fmt: skip


def test_every_code_is_explained(desk):
    assert set(EXPLANATIONS) == set(Code)
    told = json.loads(desk.run("registry", "explain", "--json").stdout)
    assert set(told) == {str(code) for code in Code}
    assert all(entry["meaning"] and entry["remedy"] for entry in told.values())
    assert "until its owner lifts the hold" in desk.registry("explain", "registration_hold")
