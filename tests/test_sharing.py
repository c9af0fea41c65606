"""How `make test` shares tests out, shown on a small tree with this suite's own conftest.py."""

import os
import re
import shutil
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

from bench.bed import huge_pages
from tests.conftest import HERE

ROOT = HERE.parent
POOL = Path("/proc/sys/vm/nr_hugepages")
RESULT = re.compile(r"\[(gw\d)\].*tests/(\S+)::test_it\[.*rx=(\w+)")
MANY = 'import pytest\n@pytest.mark.parametrize("rx", {rx}, ids="rx={{}}".format)\n'
MANY += '@pytest.mark.parametrize("n", range(8))\ndef test_it(rx, n): pass\n'


def run(tree: Path, files: dict[str, str]) -> subprocess.CompletedProcess[str]:
    for name, text in files.items():
        (tree / "tests" / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / "tests" / name).write_text(text)
    shutil.copy(HERE / "conftest.py", tree / "tests")
    (tree / "pytest.ini").write_text("[pytest]\naddopts = --import-mode=importlib\n")
    command = [sys.executable, "-m", "pytest", "--verbose", "--numprocesses", "3", "tests"]
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True)


def test_what_changes_the_machine_stays_together_and_the_rest_with_its_file(tmp_path: Path) -> None:
    both, sockets = MANY.format(rx=["xdp", "udp"]), MANY.format(rx=["udp"])
    files = {"netns/test_a.py": both, "host/test_b.py": MANY.format(rx=["none"])}
    files |= {"netns/test_c.py": sockets, "test_d.py": sockets, "core/test_e.py": sockets}
    done = run(tmp_path, files)
    assert done.returncode == 0, done.stdout
    workers = defaultdict(set)
    for worker, name, rx in RESULT.findall(done.stdout):
        group = name
        if name.startswith(("netns", "host")):
            group = "sockets" if rx == "udp" else "machine"
        workers[group].add(worker)
    assert workers.keys() == {"machine", "sockets", "test_d.py", "core/test_e.py"}
    assert [len(each) for each in workers.values()] == [1, 1, 1, 1], workers
    assert workers["machine"] != workers["sockets"]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_a_run_that_leaves_huge_pages_has_failed(tmp_path: Path) -> None:
    before = huge_pages()
    leak = f"from pathlib import Path\ndef test_it(): Path('{POOL}').write_text('{before + 1}')\n"
    try:
        done = run(tmp_path, {"host/test_a.py": leak})
        if huge_pages() == before:
            pytest.skip("this machine has no memory for one more")
    finally:
        POOL.write_text(str(before))
    assert "1 passed" in done.stdout
    assert f"huge pages: {before} -> {before + 1}" in done.stdout
    assert done.returncode == 1
