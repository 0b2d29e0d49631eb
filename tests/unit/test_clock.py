"""UTC and Mesa time, durations, trading sessions."""

from datetime import UTC, date, datetime, time

import pytest
from pydantic import ValidationError

from abm.clock import Clock, seconds
from abm.exchange.calendar import Hours


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("500ms", 0.5),
        ("1s", 1.0),
        ("5min", 300.0),
        ("2h", 7200.0),
        ("1d", 86400.0),
        ("1.5 h", 5400.0),
        ("1_000s", 1000.0),
        (7, 7.0),
    ],
)
def test_durations(text: str | float, expected: float) -> None:
    assert seconds(text) == expected


@pytest.mark.parametrize("text", ["", "5", "5 minutes", "-1s", "h", "1s2"])
def test_what_is_not_a_duration_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="such as 5min"):
        seconds(text)


def test_a_clock_counts_its_steps_and_knows_the_moment() -> None:
    clock = Clock(start="2026-02-05T00:00Z", end="2026-02-07T00:00Z", step="1s")
    assert clock.steps == 172_800
    assert clock.step_ns == 1_000_000_000
    assert clock.utc(3_600_000_000_000) == datetime(2026, 2, 5, 1, tzinfo=UTC)
    assert clock.seconds_at(datetime(2026, 2, 5, 1, tzinfo=UTC)) == 3600.0
    assert clock.units("1min") == 60.0


def test_a_moment_without_a_zone_is_utc() -> None:
    assert Clock(start="2026-02-05T00:00", end="2026-02-05T01:00").start == datetime(2026, 2, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"end": "2026-02-05T00:00Z"}, "later than start"),
        ({"end": "2026-02-05T00:00:30Z", "step": "1min"}, "whole number of steps"),
        ({"step": 0}, "greater than 0"),
    ],
)
def test_a_clock_that_cannot_run_is_refused(change: dict[str, object], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        Clock(**{"start": "2026-02-05T00:00Z", "end": "2026-02-05T01:00Z", "step": 1} | change)


def test_new_york_hours_in_utc_follow_daylight_saving() -> None:
    session = Hours()
    assert [t.time() for t in session.on(date(2026, 2, 5))] == [time(14, 30), time(21, 0)]
    assert [t.time() for t in session.on(date(2026, 7, 1))] == [time(13, 30), time(20, 0)]


def test_sessions_leave_out_the_weekend_and_what_does_not_overlap() -> None:
    start, end = datetime(2026, 2, 6, 21, 30, tzinfo=UTC), datetime(2026, 2, 10, 0, tzinfo=UTC)
    assert [opens.date() for opens, _ in Hours().between(start, end)] == [date(2026, 2, 9)]


def test_an_unknown_time_zone_is_refused() -> None:
    with pytest.raises(ValidationError, match="is not a time zone"):
        Hours(timezone="America/Gotham")
