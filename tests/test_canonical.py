"""One byte form for a value, and one value for a byte form."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from m13.canonical import canonical, digest, parse_canonical

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(VALUES)
def test_a_value_comes_back(value):
    data = canonical(value)
    assert parse_canonical(data) == value
    assert data.isascii()


@given(st.dictionaries(st.text(), st.integers(), min_size=2))
def test_order_does_not_matter(value):
    assert canonical(value) == canonical(dict(reversed(value.items())))


@pytest.mark.parametrize(
    "data",
    [
        b'{"b":1,"a":2}',
        b'{"a": 1}',
        b'{"a":1}\n',
        b'{"a":1,"a":1}',
        b'{"a":1.0}',
        b'{"a":1e3}',
        b"[NaN]",
        '{"a":"é"}'.encode(),
        b'{"a":"\\u0061"}',
        b"01",
        b"",
        b"[" * 100_000,
        b"\xff",
    ],
)
def test_any_other_form_is_refused(data):
    with pytest.raises(ValueError):  # noqa: PT011  # of json, of Unicode or ours
        parse_canonical(data)


@pytest.mark.parametrize("value", [1.5, math.nan, b"x", {1: 2}, {"a": {2: 3}}, object()])
def test_what_has_no_canonical_form_is_refused(value):
    with pytest.raises(ValueError, match=r"canonical form|not text"):
        canonical(value)


def test_the_form_is_as_it_is_documented():
    assert canonical({"b": [1, None, True], "a": "ü"}) == b'{"a":"\\u00fc","b":[1,null,true]}'
    assert digest(b"") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
