"""nftables tables of our own, as the nft program sees them."""

from contextlib import closing
from pathlib import Path

import pytest

from m13.host.firewall import FirewallWatch
from tests.host.namespace import Namespace

TABLE = """
from m13.host import firewall
rules = "counter\\n ip saddr 192.0.2.1 drop\\n"
firewall.apply_table(journal, "ip", "m13_t", "chain c {" + rules + "}")
"""
OBSTACLES = """
import json
from m13.host import firewall
print(json.dumps(firewall.forwarding_obstacles("m13t0")))
"""
FORWARD = "add chain {0} f x {{ type filter hook {1} priority 0; policy {2}; }}"


@pytest.mark.parametrize("ending", ["leave", "kill"])
def test_a_table_is_put_in_and_taken_out_beside_others(tmp_path: Path, ending: str) -> None:
    with Namespace(tmp_path) as namespace:
        namespace.command("nft", "add table ip users; add chain ip users c; add table ip6 m13_t")
        before = namespace.picture()
        process = namespace.owner(TABLE)
        assert "192.0.2.1 drop" in namespace.command("nft", "list", "table", "ip", "m13_t")
        getattr(namespace, ending)(process)
        if ending == "kill":
            namespace.leave(namespace.owner(TABLE))
        assert namespace.picture() == before


def test_a_table_removed_by_somebody_is_no_error(tmp_path: Path) -> None:
    with Namespace(tmp_path) as namespace:
        before = namespace.picture()
        process = namespace.owner(TABLE)
        namespace.command("nft", "flush", "ruleset")
        assert namespace.leave(process) == ""
        assert namespace.picture() == before


def test_a_refused_table_changes_nothing_and_says_why(tmp_path: Path) -> None:
    body = """
    from m13.errors import HostError
    from m13.host import firewall
    try:
        firewall.apply_table(journal, "ip", "m13_t", "chain c { accept; no such rule }")
    except HostError as error:
        print(error, file=sys.stderr)
    """
    with Namespace(tmp_path) as namespace:
        before = namespace.picture()
        process = namespace.owner(body)
        assert namespace.picture() == before
        assert "nftables refused: " in namespace.leave(process)


@pytest.mark.parametrize(
    ("commands", "warns"),
    [
        ([], False),
        ([FORWARD.format("ip", "forward", "accept")], False),
        ([FORWARD.format("ip", "forward", "drop")], True),
        ([FORWARD.format("inet", "forward", "drop")], True),
        ([FORWARD.format("ip6", "forward", "drop")], False),
        ([FORWARD.format("ip", "input", "drop")], False),
        ([FORWARD.format("ip", "forward", "accept"), "add rule ip f x counter drop"], True),
        ([FORWARD.format("ip", "forward", "accept"), "add rule ip f x tcp dport 1 drop"], False),
        ([FORWARD.format("ip", "forward", "drop"), 'add rule ip f x iif "lo" accept'], True),
        (
            [FORWARD.format("ip", "forward", "drop"), 'add rule ip f x iifname "m13t0" accept'],
            False,
        ),
    ],
)
def test_closed_forward_chains_are_found(tmp_path: Path, commands: list[str], warns: bool) -> None:
    with Namespace(tmp_path) as namespace:
        for command in commands:
            family = command.split()[2]
            namespace.command("nft", f"add table {family} f; {command}")
        warnings = namespace.python(OBSTACLES)
        assert len(warnings) == warns
        for warning in warnings:
            # The command it names is one that works.
            for remedy in warning.partition("pass: ")[2].split(" && "):
                namespace.command("nft", remedy.removeprefix("nft "))
            assert namespace.python(OBSTACLES) == []


def test_a_watch_tells_of_changes_by_anybody_since_it_was_asked(tmp_path: Path) -> None:
    with Namespace(tmp_path) as namespace, namespace.inside():
        with closing(FirewallWatch()) as watch:
            told = [watch.changed()]
            for command in ("add table ip users", "list ruleset", "flush ruleset"):
                namespace.command("nft", command)
                told += [watch.changed(), watch.changed()]
        assert told == [False, True, False, False, False, True, False]


def test_a_watch_that_could_not_hear_all_says_that_something_changed(tmp_path: Path) -> None:
    rules = "add table ip users; add chain ip users c;"
    rules += " add rule ip users c counter;" * 5000  # more than its buffer holds
    with Namespace(tmp_path) as namespace, namespace.inside(), closing(FirewallWatch()) as watch:
        (tmp_path / "rules").write_text(rules)
        namespace.command("nft", "-f", str(tmp_path / "rules"))
        assert watch.changed()
        assert not watch.changed()


def test_contexts_are_not_leaked(tmp_path: Path) -> None:
    with Namespace(tmp_path) as namespace:
        before, after = namespace.python("""
            import json, os
            from m13.host import firewall
            firewall.ruleset()
            before = len(os.listdir("/proc/self/fd"))
            for _ in range(50):
                firewall.ruleset()
            print(json.dumps([before, len(os.listdir("/proc/self/fd"))]))
        """)
        assert before == after
