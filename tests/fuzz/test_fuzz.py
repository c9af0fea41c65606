"""The fuzzers, briefly: every seed and a few seconds of mutations; and the canary, which must
crash, or the fuzzers would not notice anything either."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.fuzz import targets

SECONDS = 3
SOUND = [name for name in targets.TARGETS if name != "canary"]


@pytest.fixture(scope="module")
def runs():
    """All of them at once, two at a time."""
    targets.build(list(targets.TARGETS))
    with ThreadPoolExecutor(2) as pool:
        names = ["canary", *SOUND]
        return dict(
            zip(names, pool.map(lambda name: targets.run(name, SECONDS), names), strict=True)
        )


@pytest.mark.parametrize("name", SOUND)
def test_target_survives(runs, name):
    assert runs[name].returncode == 0, runs[name].stderr[-4000:]
    assert "number_of_executed_units" in runs[name].stderr


def test_canary_crashes(runs):
    assert runs["canary"].returncode != 0
    assert "heap-buffer-overflow" in runs["canary"].stderr


def test_every_target_has_a_source_and_seeds():
    for name in targets.TARGETS:
        assert (targets.HERE / f"{name}.c").exists(), name
        assert any((targets.HERE / "corpus" / name).iterdir()), name
