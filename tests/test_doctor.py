"""The doctor on this machine: as root, without privileges, and on an interface of our own."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from m13.doctor_finding import Check, examine
from m13.doctor_machine import aes_instructions, kernel
from m13.doctor_network import _in_scratch_namespace

DOCTOR = [sys.executable, "-m", "m13.cli", "doctor"]
root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def findings(output: str) -> dict[str, dict[str, str]]:
    return {check["name"]: check for check in json.loads(output)["checks"]}


@pytest.fixture
def namespace() -> Iterator[str]:
    name = f"m13-doctor-{os.getpid()}"
    run("ip", "netns", "add", name)
    yield name
    run("ip", "netns", "del", name)


@pytest.mark.parametrize(
    ("release", "status"),
    [
        ("5.19.17", "fail"),
        ("6.0.0-1-amd64", "fail"),
        ("6.1.0-28-amd64", "warn"),
        ("6.11.9", "warn"),
        ("6.12.0", "ok"),
        ("6.18.44-fc-v657", "ok"),
        ("7.0.0-rc1", "ok"),
        ("unheard of", "fail"),
    ],
)
def test_kernel_release(release: str, status: str) -> None:
    assert kernel(release).status == status


@pytest.mark.parametrize(
    ("machine", "cpuinfo", "status", "found"),
    [
        ("x86_64", "flags\t\t: fpu aes sse pclmulqdq avx2\n", "ok", "aes pclmulqdq avx2"),
        ("x86_64", "flags\t\t: fpu pclmulqdq\n", "fail", "no aes"),
        ("x86_64", "processor: 0\nvmx flags\t: aes pclmulqdq\n", "fail", "no aes pclmulqdq"),
        ("aarch64", "Features\t: fp asimd aes pmull sha1\n", "ok", "aes pmull asimd"),
        ("aarch64", "Features\t: fp asimd\n", "fail", "no aes pmull"),
        ("riscv64", "isa\t: rv64imafdc\n", "warn", "riscv64 is not a processor M13 knows"),
    ],
)
def test_aes_instructions(machine: str, cpuinfo: str, status: str, found: str) -> None:
    verdict = aes_instructions(cpuinfo, machine)
    assert (verdict.status, verdict.found) == (status, found)


def test_check_that_breaks_is_a_warning_with_its_reason() -> None:
    def broken() -> None:
        raise ValueError("unexpected")

    finding = examine(Check("any", "because", broken))  # type: ignore[arg-type]
    assert finding.status == "warn"
    assert finding.found == "cannot tell: unexpected"


def test_json_has_every_check_with_reason_and_remedy() -> None:
    answer = run(*DOCTOR, "--json")
    assert answer.stderr == ""
    checks = findings(answer.stdout)
    assert {
        "kernel",
        "io_uring",
        "io_uring group",
        "huge pages",
        "memlock",
        "CPU isolation",
        "AES instructions",
        "BTF",
        "shared memory",
        "capabilities",
        "TUN",
        "libcrypto",
        "libbpf",
        "libxdp",
        "liburing",
        "libcap-ng",
        "libseccomp",
        "libnftables",
        "native modules",
        "PQC providers",
        "XDP",
        "nftables",
        "fq qdisc",
        "optmem_max",
        "interface",
    } <= set(checks)
    for check in checks.values():
        assert check["found"]
        assert check["why"]
        assert bool(check["mend"]) == (check["status"] != "ok")
    counts = json.loads(answer.stdout)["counts"]
    assert sum(counts.values()) == len(checks)
    assert answer.returncode == (1 if counts["fail"] else 0)


def test_pipe_gets_aligned_plain_text() -> None:
    answer = run(*DOCTOR)
    lines = answer.stdout.splitlines()
    assert "\x1b" not in answer.stdout
    assert lines[-1].endswith("failures")
    columns = {line.index(line[6:].split("  ")[0], 6) for line in lines[:-1] if line[0] != " "}
    assert columns == {6}


# With names of network namespaces of its own, so that those of tests beside this one do not count.
LOOK_TWICE = """
mkdir -p /run/netns && mount -t tmpfs none /run/netns
look() { ip -o link; nft list ruleset; ip netns; sysctl -a --ignore; }
place=$1; shift
look >"$place/before"
"$@" >"$place/said" || true
look >"$place/after"
"""


@root
def test_nothing_on_the_machine_changes(tmp_path: Path) -> None:
    volatile = ("random", "inode", "dentry", "file-nr", "nr_", "ns_last_pid", "pty.nr")
    volatile += ("conntrack_count", "pid_max")

    def seen(when: str) -> list[str]:
        lines = (tmp_path / when).read_text().splitlines()
        return [line for line in lines if not any(word in line for word in volatile)]

    script = ("unshare", "--mount", "sh", "-ec", LOOK_TWICE, "look", str(tmp_path))
    assert run(*script, *DOCTOR).returncode == 0
    assert "kernel" in (tmp_path / "said").read_text()
    assert len(seen("before")) > 100
    assert seen("after") == seen("before")


@root
def test_unprivileged_it_says_what_it_cannot_see() -> None:
    # Everything is imported first: the interpreter may be where only root can read.
    script = (
        "import contextlib, io, os, sys\n"
        "from m13.doctor import run_doctor\n"
        "with contextlib.redirect_stdout(io.StringIO()): run_doctor()\n"
        "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "sys.exit(run_doctor(as_json=True))"
    )
    answer = run(sys.executable, "-c", script)
    checks = findings(answer.stdout)
    assert "Traceback" not in answer.stderr
    assert checks["capabilities"]["found"] == "not root"
    for name in ("XDP", "nftables", "fq qdisc"):
        assert checks[name]["status"] == "warn"
        assert "without root" in checks[name]["found"]
    assert checks["kernel"]["status"] != "fail"


@root
def test_root_without_capabilities_fails() -> None:
    answer = run("setpriv", "--bounding-set=-ipc_lock,-net_admin", *DOCTOR, "--json")
    checks = findings(answer.stdout)
    assert answer.returncode == 1
    assert checks["capabilities"]["status"] == "fail"
    assert "CAP_NET_ADMIN CAP_IPC_LOCK" in checks["capabilities"]["found"]


@root
@pytest.mark.netns
def test_interface_with_several_queues_and_jumbo_frames(namespace: str) -> None:
    run(
        *("ip", "-n", namespace, "link", "add", "wide", "mtu", "9000"),
        *("numrxqueues", "4", "numtxqueues", "4", "type", "veth"),
        *("peer", "narrow", "numrxqueues", "1", "numtxqueues", "1"),
    )
    inside = ("ip", "netns", "exec", namespace, *DOCTOR, "--json", "--interface")
    checks = findings(run(*inside, "wide").stdout)
    assert checks["interface"]["mend"] == "ip link set wide up"
    assert checks["NIC queues"]["mend"].startswith("ethtool -L wide combined 1")

    run("ip", "-n", namespace, "link", "set", "wide", "up")
    checks = findings(run(*inside, "wide").stdout)
    assert checks["interface"]["mend"] == "ip link set wide mtu 1500"

    run("ip", "-n", namespace, "link", "set", "narrow", "up")
    checks = findings(run(*inside, "narrow").stdout)
    assert checks["interface"]["status"] == "ok"
    assert checks["NIC queues"]["status"] == "ok"


@root
@pytest.mark.netns
def test_namespace_without_a_route_asks_for_an_interface(namespace: str) -> None:
    answer = run("ip", "netns", "exec", namespace, *DOCTOR, "--json")
    assert findings(answer.stdout)["interface"]["mend"] == "m13 doctor --interface IFACE"


def test_unknown_interface_is_a_usage_error() -> None:
    answer = run(*DOCTOR, "--interface", "nonesuch")
    assert answer.returncode == 2
    assert answer.stdout == ""
    assert answer.stderr.startswith("m13: error: there is no interface 'nonesuch' here")
    assert answer.stderr.count("\n") == 1


@root
def test_what_is_tried_is_tried_elsewhere() -> None:
    ours = os.stat("/proc/self/ns/net").st_ino
    theirs = _in_scratch_namespace(lambda: str(os.stat("/proc/thread-self/ns/net").st_ino))
    assert theirs != str(ours)
    assert os.stat("/proc/self/ns/net").st_ino == ours
