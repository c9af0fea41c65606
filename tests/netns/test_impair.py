"""The impairing relay does what it says, and counts what it did.

node 203.0.113.2 ─── 203.0.113.1 router (relay) 192.0.2.254 ─── 192.0.2.1 hub
"""

import itertools
import statistics

import pytest

from bench import traffic
from bench.bed import Bed
from bench.tunnel import Keys, start_hub, start_node
from tests.netns.conftest import laid_out
from tests.netns.impair import Impairment, Relay, Way

DATAGRAMS = 20_000


def passed(seed: str, **fields: float) -> tuple[Way, list[tuple[float, bytes]]]:
    """A datagram a millisecond, its number in it; what left, in the order it left."""
    way = Way(seed)
    way.impairment = Impairment(**fields)  # type: ignore[arg-type]
    left = []
    for number in range(DATAGRAMS):
        left += way.pass_on(number.to_bytes(4), number / 1000)
    return way, sorted(left, key=lambda copy: copy[0])


@pytest.mark.parametrize("burst", [1, 4])
def test_losses_are_as_many_and_as_long_as_asked(burst: int) -> None:
    way, left = passed("a", loss=0.2, burst=burst)
    assert way.counts["lost"] == DATAGRAMS - len(left)
    assert 0.18 < way.counts["lost"] / DATAGRAMS < 0.22
    numbers = [int.from_bytes(data) for _, data in left]
    runs = [b - a - 1 for a, b in itertools.pairwise(numbers) if b - a > 1]
    assert statistics.mean(runs) == pytest.approx(burst if burst > 1 else 1.25, rel=0.1)


def test_only_the_held_back_change_places() -> None:
    way, left = passed("a", reorder=0.01, reorder_ms=3.5, jitter_ms=2)
    numbers = [int.from_bytes(data) for _, data in left]
    late = sum(number < highest for number, highest in zip(numbers, highests(numbers), strict=True))
    assert sorted(numbers) == list(range(DATAGRAMS))
    assert 0 < late <= way.counts["reordered"] == pytest.approx(DATAGRAMS / 100, rel=0.2)


def highests(numbers: list[int]) -> list[int]:
    found = [numbers[0]]
    for number in numbers[1:]:
        found.append(max(found[-1], number))
    return found


def test_a_seed_tells_all_and_another_something_else() -> None:
    how = {"loss": 0.1, "duplicate": 0.1, "corrupt": 0.1, "reorder": 0.1, "bytes_max": 4}
    assert passed("a", **how)[1] == passed("a", **how)[1]
    assert passed("a", **how)[1] != passed("b", **how)[1]


def test_a_tunnel_through_the_relay_feels_it(keys: Keys) -> None:
    for bed in laid_out(Bed(nodes=2)):
        hub = start_hub(bed, keys)
        with Relay(bed.router) as relay:
            node = start_node(bed, keys, "--hub", relay.address("node"))
            relay.impair("both", delay_ms=10)
            times = traffic.ping(bed.node, "10.13.0.1", 20)
            assert len(times) == 20
            assert min(times) > 20
            before = relay.impair("down", loss=1)["down"]
            assert not traffic.ping(bed.node, "10.13.0.1", 5, wait_s=0.1)
            counts = relay.counts()["down"]
            assert counts["received"] - before["received"] == counts["lost"] >= 5
            relay.impair("both")
            relay.rebind()
            assert traffic.ping(bed.node, "10.13.0.1", 5)
            hub.wait_log("moved to")
            assert (node.stop(), hub.stop()) == (0, 0)
