"""Settings that are text: sysctls, huge pages, interrupts; and the choice of cores."""

import mmap
import os
from contextlib import ExitStack
from pathlib import Path

import pytest

from m13.host import cpu, hugepages, irq, sysctl
from m13.host.journal import Journal
from tests.host.namespace import Namespace

MAP_HUGETLB = 0x40000  # asm-generic/mman-common.h; the module has it from Python 3.13 on


@pytest.fixture
def journal_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("M13_RUN_DIR", str(tmp_path / "run"))
    return tmp_path / "run"


@pytest.mark.parametrize("ending", ["leave", "kill"])
def test_sysctls_are_raised_and_restored_to_the_letter(tmp_path: Path, ending: str) -> None:
    body = """
    from m13.host import sysctl
    notes = [sysctl.write(journal, "net/ipv4/ip_default_ttl", 77)]
    notes += [sysctl.raise_limit(journal, "net/ipv4/igmp_max_msf", 1)]
    notes += [sysctl.raise_limit(journal, "net/ipv4/igmp_max_memberships", 21)]
    assert notes == [None, None, None], notes
    """
    with Namespace(tmp_path) as namespace:
        before = namespace.picture()
        process = namespace.owner(body)
        changed = namespace.picture()["settings"]
        differences = {k: v for k, v in changed.items() if before["settings"][k] != v}
        root = "/proc/sys/net/ipv4/"
        expected = {f"{root}ip_default_ttl": "77\n", f"{root}igmp_max_memberships": "21\n"}
        assert differences == expected
        getattr(namespace, ending)(process)
        if ending == "kill":
            assert namespace.picture() != before
            namespace.leave(namespace.owner("pass"))
        assert namespace.picture() == before


def test_settings_that_cannot_be_set_in_a_namespace_are_noted(tmp_path: Path) -> None:
    body = """
    from m13.host import sysctl
    print(*sysctl.raise_buffer_limits(journal), file=sys.stderr, sep="\\n")
    print(sysctl.write(journal, "net/no/such", 1), file=sys.stderr)
    """
    with Namespace(tmp_path) as namespace:
        said = namespace.leave(namespace.owner(body)).splitlines()
    assert said[-1] == "net/no/such does not exist here"
    assert all("does not exist here" in x or "cannot be set here" in x for x in said[:-1])
    assert any(line.startswith("net/core/netdev_max_backlog") for line in said)


@pytest.mark.usefixtures("journal_directory")
def test_huge_pages_are_had_and_given_back() -> None:
    before = persistent_huge_pages()
    with Journal.open("hub", "m13t0") as journal:
        wanted = hugepages.free_count() + 2
        reservation = hugepages.reserve(journal, wanted)
        assert reservation == hugepages.Reservation(wanted, wanted, None)
        assert hugepages.reserve(journal, 1).note is None
    assert persistent_huge_pages() == before


@pytest.mark.usefixtures("journal_directory")
def test_huge_pages_another_took_leave_with_it_whatever_runs_meanwhile() -> None:
    before = persistent_huge_pages()
    with ExitStack() as other:
        with Journal.open("hub", "m13t0") as journal:
            assert hugepages.reserve(journal, 2).note is None
            flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_HUGETLB
            other.enter_context(mmap.mmap(-1, 2 * hugepages.PAGE_BYTES, flags=flags))
        assert persistent_huge_pages() == before
        with Journal.open("hub", "m13t0") as journal:
            assert hugepages.reserve(journal, 2) == hugepages.Reservation(2, 2, None)
        assert persistent_huge_pages() == before
    assert persistent_huge_pages() == before


def persistent_huge_pages() -> int:
    total, surplus = (
        int((hugepages.POOL / f"{word}_hugepages").read_text()) for word in ("nr", "surplus")
    )
    return total - surplus


@pytest.mark.usefixtures("journal_directory")
def test_huge_pages_beyond_memory_are_counted_honestly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A kernel that stays at 3 pages, whatever is asked: not worth exhausting real memory for.
    for name, text in {"nr": "3\n", "free": "3\n", "resv": "1\n", "surplus": "0\n"}.items():
        (tmp_path / f"{name}_hugepages").write_text(text)
    monkeypatch.setattr(hugepages, "POOL", tmp_path)
    with Journal.open("hub", "m13t0") as journal:
        reservation = hugepages.reserve(journal, 10)
        assert (tmp_path / "nr_hugepages").read_text() == "11\n"
        assert (reservation.free, reservation.wanted) == (2, 10)
        assert reservation.note == "only 2 of 10 huge pages: memory is full or fragmented"
    assert (tmp_path / "nr_hugepages").read_text() == "3\n"


