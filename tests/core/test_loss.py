"""Reports of arrivals against a receiver that remembers everything, and what a sender makes of them
against a way whose delays and losses are known."""

import random
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from native.loss import FALSE, MOMENTS, OLD, REPORT_BYTES, TAKEN, Arrivals, Departures

LAYOUT = struct.Struct("<QQIQIQ")  # §6: highest, time, delivered, its time, losses, bitmap
MICROSECOND, MILLISECOND, SECOND = 10**3, 10**6, 10**9
GAPS_PER_RTT = 32


def report(highest=9, made=0, delivered=None, heard=None, missing=0, bits=0):
    """One that is true unless told otherwise; of frames 0 to highest."""
    arrived = highest + 1 - missing if delivered is None else delivered
    return LAYOUT.pack(highest, made, arrived, made if heard is None else heard, missing, bits)


class Receiver:
    """Remembers everything."""

    def __init__(self):
        self.seen = set()

    def report(self, heard_ns, now_ns):
        highest = max(self.seen)
        missing = set(range(highest)) - self.seen
        bits = sum(1 << i for i in range(min(64, highest)) if highest - 1 - i in missing)
        return LAYOUT.pack(highest, now_ns, len(self.seen), heard_ns, len(missing), bits)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.integers(-200, 200), min_size=1, max_size=150))
def test_reports_agree_with_a_receiver_that_remembers_everything(moves):
    arrivals, model = Arrivals(), Receiver()
    now = heard = 0
    for move in moves:
        now += 7
        counter = max(0, max(model.seen, default=0) + move)
        if arrivals.arrive(counter, now):
            assert counter not in model.seen
            model.seen.add(counter)
            heard = now
        assert arrivals.report(now + 3) == model.report(heard, now + 3)


def test_a_report_is_forty_bytes_as_the_protocol_has_them():
    arrivals = Arrivals()
    for counter in (0, 1, 3, 70):
        arrivals.arrive(counter, 1000 + counter)
    assert REPORT_BYTES == LAYOUT.size == 40
    gaps = sum(1 << i for i in range(64) if 69 - i != 3)  # the bitmap reaches down to 6
    assert LAYOUT.unpack(arrivals.report(2000)) == (70, 2000, 4, 1070, 67, gaps)


def test_nothing_is_reported_before_anything_arrived():
    with pytest.raises(ValueError, match="nothing"):
        Arrivals().report(0)


def test_what_left_the_window_stays_missing():
    arrivals = Arrivals()
    arrivals.arrive(9000, 1)
    assert arrivals.missing == 9000
    assert not arrivals.arrive(5, 2)
    assert arrivals.arrive(8999, 3)
    assert arrivals.missing == 8999


def test_the_round_trip_is_smoothed_as_rfc_6298_says():
    departures, chance = Departures(), random.Random(6298)
    smooth = deviation = None
    now = 1
    for counter in range(200):
        now = max(now + SECOND, departures.note(counter, now))
        departures.note(counter + 1, now)
        delay, held = chance.randrange(MILLISECOND, SECOND), chance.randrange(SECOND)
        made = (counter + 1) * 2 * SECOND
        payload = report(counter + 1, made, heard=made - held)
        assert departures.learn(payload, counter + 2, now + delay + held) == TAKEN
        if smooth is None:
            smooth, deviation = delay, delay // 2
        else:
            deviation = (3 * deviation + abs(smooth - delay)) // 4
            smooth = (7 * smooth + delay) // 8
        assert (departures.rtt_ns, departures.rtt_deviation_ns) == (smooth, deviation)


@pytest.mark.parametrize("rtt", [100 * MICROSECOND, 3 * MILLISECOND, 200 * MILLISECOND, 4 * SECOND])
@pytest.mark.parametrize("frames_per_rtt", [3, 5000])
def test_the_round_trip_of_a_steady_stream_is_found(rtt, frames_per_rtt):
    """Sent at an even pace, reported every 200 frames or each, heard after one round trip."""
    departures = Departures()
    pace = rtt // frames_per_rtt
    every = 200 if frames_per_rtt > 200 else 1
    note_at, reports = 0, []
    for counter in range(60 * frames_per_rtt if frames_per_rtt < 200 else 12 * frames_per_rtt):
        now = 1 + counter * pace
        if now >= note_at:
            note_at = departures.note(counter, now)
        if counter % every == 0:
            reports.append((now + rtt, counter))
        while reports and reports[0][0] <= now:
            due, highest = reports.pop(0)
            made = due - rtt // 2
            assert departures.learn(report(highest, made), counter + 1, due) == TAKEN
    error = max(rtt / GAPS_PER_RTT, 20 * MICROSECOND, pace) + 1
    assert departures.rtt_ns == pytest.approx(rtt, abs=error)


