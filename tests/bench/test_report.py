"""What the table and the document say about rounds."""

import json

import pytest

from bench.measure import Round
from bench.report import QUESTIONS, Results, short


def rounds(*values: float) -> list[Round]:
    return [Round(dict.fromkeys(QUESTIONS, value), {}, {}, {}, {}, {}) for value in values]


def results(**values: tuple[float, ...]) -> Results:
    tunnels = {name: rounds(*samples) for name, samples in values.items()}
    return Results({}, {}, set(tunnels) - {"m13", "raw"}, tunnels)


@pytest.mark.parametrize(
    ("values", "tcp", "ping"),
    [
        # more is better for TCP, less for ping: the best rival is another one each
        ({"m13": (6,), "slow": (2,), "fast": (3,)}, (2, "fast"), (2 / 6, "slow")),
        ({"m13": (1,), "other": (4,)}, (0.25, "other"), (4, "other")),
        # medians, so that one bad round of a rival does not favour us
        ({"m13": (6,), "other": (1, 3, 3)}, (2, "other"), (0.5, "other")),
        # the bed itself is no rival
        ({"m13": (6,), "raw": (100,), "other": (3,)}, (2, "other"), (0.5, "other")),
        # a rival that failed is not compared
        ({"m13": (6,), "failed": (), "other": (3,)}, (2, "other"), (0.5, "other")),
        # and without either side there is no ratio
        ({"m13": (6,), "failed": ()}, None, None),
        ({"m13": (), "other": (3,)}, None, None),
    ],
)
def test_the_ratio_is_of_medians_to_the_best_rival(
    values: dict[str, tuple[float, ...]],
    tcp: tuple[float, str] | None,
    ping: tuple[float, str] | None,
) -> None:
    found = results(**values)
    for question, expected in (("tcp up", tcp), ("ping p99.9", ping)):
        ratio = found.ratio(question)
        assert (ratio is None) == (expected is None)
        if ratio and expected:
            assert ratio == (pytest.approx(expected[0]), expected[1])


def test_the_document_holds_every_sample_and_its_spread() -> None:
    document = json.loads(json.dumps(results(m13=(1, 2, 9), other=(4, 4, 4)).document()))
    assert document["summary"]["tcp up"]["m13"] == {"median": 2, "min": 1, "max": 9}
    assert [done["values"]["tcp up"] for done in document["rounds"]["m13"]] == [1, 2, 9]
    assert document["rivals"] == ["other"]


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.1234, "0.12"), (9.994, "9.99"), (12.34, "12.3"), (123.4, "123"), (8123.4, "8123")],
)
def test_a_number_has_three_digits_that_mean_something(value: float, text: str) -> None:
    assert short(value) == text