@pytest.mark.usefixtures("journal_directory")
@pytest.mark.parametrize(
    ("isolated", "before", "during"),
    [
        ([], "0-1\n", "0-1\n"),
        ([1], "0-1\n", "0\n"),
        ([1], "0\n", "0\n"),
        ([1], "1\n", "0\n"),
        ([0, 1], "0-1\n", "0-1\n"),  # nowhere else to go, so left alone
    ],
)
def test_interrupts_leave_the_isolated_cores(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    isolated: list[int],
    before: str,
    during: str,
) -> None:
    (tmp_path / "online").write_text("0-1\n")
    monkeypatch.setattr(cpu, "SYSTEM", tmp_path)
    (tmp_path / "irq/24").mkdir(parents=True)
    mask = tmp_path / "irq/24/smp_affinity_list"
    mask.write_text(before)
    with Journal.open("hub", "m13t0") as journal:
        moved, unmovable = irq.move_off(journal, isolated, tmp_path / "irq")
        assert mask.read_text() == during
        assert (moved, unmovable) == (int(before != during), 0)
    assert mask.read_text() == before


@pytest.mark.usefixtures("journal_directory")
@pytest.mark.skipif(len(cpu.allowed_cores()) < 2, reason="needs two cores")
def test_interrupts_of_this_machine_are_restored() -> None:
    def masks() -> dict[str, str]:
        return {str(p): p.read_text() for p in Path("/proc/irq").glob("*/smp_affinity_list")}

    before = masks()
    with Journal.open("hub", "m13t0") as journal:
        moved, unmovable = irq.move_off(journal, [1])
        changed = [path for path, mask in masks().items() if mask != before[path]]
        assert len(changed) == moved
        assert moved + unmovable > 0
    assert masks() == before


@pytest.mark.parametrize(
    ("text", "cores"),
    [
        ("", []),
        ("\n", []),
        ("3", [3]),
        ("1-3,8\n", [1, 2, 3, 8]),
        ("domain,managed_irq,2-3", [2, 3]),
        ("nohz,-,a-b", []),
    ],
)
def test_core_lists_are_read_as_the_kernel_writes_them(text: str, cores: list[int]) -> None:
    assert cpu.parse_list(text) == cores


@pytest.mark.parametrize(
    ("command_line", "allowed", "expected"),
    [
        (None, {0, 1}, (-1, -1, ())),
        (None, {0}, (-1, -1, ())),
        ("quiet isolcpus=2,3", {0, 1}, (2, 3, (2, 3))),
        ("isolcpus=domain,managed_irq,1-3 quiet", {0}, (1, 3, (1, 2, 3))),
        ("isolcpus=3", {0, 1}, (3, -1, (3,))),
        ("isolcpus=1 isolcpus=2,3", {0}, (2, 3, (2, 3))),
        ("isolcpus=77", {0, 1}, (-1, -1, ())),
        ("quiet", {0, 1}, (-1, -1, ())),
    ],
)
def test_cores_are_chosen(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    command_line: str | None,
    allowed: set[int],
    expected: tuple[int, int, tuple[int, ...]],
) -> None:
    (tmp_path / "online").write_text("0-5\n")
    (tmp_path / "isolated").write_text("\n")
    monkeypatch.setattr(cpu, "SYSTEM", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: allowed)
    monkeypatch.delenv("M13_MOCK_CMDLINE", raising=False)
    if command_line is not None:
        monkeypatch.setenv("M13_MOCK_CMDLINE", command_line)
    chosen = cpu.plan()
    assert (chosen.worker, chosen.tun, chosen.isolated) == expected
    assert (chosen.note is None) == (len(chosen.isolated) >= 2)


def test_a_core_has_one_tunnel_thread_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "online").write_text("0-5\n")
    for core in range(6):
        (tmp_path / f"cpu{core}").mkdir()
    monkeypatch.setattr(cpu, "SYSTEM", tmp_path)
    monkeypatch.setattr(os, "sched_setaffinity", lambda _thread, _cores: None)
    monkeypatch.setenv("M13_MOCK_CMDLINE", "isolcpus=2-4")
    with ExitStack() as hub, ExitStack() as node:
        first, second = cpu.claim(hub, threads=2), cpu.claim(node, threads=1)
        assert (first.worker, first.tun, first.note) == (2, 4, None)
        assert (second.worker, second.note) == (3, None)
        with ExitStack() as late:
            third = cpu.claim(late, threads=1)
            assert third.worker == cpu.ANY_CORE
            assert "another tunnel" in str(third.note)
    with ExitStack() as stack:
        assert cpu.claim(stack, threads=2) == first


def test_a_core_outside_the_cpuset_is_nobodys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cores_of_this_thread = os.sched_getaffinity(0)
    beyond = os.cpu_count() or 1
    while beyond in cores_of_this_thread:
        beyond += 1
    (tmp_path / "online").write_text(f"0-{beyond}\n")
    for core in (0, beyond):
        (tmp_path / f"cpu{core}").mkdir()
    monkeypatch.setattr(cpu, "SYSTEM", tmp_path)
    monkeypatch.setenv("M13_MOCK_CMDLINE", f"isolcpus={beyond}")
    with ExitStack() as stack:
        plan = cpu.claim(stack, threads=2)
        assert (plan.worker, plan.tun, plan.isolated) == (cpu.ANY_CORE, cpu.ANY_CORE, (beyond,))
        assert "cpuset" in str(plan.note)
    assert os.sched_getaffinity(0) == cores_of_this_thread


def test_a_missing_sysctl_reads_as_none() -> None:
    assert sysctl.read("net/no/such") is None