def test_a_frame_that_was_spoken_of_gives_no_second_round_trip():
    departures = Departures()
    departures.note(0, 1000)
    assert departures.learn(report(0, 50), 1, 2000) == TAKEN
    assert departures.learn(report(0, 60, heard=50), 1, 900_000) == TAKEN
    assert departures.rtt_ns == 1000


def test_moments_that_are_forgotten_give_no_round_trip():
    departures = Departures()
    for counter in range(MOMENTS + 1):
        departures.note(counter, 1 + counter)
    assert departures.learn(report(0, 50), MOMENTS + 1, 10**6) == TAKEN
    assert departures.rtt_ns == 0


FALSE_REPORTS = {
    "of a frame that was not sent": report(100, made=200),
    "more delivered than there are": report(60, made=200, delivered=62),
    "more missing than there are": report(60, made=200, missing=61, delivered=0),
    "gaps that are not missing": report(60, made=200, missing=1, bits=0b11),
    "heard after it was made": report(60, made=200, heard=201),
    "newest frame older than before": report(49, made=200),
    "fewer delivered than before": report(60, made=200, delivered=50),
    "heard earlier than before": report(60, made=200, heard=99),
}


@pytest.mark.parametrize("payload", FALSE_REPORTS.values(), ids=FALSE_REPORTS)
def test_what_cannot_be_true_changes_nothing(payload):
    departures = Departures()
    departures.note(50, 1000)
    assert departures.learn(report(50, made=100), 100, 3000) == TAKEN
    before = (departures.rtt_ns, departures.per_million, departures.total)
    assert departures.learn(payload, 100, 4000) == FALSE
    assert (departures.rtt_ns, departures.per_million, departures.total) == before
    assert departures.learn(report(60, made=200), 100, 5000) == TAKEN


def test_a_report_that_was_overtaken_is_old():
    departures = Departures()
    assert departures.learn(report(50, 100), 100, 3000) == TAKEN
    assert departures.learn(report(40, 90), 100, 3001) == OLD
    assert departures.learn(report(50, 100), 100, 3002) == OLD


@pytest.mark.parametrize("lost_per_thousand", [0, 1, 10, 300, 999])
def test_the_share_of_losses_is_that_of_the_last_second(lost_per_thousand):
    departures = Departures()
    departures.learn(report(0, 1), 1, 1)
    for second in range(1, 5):
        share = lost_per_thousand if second > 2 else 0
        missing = max(0, second - 2) * share
        payload = report(1000 * second, second * SECOND, missing=missing)
        assert departures.learn(payload, 1000 * second + 1, second * SECOND + 1) == TAKEN
    assert departures.per_million == lost_per_thousand * 1000
    assert departures.total == 2 * lost_per_thousand


def test_what_came_late_was_not_lost():
    departures = Departures()
    departures.learn(report(1000, 1, missing=10), 1001, 1)
    assert departures.per_million == 10_000
    departures.learn(report(2000, 2 * SECOND), 2001, 2 * SECOND)
    assert (departures.per_million, departures.total) == (0, 0)


def test_the_next_key_counts_anew_and_the_totals_go_on():
    departures = Departures()
    departures.note(50, 1000)
    departures.learn(report(50, 100, missing=5), 51, 3000)
    departures.renew()
    assert (departures.total, departures.rtt_ns) == (5, 2000)
    assert departures.learn(report(0, 10), 1, 4000) == TAKEN
    assert departures.learn(report(9, 20, missing=2), 10, 5000) == TAKEN
    assert departures.total == 7


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.binary(min_size=40, max_size=40), st.integers(0, 2**63)), max_size=20))
def test_whatever_is_reported_stays_within_bounds(told):
    departures = Departures()
    departures.note(0, 1)
    for payload, now in told:
        assert departures.learn(payload, 2**48, now) in (TAKEN, OLD, FALSE)
        assert 0 <= departures.per_million <= 10**6
        assert departures.rtt_ns <= 60 * SECOND
