"""Nodes added, removed and re-keyed in the text of a list: only their lines change."""

import pytest

from hub import roster_text
from m13.errors import ConfigurationError, UsageError

TEXT = """\
# Nodes of the hub on the hill.

# the boat, since May
[[node]]
name = "alpha"
key = "SHA256:AAA"   # its second key
address = "10.13.0.2"

# the truck
[[ node ]]
  key = 'SHA256:BBB'
  name = "beta"
# gamma is on loan
[[node]]
name = "gamma"
key = "SHA256:CCC"

# the end
"""
REMOVALS = {
    "alpha": [(2, 8)],
    "beta": [(8, 12)],
    "gamma": [(12, 17)],
}


@pytest.mark.parametrize("name", REMOVALS)
def test_a_node_is_removed_with_the_comment_above_it(name: str) -> None:
    lines = TEXT.splitlines(keepends=True)
    for first, last in REMOVALS[name]:
        del lines[first:last]
    assert roster_text.remove(TEXT, name) == "".join(lines)


def test_a_key_is_replaced_where_it_stands() -> None:
    assert roster_text.rekey(TEXT, "alpha", "SHA256:X") == TEXT.replace("SHA256:AAA", "SHA256:X")
    assert roster_text.rekey(TEXT, "beta", "SHA256:X") == TEXT.replace("'SHA256:BBB'", '"SHA256:X"')


@pytest.mark.parametrize(
    ("before", "between"), [("", ""), (TEXT, "\n"), (TEXT.rstrip("\n"), "\n\n"), ("# none\n", "\n")]
)
def test_a_node_is_added_at_the_end(before: str, between: str) -> None:
    after = roster_text.add(before, "delta", "SHA256:DDD", "10.13.0.9")
    added = '[[node]]\nname = "delta"\nkey = "SHA256:DDD"\naddress = "10.13.0.9"\n'
    assert after == before + between + added
    assert roster_text.remove(after, "delta").rstrip() == before.rstrip()


@pytest.mark.parametrize(
    ("name", "key", "address", "why"),
    [
        ("alpha", "SHA256:X", None, "'alpha' has the name alpha already"),
        ("delta", "SHA256:BBB", None, "'beta' has the key SHA256:BBB already"),
        ("delta", "SHA256:X", "10.13.0.2", "'alpha' has the address 10.13.0.2 already"),
    ],
)
def test_what_another_has_is_not_given_again(
    name: str, key: str, address: str | None, why: str
) -> None:
    with pytest.raises(UsageError, match=why):
        roster_text.add(TEXT, name, key, address)


def test_an_unknown_name_is_told_with_those_there_are() -> None:
    for change in (lambda: roster_text.remove(TEXT, "x"), lambda: roster_text.rekey(TEXT, "x", "")):
        with pytest.raises(UsageError, match="no node 'x' in the list; there are: alpha, beta, ga"):
            change()


OTHER_FORMS = [
    'node = [{name = "a", key = "SHA256:AAA"}]\n',
    '[[node]]\nname = "a"\nkey = """\nSHA256:AAA"""\n',
    '[[node]]\nname = "a"\nkey = "SHA256:AAA"\nnote = """\n[[node]]\n"""\n',
]


@pytest.mark.parametrize("text", OTHER_FORMS)
def test_a_list_of_another_form_is_left_alone(text: str) -> None:
    with pytest.raises(ConfigurationError, match="edit it by hand"):
        roster_text.rekey(text, "a", "SHA256:X")
