"""The node's list of pinned hubs."""

import pytest

from m13.errors import ConfigurationError
from m13.identity import format_fingerprint
from node import known_hubs

FIRST, SECOND = (format_fingerprint(bytes([number]) * 32) for number in (1, 2))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "known_hubs"


def test_pins_are_those_of_the_host_and_port(path):
    path.write_text(
        f"# our hubs\n\nhub.example:443 {FIRST}\nhub.example:444 {SECOND}\n"
        f"HUB.example:443 {SECOND}  # the spare\n192.0.2.1:443 {FIRST}\n"
    )
    assert known_hubs.load(path, "Hub.Example", 443) == [FIRST, SECOND]
    assert known_hubs.load(path, "hub.example", 444) == [SECOND]
    assert known_hubs.load(path, "192.0.2.1", 443) == [FIRST]
    assert known_hubs.load(path, "192.0.2.2", 443) == []


def test_missing_file_pins_nothing(path):
    assert known_hubs.load(path, "hub.example", 443) == []


@pytest.mark.parametrize(
    "line",
    [
        "hub.example:443",
        f"hub.example {FIRST}",
        f"hub.example:https {FIRST}",
        f"hub.example:443 {FIRST} more",
        f"hub.example:443 {FIRST[:-1]}",
        f"hub.example:443 {FIRST[7:]}",
    ],
)
def test_bad_line_is_told_with_its_number_even_for_another_hub(path, line):
    path.write_text(f"hub.example:443 {FIRST}\n{line}\n")
    with pytest.raises(ConfigurationError, match="line 2: expected"):
        known_hubs.load(path, "other.example", 1)


def test_unreadable_file_is_told(path):
    path.mkdir()
    with pytest.raises(ConfigurationError, match="cannot read"):
        known_hubs.load(path, "hub.example", 443)


def test_advice_is_a_line_that_load_accepts(path):
    advice = known_hubs.how_to_pin(path, "hub.example", 443, FIRST)
    path.write_text(advice.partition("echo '")[2].partition("'")[0] + "\n")
    assert known_hubs.load(path, "hub.example", 443) == [FIRST]
